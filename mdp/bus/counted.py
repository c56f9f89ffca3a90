"""Where the counts of all processes come together: on the bus, so that those of a run outlive its process.

Each process brings what it counted every few seconds and at its end; what it brings is numbered, so that what was sent
twice, because an answer was lost, is counted once. A process that is killed takes the counts of its last seconds with
it. While the bus is away a process goes on counting. Not here: counting (``counts``), showing it (``reading.metrics``).
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from multiprocessing.util import Finalize
from typing import Any, cast

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from mdp.bus.address import bus_address
from mdp.config.settings import Settings
from mdp.counts import COUNTERS, COUNTS, LEVELS, Counts
from mdp.counts.counting import Key, Taken

EVERY_S = 5.0
_PATIENCE_S = 1.0
_REMEMBERED_S = 3_600
_BETWEEN = "|"

_ADD = """
if redis.call('GET', KEYS[3]) == ARGV[1] then return 0 end
redis.call('SET', KEYS[3], ARGV[1], 'EX', ARGV[2])
local counters = tonumber(ARGV[3])
for i = 4, 3 + 2 * counters, 2 do redis.call('HINCRBYFLOAT', KEYS[1], ARGV[i], ARGV[i + 1]) end
for i = 4 + 2 * counters, #ARGV, 2 do redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1]) end
return 1
"""


@dataclass(frozen=True, slots=True)
class Counted:
    """What all processes of an environment counted since the bus was set up; keys are those of ``Counts``."""

    counters: Mapping[Key, float]
    levels: Mapping[Key, float]


def _keys(settings: Settings) -> tuple[str, str]:
    return f"mdp:counts:{{{settings.env}}}", f"mdp:levels:{{{settings.env}}}"


def _client(settings: Settings) -> Redis:
    return Redis.from_url(
        bus_address(settings).url,
        socket_timeout=_PATIENCE_S,
        socket_connect_timeout=_PATIENCE_S,
        retry=Retry(NoBackoff(), 0),
    )


def read_counted(settings: Settings) -> Counted | None:
    """Return what all processes counted; None: the bus does not answer.

    Raises:
        ConfigError: the folder for the bus's socket belongs to somebody else.
    """
    with closing(_client(settings)) as client:
        try:
            counters, levels = (_numbers(cast("Any", client).hgetall(key)) for key in _keys(settings))
        except (RedisError, OSError):
            return None
    known = {key: value for key, value in counters.items() if _is_known(key, COUNTERS)}
    return Counted(known, {key: value for key, value in levels.items() if _is_known(key, LEVELS)})


def _numbers(said: Mapping[bytes, bytes]) -> dict[Key, float]:
    return {tuple(name.decode(errors="replace").split(_BETWEEN)): float(value) for name, value in said.items()}


def _is_known(key: Key, catalogue: Mapping[str, Any]) -> bool:
    """Tell whether this version counts it: one of before or of later may have left others."""
    return key[0] in catalogue and len(key) == 1 + len(catalogue[key[0]].labels)


class Bringer:
    """Brings the counts of a process to the bus.

    Args:
        settings: Whose bus, and the name of whose environment.
        counts: What is brought.
    """

    def __init__(self, settings: Settings, counts: Counts) -> None:
        self._settings, self._counts = settings, counts
        self._name, self._number = secrets.token_hex(8), 0
        self._pending: Taken | None = None
        self._one_at_a_time = threading.Lock()

    def bring(self) -> bool:
        """Bring what was counted; False: the bus does not answer, and it is kept for the next time.

        What was sent and not answered is sent again as it was: the bus knows its number and counts it once.
        """
        with self._one_at_a_time:
            while True:
                if self._pending is None:
                    taken = self._counts.take()
                    if not taken:
                        return True
                    self._pending, self._number = taken, self._number + 1
                try:
                    self._send(self._pending)
                except (RedisError, OSError):
                    return False
                self._pending = None

    def _send(self, taken: Taken) -> None:
        counted, levels = _keys(self._settings)
        words: list[str | int] = [self._number, _REMEMBERED_S, len(taken.counters)]
        for what in (taken.counters, taken.levels):
            for key, value in what.items():
                words += [_BETWEEN.join(key), repr(float(value))]
        with closing(_client(self._settings)) as client:
            cast("Any", client).eval(_ADD, 3, counted, levels, f"{counted}:brought:{self._name}", *words)


class Bringing:
    """A thread that brings counts while a process lives; it begins with the first thing that is counted."""

    def __init__(self, settings: Settings, counts: Counts, every_s: float) -> None:
        self._bringer, self._counts, self._every_s = Bringer(settings, counts), counts, every_s
        self._ends = threading.Event()
        self._began = threading.Lock()
        counts.on_change = self._begin
        # not atexit: children of multiprocessing that were forked leave without it
        self._finalize = Finalize(None, self._end, exitpriority=1)

    def _begin(self) -> None:
        if self._began.acquire(blocking=False):
            self._counts.on_change = None
            threading.Thread(target=self._run, name="counts", daemon=True).start()

    def _run(self) -> None:
        while not self._ends.wait(self._every_s):
            self._bringer.bring()

    def _end(self) -> None:
        self._ends.set()
        if self._began.locked():
            until = time.monotonic() + 2 * _PATIENCE_S
            while not self._bringer.bring() and time.monotonic() < until:
                time.sleep(0.2)

    def stop(self) -> None:
        """Bring what is left, and count for nobody from now on."""
        self._counts.on_change = None
        self._finalize()


def bring_counts(settings: Settings, *, counts: Counts = COUNTS, every_s: float = EVERY_S) -> Bringing:
    """Have all that this process counts brought to the bus; nothing is begun or connected to before it counts.

    For the entry points of processes alone.

    Args:
        settings: Whose bus.
        counts: What is brought.
        every_s: How often.
    """
    return Bringing(settings, counts, every_s)
