"""Scripted changes of what was traded, applied to candles: outages, minutes without trades, corrections.

They are applied to minutes; longer candles are made anew from the altered minutes, so that all timeframes agree. Not
here: the script (``script``), the truth that is altered (``history``), what spoils a single answer (``spoiled_pages``).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from mdp.domain.timeframe import Timeframe
from mdp.simulator.candles import DAY_MS, MINUTE_MS, Candles, Ints, join, to_timeframe
from mdp.simulator.clock import ClockMs, to_ms
from mdp.simulator.faults import (
    ArchiveDuplicateRows,
    ArchiveFault,
    ArchiveHeader,
    ArchiveMissingRows,
    ArchiveOffGrid,
    Change,
    Channel,
    Revision,
)
from mdp.simulator.history import DayOfCandles, History
from mdp.simulator.markets import SimulatedIndex, SimulatedMarket
from mdp.simulator.minute_changes import change_minutes, window_of
from mdp.simulator.script import Entry, FaultScript

_KEPT_DAYS = 256

_Minutes = Callable[[int, int], Candles]
"""Returns the true minutes that open from a time to another, both included."""


class Alterations:
    """What the script changes in the candles of all markets."""

    def __init__(self, script: FaultScript, history: History, clock: ClockMs) -> None:
        self._script = script
        self._history = history
        self._clock = clock
        self._kept: OrderedDict[tuple[object, ...], DayOfCandles] = OrderedDict()

    @property
    def version(self) -> int:
        """A number that is another one whenever a scripted change of candles came, went, began or ended."""
        return self._script.content_version(self._clock())

    def apply(
        self, candles: Candles, market: SimulatedMarket, timeframe: Timeframe, *, channel: Channel, now_ms: int
    ) -> Candles:
        """Return candles as an exchange tells them through one channel.

        Args:
            candles: True candles, as of ``now_ms``.
            market: Whose they are.
            timeframe: Their length.
            channel: ``rest``, ``archive`` or ``stream``; faults inside bulk files are applied for ``archive`` only, and
                may leave rows that repeat or lie off the grid.
            now_ms: Simulated time.
        """
        changes = self._script.changes(market.market, channel, now_ms)
        if changes and len(candles):
            minutes = partial(self._minutes_as_of, market, now_ms=now_ms)
            candles = self._change(candles, market, timeframe, changes, minutes, now_ms)
        if channel == "archive":
            for entry in self._script.archive_faults(market.market, now_ms):
                candles = _spoil_file(candles, entry.fault) if isinstance(entry.fault, ArchiveFault) else candles
        return candles

    def has_archive_header(self, market: SimulatedMarket, first_ms: int, end_ms: int, now_ms: int) -> bool:
        """Tell whether the bulk file of a window begins with a line of column names."""
        return any(
            isinstance(entry.fault, ArchiveHeader) and _meets(entry.fault, first_ms, end_ms)
            for entry in self._script.archive_faults(market.market, now_ms)
        )

    def apply_to_index(
        self, candles: Ints, index: SimulatedIndex, length_ms: int, now_ms: int, *, channel: Channel = "rest"
    ) -> Ints:
        """Return candles of a volatility index, ``(5, n)``, without those that lie inside a scripted outage.

        Other changes say nothing about an index: it has no volume, and its values are bound to the recorded ones.
        """
        for entry in self._script.changes(index.market, channel, now_ms):
            if isinstance(entry.fault, Change) and entry.fault.__struct_config__.tag == "outage":
                start_ms, end_ms = window_of(entry.fault)
                is_inside = (candles[0] >= start_ms) & (candles[0] + length_ms <= end_ms)
                candles = candles[:, ~is_inside]
        return candles

    def view(self, now_ms: int) -> History | AlteredHistory:
        """Return the history as REST answers show it at a simulated time."""
        return AlteredHistory(self._history, self, now_ms) if self._script.has_changes else self._history

    def alter_day(
        self, whole: DayOfCandles, market: SimulatedMarket, timeframe: Timeframe, day: int, now_ms: int
    ) -> DayOfCandles:
        """Return one day, as it is once it is over, as REST answers tell it at a simulated time."""
        changes = tuple(
            entry
            for entry in self._script.changes(market.market, "rest", now_ms)
            if _touches(entry, day * DAY_MS, (day + 1) * DAY_MS, now_ms)
        )
        if not changes:
            return whole
        key = (market, timeframe, day, *(entry.number for entry in changes))
        # what changes with its age is made anew each time
        depends_on_age = any(isinstance(entry.fault, Revision) for entry in changes)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        minutes = partial(self._minutes_once_over, market)
        altered = DayOfCandles(
            self._change(whole.candles, market, timeframe, changes, minutes, now_ms), whole.is_recorded
        )
        if not depends_on_age:
            self._kept[key] = altered
            while len(self._kept) > _KEPT_DAYS:
                self._kept.popitem(last=False)
        return altered

    def _change(
        self,
        candles: Candles,
        market: SimulatedMarket,
        timeframe: Timeframe,
        changes: Sequence[Entry],
        minutes: _Minutes,
        now_ms: int,
    ) -> Candles:
        if timeframe is Timeframe.M1:
            return change_minutes(candles, market, changes, minutes, now_ms)
        length = timeframe.milliseconds
        for start_ms, end_ms in _touched(candles, changes, length, now_ms):
            changed = change_minutes(minutes(start_ms, end_ms - 1), market, changes, minutes, now_ms)
            made = to_timeframe(changed, market.market, timeframe)
            # only what was asked for: a page is not widened by what lies beside it
            kept = Candles(made.values[:, np.isin(made.open_ms, candles.open_ms)])
            before = candles.opened_between(0, start_ms - 1)
            after = candles.slice(int(candles.open_ms.searchsorted(end_ms)), len(candles))
            candles = join([part for part in (before, kept, after) if len(part)])
        return candles

    def _minutes_as_of(self, market: SimulatedMarket, first_ms: int, last_ms: int, *, now_ms: int) -> Candles:
        return self._history.candles(market, Timeframe.M1, first_ms, last_ms, now_ms)

    def _minutes_once_over(self, market: SimulatedMarket, first_ms: int, last_ms: int) -> Candles:
        days = self._history.days(market, Timeframe.M1, max(first_ms, 0) // DAY_MS, last_ms // DAY_MS)
        return join([day.candles for day in days]).opened_between(first_ms, last_ms)


class AlteredHistory:
    """The history as REST answers show it at one simulated time; what pages are cut from."""

    def __init__(self, history: History, alterations: Alterations, now_ms: int) -> None:
        self._history = history
        self._alterations = alterations
        self._now_ms = now_ms

    def is_recorded(self, market: SimulatedMarket, day: int) -> bool:
        """Tell whether a day (since the epoch) of a market was recorded, altered or not."""
        return self._history.is_recorded(market, day)

    def days(self, market: SimulatedMarket, timeframe: Timeframe, first: int, last: int) -> list[DayOfCandles]:
        """Return days ``first`` to ``last``, both included, as they are once they are over."""
        whole = self._history.days(market, timeframe, first, last)
        return [
            self._alterations.alter_day(kept, market, timeframe, day, self._now_ms)
            for day, kept in enumerate(whole, start=first)
        ]

    def open_candle(self, market: SimulatedMarket, timeframe: Timeframe, now_ms: int) -> Candles:
        """Return the candle that is open at ``now_ms``; none when nothing has happened in it, or before listing."""
        true = self._history.open_candle(market, timeframe, now_ms)
        return self._alterations.apply(true, market, timeframe, channel="rest", now_ms=now_ms)


def _window(entry: Entry, now_ms: int) -> tuple[int, int]:
    fault = entry.fault
    if isinstance(fault, Revision):
        return now_ms - round(fault.settle_s * 1_000) - MINUTE_MS, now_ms
    assert isinstance(fault, Change)
    return window_of(fault)


def _touches(entry: Entry, first_ms: int, end_ms: int, now_ms: int) -> bool:
    start_ms, until_ms = _window(entry, now_ms)
    return start_ms < end_ms and first_ms < until_ms


def _touched(candles: Candles, changes: Sequence[Entry], length: int, now_ms: int) -> list[tuple[int, int]]:
    """Ranges of whole longer candles that the changes touch, ascending and disjoint, inside what there is."""
    if not len(candles):
        return []
    is_touched: npt.NDArray[np.bool_] = np.zeros(len(candles), dtype=np.bool_)
    starts = candles.open_ms // length * length
    for entry in changes:
        start_ms, end_ms = _window(entry, now_ms)
        is_touched |= (starts + length > start_ms) & (starts < end_ms)
    edges = np.flatnonzero(np.diff(np.r_[False, is_touched, False].astype(np.int8)))
    return [
        (int(starts[first]), int(starts[end - 1]) + length)
        for first, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
    ]


def _meets(fault: ArchiveFault, first_ms: int, end_ms: int) -> bool:
    since = None if fault.start is None else to_ms(fault.start)
    until = None if fault.end is None else to_ms(fault.end)
    return (since is None or since < end_ms) and (until is None or first_ms < until)


def _spoil_file(candles: Candles, fault: ArchiveFault) -> Candles:
    """Repeat, shift or drop the first rows of the window of a file."""
    first_ms = int(candles.open_ms[0]) if len(candles) else 0
    end_ms = int(candles.open_ms[-1]) + 1 if len(candles) else 0
    if not len(candles) or not _meets(fault, first_ms, end_ms):
        return candles
    start = 0 if fault.start is None else int(candles.open_ms.searchsorted(to_ms(fault.start)))
    if isinstance(fault, ArchiveDuplicateRows):
        head = candles.slice(0, start + fault.rows)
        return join([head, candles.slice(start, len(candles))])
    if isinstance(fault, ArchiveMissingRows):
        return join([candles.slice(0, start), candles.slice(start + fault.rows, len(candles))])
    if isinstance(fault, ArchiveOffGrid):
        values = candles.values.copy()
        values[0, start : start + fault.rows] += fault.by_ms
        return Candles(values)
    return candles
