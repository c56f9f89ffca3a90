"""Does one day of minutes look like a market? What no market makes, although every row obeys every rule.

Every rule has a name that says what is odd, and a bound with the largest value seen on undisturbed days beside it: 21
recorded days of Binance BTC/USDT from 2017 to 2025, quiet and wild ones among them. A doubt is for a person to look
at: a crash may be real. Not here: what is true of every row (``rules``), comparing exchanges (``agreement``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from mdp.domain.timeframe import EPOCH, Timeframe

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

_MINUTE_US = Timeframe.M1.microseconds

MIN_TRADED = 60
"""Fewer traded minutes tell nothing about volumes: 2018-02-08 has 29."""

MOST_COMMON_VOLUME = 0.10
"""Share of the traded minutes that may have one and the same volume. Seen: 0.0023."""

DISTINCT_VOLUMES = 0.50
"""Share of the traded minutes that have different volumes, at least. Seen: 0.998."""

STANDING_MINUTES = 60
"""Traded minutes in a row that may stand at one price. Seen: 3. Where the price step is coarse, more: see the rule."""

IDLE_MINUTES = 180
"""Minutes in a row without a trade. Seen: 72, an outage that the exchange filled with empty candles."""

LINE_MINUTES = 10
"""Minutes in a row whose closes may be the same step apart. Seen: 3."""

JUMP = 0.02
"""How far a minute may open from where the one before it closed. Seen: 0.0105 in 2017, 0.00013 since 2024."""

SPIKE = 0.05
"""How far a minute may reach beyond both its neighbours. Seen: 0.0129."""

USUAL_MOVES = 30
"""A jump or spike is also allowed to be so many times the day's usual move of a minute."""

QUOTE_SLACK = 0.01
"""How far the average price of a minute, quote volume ÷ volume, may lie outside its low and high. Seen: 2e-16."""

CLOCKS_APART = timedelta(seconds=5)
"""A candle received so long before its close had not closed, whatever the difference of the clocks."""


class Odd(NamedTuple):
    """One odd minute or stretch: its first row, how many minutes, what is there, what was expected."""

    row: int
    minutes: int
    found: str
    expected: str


@dataclass(frozen=True)
class Minutes:
    """Minutes of one market as arrays of one length, ascending; an unknown amount is NaN.

    Attributes:
        times: Open times, microseconds since the epoch.
        ingested: When each was received, likewise.
        lead: How many rows at the beginning are not looked at, only compared with: the minute before the day.
    """

    times: Ints
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    quote_volume: Floats
    ingested: Ints
    lead: int = 0

    @classmethod
    def of(cls, candles: pl.DataFrame) -> Minutes:
        """Take 1m candles of ``CANDLE_SCHEMA``, ascending."""
        times, ingested = (candles[name].to_physical().to_numpy() for name in ("open_time", "ingested_at"))
        open_, high, low, close, volume, quote_volume = (
            candles[name].to_numpy() for name in ("open", "high", "low", "close", "volume", "quote_volume")
        )
        return cls(times, open_, high, low, close, volume, quote_volume, ingested)

    def of_day(self, start: datetime, end: datetime) -> Minutes:
        """Return the minutes of ``[start, end)``, and the one before them to compare with."""
        first, last = np.searchsorted(self.times, [(moment - EPOCH) // timedelta(microseconds=1) for moment in (
            start, end
        )]).tolist()  # fmt: skip
        lead = min(1, first)
        rows = slice(first - lead, last)
        return Minutes(
            self.times[rows], self.open[rows], self.high[rows], self.low[rows], self.close[rows], self.volume[rows],
            self.quote_volume[rows], self.ingested[rows], lead,
        )  # fmt: skip

    def time(self, row: int) -> datetime:
        """Return when a row opens."""
        return EPOCH + timedelta(microseconds=int(self.times[row]))

    @cached_property
    def follows(self) -> Flags:
        """Whether each row opens one minute after the row before it."""
        return np.asarray(np.diff(self.times, prepend=self.times[:1]) == _MINUTE_US)

    @cached_property
    def volumes(self) -> tuple[Floats, Ints]:
        """The different volumes of traded minutes, and how often each occurs."""
        own = self.volume[self.lead :]
        return np.unique(own[own > 0], return_counts=True)

    @cached_property
    def usual_move(self) -> float:
        """The median move of a minute, as a share of the price; 0 where there is none."""
        moves = np.abs(np.diff(np.log(self.close)))[self.follows[1:]]
        return float(np.median(moves)) if len(moves) else 0.0


@dataclass(frozen=True, slots=True)
class Doubt:
    """What is odd about a day, how many minutes of it, and where."""

    what: str
    minutes: int
    odd: tuple[Odd, ...]


def find_doubts(minutes: Minutes) -> list[Doubt]:
    """Apply every rule to the minutes of one day.

    Args:
        minutes: Of one market and day; may have gaps, may be empty. Values that break a rule of ``rules`` are allowed
            and may hide what is odd about them.

    Returns:
        One doubt for each rule that found something, in the order of the rules.
    """
    if len(minutes.times) <= minutes.lead:
        return []
    with np.errstate(all="ignore"):
        found = {name: tuple(rule(minutes)) for name, rule in PLAUSIBILITY.items()}
    return [Doubt(name, sum(one.minutes for one in odd), odd) for name, odd in found.items() if odd]


def find_unfinished(minutes: Minutes) -> tuple[Odd, ...]:
    """Find candles that were received while they were forming: what is stored as final cannot be.

    One received before it even *opened* is no evidence of that: then a clock is wrong (``received_before_it_opened``).
    """
    closes = minutes.times + _MINUTE_US - CLOCKS_APART // timedelta(microseconds=1)
    is_forming = (minutes.ingested >= minutes.times) & (minutes.ingested < closes)
    return tuple(
        Odd(row, 1, f"received {_received(minutes, row)}", "received after it closed")
        for row in _own(minutes, is_forming)
    )


def _has_one_volume(minutes: Minutes) -> Iterator[Odd]:
    values, counts = minutes.volumes
    traded = int(counts.sum())
    if traded < MIN_TRADED or counts.max() <= MOST_COMMON_VOLUME * traded:
        return
    usual = values[counts.argmax()]
    rows = _own(minutes, minutes.volume == usual)
    expected = (
        f"one volume in at most {MOST_COMMON_VOLUME:.0%} of the traded minutes, not in {counts.max() / traded:.0%}"
    )
    yield from (Odd(row, 1, f"volume {usual}", expected) for row in rows)


def _has_few_volumes(minutes: Minutes) -> Iterator[Odd]:
    values, counts = minutes.volumes
    traded = int(counts.sum())
    if traded < MIN_TRADED or len(values) >= DISTINCT_VOLUMES * traded:
        return
    most = ", ".join(f"{value:g}" for value in values[np.argsort(-counts)[:3]])
    found = f"{len(values)} different volumes in {traded} traded minutes, most often {most}"
    yield Odd(minutes.lead, traded - len(values), found, f"at least {DISTINCT_VOLUMES:.0%} different")


def _stands_still(minutes: Minutes) -> Iterator[Odd]:
    is_flat = (minutes.high == minutes.low) & (minutes.volume > 0)
    is_same = is_flat & np.r_[False, is_flat[:-1] & (minutes.close[1:] == minutes.close[:-1])] & minutes.follows
    # Where a step of the price is more than it moves in a minute, standing is usual: four times the longest run that
    # chance makes of so many minutes, for quiet hours are not spread evenly. No more than 19 of 20 are taken for
    # usual, or a day that stands all day would pass.
    usual = min(float(is_same.mean()), 0.95)
    by_chance = 4 * np.log(len(is_same)) / -np.log(usual) if usual else 0
    bound = max(STANDING_MINUTES, int(by_chance))
    for start, length in _runs(is_same, lead=1):
        if length > bound:
            yield Odd(start, length, f"{length} traded minutes at {minutes.close[start]}", f"at most {bound} in a row")


def _is_idle(minutes: Minutes) -> Iterator[Odd]:
    is_idle = minutes.volume == 0
    for start, length in _runs(is_idle & np.r_[False, is_idle[:-1]] & minutes.follows, lead=1):
        if length > IDLE_MINUTES:
            yield Odd(start, length, f"{length} minutes without a trade", f"at most {IDLE_MINUTES} in a row")


def _runs_in_a_line(minutes: Minutes) -> Iterator[Odd]:
    steps = np.diff(minutes.close, prepend=minutes.close[:1])
    is_same = np.abs(np.diff(steps, prepend=0.0)) <= 1e-9 * minutes.close
    follows = minutes.follows & np.r_[False, minutes.follows[:-1]]
    is_line = is_same & (np.abs(steps) > 1e-9 * minutes.close) & follows
    for start, length in _runs(is_line, lead=1):
        if length > LINE_MINUTES:
            yield Odd(start, length, f"{length} steps of {steps[start + 1]:g}", f"at most {LINE_MINUTES} in a row")


def _jumps(minutes: Minutes) -> Iterator[Odd]:
    bound = max(JUMP, USUAL_MOVES * minutes.usual_move)
    jumps = np.abs(np.log(minutes.open[1:] / minutes.close[:-1]))
    for row in _own(minutes, np.r_[False, (jumps > bound)] & minutes.follows):
        found = f"opens at {minutes.open[row]} after a close of {minutes.close[row - 1]}"
        yield Odd(row, 1, found, f"at most {bound:.1%} apart")


def _spikes(minutes: Minutes) -> Iterator[Odd]:
    bound = max(SPIKE, USUAL_MOVES * minutes.usual_move)
    before, after = minutes.close[:-2], minutes.open[2:]
    up = np.log(minutes.high[1:-1] / np.maximum(before, after))
    down = np.log(np.minimum(before, after) / minutes.low[1:-1])
    has_neighbours = minutes.follows[1:-1] & minutes.follows[2:]
    for row in _own(minutes, np.r_[False, (np.maximum(up, down) > bound) & has_neighbours, False]):
        found = f"low {minutes.low[row]}, high {minutes.high[row]} between {before[row - 1]} and {after[row - 1]}"
        yield Odd(row, 1, found, f"at most {bound:.1%} beyond both neighbours")


def _has_odd_quotes(minutes: Minutes) -> Iterator[Odd]:
    price = minutes.quote_volume / minutes.volume
    is_odd = (price < minutes.low * (1 - QUOTE_SLACK)) | (price > minutes.high * (1 + QUOTE_SLACK))
    for row in _own(minutes, is_odd & (minutes.volume > 0)):
        found = f"quote volume {minutes.quote_volume[row]:g} ÷ volume {minutes.volume[row]:g} = {price[row]:g}"
        yield Odd(row, 1, found, f"a price from {minutes.low[row]} to {minutes.high[row]}")


def _came_before(minutes: Minutes) -> Iterator[Odd]:
    for row in _own(minutes, minutes.ingested < minutes.times):
        yield Odd(row, 1, f"received {_received(minutes, row)}", "received after it opened: is a clock wrong?")


PLAUSIBILITY: Mapping[str, Callable[[Minutes], Iterator[Odd]]] = {
    "volume_is_mostly_one_value": _has_one_volume,
    "volume_has_few_values": _has_few_volumes,
    "price_stands_still_while_traded": _stands_still,
    "nothing_trades_for_hours": _is_idle,
    "closes_lie_on_a_line": _runs_in_a_line,
    "price_jumps_between_minutes": _jumps,
    "price_leaves_both_neighbours": _spikes,
    "quote_volume_does_not_fit_the_prices": _has_odd_quotes,
    "received_before_it_opened": _came_before,
}
"""Each rule by the name of what it finds."""


def _own(minutes: Minutes, flags: Flags) -> list[int]:
    """The rows of the day itself that are flagged."""
    rows: list[int] = np.flatnonzero(flags).tolist()
    return [row for row in rows if row >= minutes.lead]


def _runs(flags: Flags, *, lead: int) -> Iterator[tuple[int, int]]:
    """First row and length of each run of flags, which begins ``lead`` rows before its first flag."""
    edges = np.flatnonzero(np.diff(np.r_[False, flags, False].astype(np.int8))).tolist()
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        yield start - lead, end - start + lead


def _received(minutes: Minutes, row: int) -> str:
    received = EPOCH + timedelta(microseconds=int(minutes.ingested[row]))
    return received.isoformat().replace("+00:00", "Z")
