"""The script of what goes wrong: which faults there are, and which of them apply to a request or a candle now.

Safe to be changed by one thread while another one serves. Not here: the kinds (``faults``), what they do
(``alterations``, ``spoiled_pages``, ``wire``).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from random import Random

from mdp.domain.market import Exchange, Market
from mdp.errors import InputError
from mdp.simulator.clock import to_ms
from mdp.simulator.fault_kinds import Fault
from mdp.simulator.fault_reading import read_fault, require_sound
from mdp.simulator.faults import ArchiveFault, Change, Channel, Revision, Scripted, WireFault
from mdp.simulator.quotas import Seconds


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, as far as faults look at it.

    Attributes:
        exchange: Who is asked.
        channel: For an answer of its API, or for a bulk file.
        path: Below the exchange's prefix.
        symbol: What it is about, ``BTC-USDT``; None: about none.
        now_ms: Simulated time.
    """

    exchange: Exchange
    channel: Channel
    path: str
    symbol: str | None
    now_ms: int


@dataclass(slots=True)
class Entry:
    """A fault in the script.

    Attributes:
        number: Its name in the script.
        fault: It.
        scripted_s: When it was scripted, by the real clock.
        seen: Requests that fitted it.
        applied: Answers it spoiled.
    """

    number: int
    fault: Fault
    scripted_s: float
    seen: int = 0
    applied: int = 0
    chance: Random = field(default_factory=Random)

    def describe(self) -> dict[str, object]:
        """Return it as ``/control/faults`` shows it."""
        return {"id": self.number, "fault": self.fault, "seen": self.seen, "applied": self.applied}


class FaultScript:
    """All faults of one simulated world."""

    def __init__(self, real_clock: Seconds = time.monotonic) -> None:
        self._clock = real_clock
        self._lock = threading.Lock()
        self._entries: tuple[Entry, ...] = ()
        self._numbers = 0
        self._content_changes = 0

    def add(self, fault: Fault | None = None, /, **fields: object) -> int:
        """Script a fault; it applies from now on.

        Args:
            fault: The fault; or else its fields, such as ``kind="status", exchange="binance", status=503``.
            fields: Of the fault, where it is not given; see ``faults``.

        Returns:
            Its number, for ``remove``.

        Raises:
            InputError: names the field that is wrong.
        """
        wanted = require_sound(fault) if fault is not None else read_fault(fields)
        with self._lock:
            self._numbers += 1
            entry = Entry(self._numbers, wanted, self._clock())
            entry.chance.seed(getattr(wanted, "seed", 0))
            self._entries = (*self._entries, entry)
            self._content_changes += not isinstance(wanted, WireFault)
        return entry.number

    def add_all(self, listed: Sequence[object]) -> list[int]:
        """Script several faults, all or none, from their fields.

        Raises:
            InputError: names the field that is wrong; nothing was scripted.
        """
        where = [f"faults[{index}]." if len(listed) > 1 else "" for index in range(len(listed))]
        faults = [read_fault(fields, prefix) for fields, prefix in zip(listed, where, strict=True)]
        return [self.add(fault) for fault in faults]

    def remove(self, number: int) -> None:
        """Take a fault out of the script.

        Raises:
            InputError: there is none of that number.
        """
        with self._lock:
            kept = tuple(entry for entry in self._entries if entry.number != number)
            if len(kept) == len(self._entries):
                numbers = ", ".join(str(entry.number) for entry in kept) or "none is scripted"
                raise InputError("id", got=number, expected=f"the number of a scripted fault ({numbers})")
            self._replace(kept)

    def clear(self) -> None:
        """Take every fault out of the script."""
        with self._lock:
            self._replace(())

    def _replace(self, kept: tuple[Entry, ...]) -> None:
        gone = set(map(id, self._entries)) - set(map(id, kept))
        changed = any(id(entry) in gone and not isinstance(entry.fault, WireFault) for entry in self._entries)
        self._content_changes += changed
        self._entries = kept

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The faults in the order they were scripted."""
        return self._entries

    @property
    def has_changes(self) -> bool:
        """Tell whether anything that was traded is scripted to be told differently, now or at some time."""
        return any(isinstance(entry.fault, (Change, Revision)) for entry in self._entries)

    @property
    def has_revisions(self) -> bool:
        """Tell whether some candles change with their age."""
        return any(isinstance(entry.fault, Revision) for entry in self._entries)

    def choose(self, asked: Asked, kinds: tuple[type[WireFault], ...]) -> Entry | None:
        """Return the first fault of these kinds that spoils this request, and count it."""
        return next(iter(self._chosen(asked, kinds)), None)

    def choose_all(
        self, asked: Asked, kinds: tuple[type[WireFault], ...], fits: Callable[[WireFault], bool] | None = None
    ) -> tuple[Entry, ...]:
        """Return every fault of these kinds that spoils this request, and count them; only those that ``fits``."""
        return tuple(self._chosen(asked, kinds, fits))

    def give_back(self, entry: Entry) -> None:
        """Take back a choice: the exchange had a refusal of its own for that request."""
        with self._lock:
            entry.applied -= 1

    def _chosen(
        self, asked: Asked, kinds: tuple[type[WireFault], ...], fits: Callable[[WireFault], bool] | None = None
    ) -> Iterable[Entry]:
        for entry in self._entries:
            fault = entry.fault
            if isinstance(fault, kinds) and (fits is None or fits(fault)) and self._strikes(entry, asked):
                yield entry

    def _strikes(self, entry: Entry, asked: Asked) -> bool:
        fault = entry.fault
        assert isinstance(fault, WireFault)
        since_s = self._clock() - entry.scripted_s
        if not (fault.after_s <= since_s and (fault.until_s is None or since_s < fault.until_s)):
            return False
        is_meant = _concerns(fault, asked.exchange, asked.symbol, asked.channel) and _is_on(fault, asked.now_ms)
        if not is_meant or not fnmatchcase(asked.path, fault.path):
            return False
        with self._lock:
            entry.seen += 1
            is_spent = fault.times is not None and entry.applied >= fault.times
            if is_spent or entry.seen % fault.every or entry.chance.random() >= fault.probability:
                return False
            entry.applied += 1
        return True

    def changes(self, market: Market, channel: Channel, now_ms: int) -> tuple[Entry, ...]:
        """Return the changes of what was traded in a market that show at a simulated time, in order."""
        return self._content(market, channel, now_ms, (Change, Revision))

    def archive_faults(self, market: Market, now_ms: int) -> tuple[Entry, ...]:
        """Return what is wrong inside the bulk files of a market at a simulated time, in order."""
        return self._content(market, "archive", now_ms, (ArchiveFault,))

    def _content(
        self, market: Market, channel: Channel, now_ms: int, kinds: tuple[type[Scripted], ...]
    ) -> tuple[Entry, ...]:
        return tuple(
            entry
            for entry in self._entries
            if isinstance(entry.fault, kinds)
            and _concerns(entry.fault, market.exchange, market.symbol_key, channel)
            and _is_on(entry.fault, now_ms)
        )

    def content_version(self, now_ms: int) -> int:
        """Return a number that differs whenever something other than single answers may have changed."""
        begun = sum(
            bound is not None and to_ms(bound) <= now_ms
            for entry in self._entries
            if not isinstance(entry.fault, WireFault)
            for bound in (entry.fault.from_time, entry.fault.until_time)
        )
        return self._content_changes << 16 | begun


def _concerns(fault: Scripted, exchange: Exchange, symbol: str | None, channel: Channel) -> bool:
    return fault.exchange is exchange and fault.symbol in (None, symbol) and fault.channel in (None, channel)


def _is_on(fault: Scripted, now_ms: int) -> bool:
    since, until = fault.from_time, fault.until_time
    return (since is None or to_ms(since) <= now_ms) and (until is None or now_ms < to_ms(until))
