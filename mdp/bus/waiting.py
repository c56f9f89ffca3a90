"""Entries that wait for storage: taking them, acknowledging them, telling how many there are.

Not here: handing them on (``live``), their bytes (``entries``), storing them (``pipeline``).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from mdp.bus.connections import Connections
from mdp.bus.entries import ABANDONED_MS, unpack_entry
from mdp.bus.live_keys import GROUP, LiveKeys
from mdp.bus.live_script import ACKNOWLEDGE, TAKE
from mdp.errors import InputError
from mdp.ports.live import Backlog, Taken

BLOCK_S = 1.0
"""A wait is made of waits of this length, so that a server that went silent is noticed."""

AT_ONCE = 1_000
"""Entries that one call acknowledges."""

KEPT_UNREADABLE = 1_000

_log = logging.getLogger(__name__)


class Waiting:
    """The entries of one environment.

    Args:
        connections: Of the process.
        keys: Names of the environment.
    """

    def __init__(self, connections: Connections, keys: LiveKeys) -> None:
        self._connections = connections
        self._keys = keys

    async def take(self, consumer: str, *, at_most: int, wait_s: float) -> Sequence[Taken]:
        """See ``ports.LiveBus.take``.

        Raises:
            InputError: a number that takes nothing, or a wait below 0.
        """
        if at_most < 1:
            raise InputError("at_most", got=at_most, expected="1 or more")
        if not wait_s >= 0:
            raise InputError("wait_s", got=wait_s, expected="0 seconds or more")
        until = time.monotonic() + wait_s
        while True:
            script_words = (GROUP, consumer, at_most, ABANDONED_MS)
            newest, found = await self._connections.run(TAKE, (self._keys.entries,), *script_words)
            taken = [one for id_, body in found if (one := await self._read(id_, body)) is not None]
            left_s = until - time.monotonic()
            if taken or (left_s <= 0 and not found):
                return sorted(taken, key=_place)
            if not found:
                await self._wait(newest, min(left_s, BLOCK_S))

    async def acknowledge(self, taken: Sequence[Taken]) -> None:
        """See ``ports.LiveBus.acknowledge``."""
        ids = [one.id for one in taken]
        for first in range(0, len(ids), AT_ONCE):
            await self._connections.run(ACKNOWLEDGE, (self._keys.entries,), GROUP, *ids[first : first + AT_ONCE])

    async def backlog(self) -> Backlog:
        """See ``ports.LiveBus.backlog``."""
        entries = await self._connections.call("XLEN", self._keys.entries)
        oldest = await self._connections.call("XRANGE", self._keys.entries, "-", "+", "COUNT", 1)
        try:
            told_us = unpack_entry(oldest[0][1][1]).told_us if oldest else None
        except ValueError:  # whoever takes it next puts it aside
            told_us = None
        return Backlog(int(entries), told_us)

    async def _wait(self, after: bytes, seconds: float) -> None:
        """Wait until there is something new; what it is, the next taking tells."""
        milliseconds = max(1, int(seconds * 1_000))
        words = ("XREAD", "COUNT", 1, "BLOCK", milliseconds, "STREAMS", self._keys.entries, after)
        await self._connections.call(*words, wait_s=seconds)

    async def _read(self, id_: bytes, body: bytes) -> Taken | None:
        """Return what was taken; what nobody can read is put aside for a person, and stops nobody."""
        try:
            return Taken(id_.decode(), unpack_entry(body))
        except ValueError as error:
            _log.warning("entry %s cannot be read (%s); it is kept in %s", id_, error, self._keys.unreadable)
        words = ("XADD", self._keys.unreadable, "MAXLEN", "~", KEPT_UNREADABLE, "*", "e", body)
        await self._connections.call(*words)
        await self._connections.run(ACKNOWLEDGE, (self._keys.entries,), GROUP, id_)
        return None


def _place(taken: Taken) -> tuple[int, int]:
    milliseconds, _, number = taken.id.partition("-")
    return int(milliseconds), int(number)
