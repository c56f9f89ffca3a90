"""What feeds told of some markets: entries in any order, some of them more than once, as rows and absent slots.

Not here: what becomes of them (``live_candles``, ``live_index``), handing them on (``bus``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import polars as pl

from mdp.domain.candles import RAW_SCHEMA, TIME, VALUE_COLUMNS
from mdp.domain.interval import Interval, merge
from mdp.domain.live import CandleState, Entry, LiveCandle
from mdp.domain.market import Market
from mdp.domain.rules import KEY_IS_UNIQUE, Asked, Judged, split_by_rules
from mdp.domain.timeframe import EPOCH, Timeframe

STREAM = "stream"
"""The source of a candle that nobody but the exchange's stream has given yet."""

_MICROSECOND = timedelta(microseconds=1)
_MINUTE_US = Timeframe.M1.microseconds
_HOUR_US = Timeframe.H1.microseconds
_EARLIEST_US = (datetime(2009, 1, 1, tzinfo=UTC) - EPOCH) // _MICROSECOND
_DAY_US = Timeframe.D1.microseconds
"""Nothing was traded before 2009, and no minute of more than a day ahead of the clock can have been answered."""


@dataclass(frozen=True, slots=True)
class Absence:
    """Slots for which an exchange was asked and gave nothing; what was asked within one hour is one asking.

    Attributes:
        runs: The slots; ascending, disjoint.
        requests: That were answered for this.
        asked_at: The last time.
    """

    runs: tuple[Interval, ...]
    requests: int
    asked_at: datetime


@dataclass(slots=True)
class Told:
    """What was told of one market.

    Attributes:
        market: Which.
        entries: How many there were.
        candles: Each once.
        absent: Entries about absent slots.
        refused: Candles and slots whose time cannot be: they are no candle of any slot, and kept nowhere.
    """

    market: Market
    entries: int = 0
    candles: set[LiveCandle] = field(default_factory=set)
    absent: list[Entry] = field(default_factory=list)
    refused: int = 0

    def raw(self) -> pl.DataFrame:
        """Return the candles as rows, each under its own day.

        Shape:
            ``RAW_SCHEMA`` at 1m, sorted by ``open_time``, then the order of :func:`last_said`.
        """
        who = (self.market.exchange.value, self.market.symbol_key, Timeframe.M1.value)
        rows = [
            (*who, one.open_us - one.open_us % _DAY_US, *one[:8],
             one.state is not CandleState.FORMING, one.source, one.received_us)
            for one in self.candles
        ]  # fmt: skip
        times = dict.fromkeys(("window_start", "open_time", "fetched_at"), pl.Int64())
        numbers = pl.DataFrame(rows, schema=pl.Schema({**RAW_SCHEMA, **times}), orient="row")
        return numbers.with_columns(pl.col(name).cast(TIME) for name in times).sort(*_ORDER)

    def absences(self) -> list[Absence]:
        """Return the slots that were asked for and not given; ascending by when."""
        by_hour: dict[int, list[Entry]] = {}
        for entry in self.absent:
            by_hour.setdefault(entry.told_us // _HOUR_US, []).append(entry)
        return [
            Absence(
                tuple(merge(_minute(slot) for one in entries for slot in one.absent_us)),
                sum(one.requests for one in entries),
                moment_of(max(one.told_us for one in entries)),
            )
            for _, entries in sorted(by_hour.items())
        ]


def sort_by_market(entries: Iterable[Entry], now: datetime) -> list[Told]:
    """Return what was told of each market, ascending by market.

    Args:
        entries: Any order, repetitions allowed.
        now: Tells which slots cannot have been answered yet.
    """
    told: dict[Market, Told] = {}
    latest_us = (now - EPOCH) // _MICROSECOND + _DAY_US
    seen: set[Entry] = set()
    for entry in entries:
        one = told.setdefault(entry.market, Told(entry.market))
        one.entries += 1
        if entry.candle is not None:
            if _EARLIEST_US <= entry.candle.open_us <= latest_us:
                one.candles.add(entry.candle)
            else:
                one.refused += 1
        is_possible = _EARLIEST_US <= entry.told_us <= latest_us and all(
            _EARLIEST_US <= slot <= latest_us and not slot % _MINUTE_US for slot in entry.absent_us
        )
        one.refused += 0 if is_possible else len(entry.absent_us)
        if entry.absent_us and is_possible and entry not in seen:
            seen.add(entry)
            one.absent.append(entry)
    return [told[market] for market in sorted(told)]


def judge_told(raw: pl.DataFrame) -> Judged:
    """Judge rows as those of a backfill are judged; a minute that is told again is told better, and breaks no rule.

    Returns:
        ``accepted``: the last good row of each slot; see :func:`last_said`. ``rejected``: the rows that are not good.
    """
    window = Interval(raw["window_start"].min(), raw["window_start"].max() + Timeframe.D1.duration)  # type: ignore[arg-type,operator]  # of rows
    accepted, rejected = split_by_rules(raw, Asked(window, Timeframe.M1))
    is_repeated = (pl.col("failed_rules").list.len() == 1) & (pl.col("failed_rules").list.first() == KEY_IS_UNIQUE)
    repeated = rejected.filter(is_repeated)
    if len(repeated):
        accepted = last_said(pl.concat([accepted, repeated.select(RAW_SCHEMA.names())]))
    return Judged(accepted, rejected.filter(~is_repeated))


def last_said(good: pl.DataFrame) -> pl.DataFrame:
    """Return the values that count of each slot, in the row that first gave them.

    REST knows better than a stream, whenever it said so; of two of one kind the one that was received later.

    Shape:
        Good rows of ``RAW_SCHEMA`` in and out, any order and several a slot in; sorted by ``open_time``, unique out.
    """
    in_order = good.sort(*_ORDER)
    is_news = pl.any_horizontal(
        pl.col(name).ne_missing(pl.col(name).shift()) for name in ("open_time", *VALUE_COLUMNS)
    ) | (pl.int_range(pl.len()) == 0)
    return in_order.filter(is_news).unique("open_time", keep="last", maintain_order=True)


def is_older(received_at: str, source: str, *, than_received_at: str, than_source: str) -> pl.Expr:
    """Tell whether an answer was superseded by another one that said something else, by the order of last_said."""
    ours, theirs = pl.col(source) != STREAM, pl.col(than_source) != STREAM
    return (theirs & ~ours) | ((ours == theirs) & (pl.col(received_at) <= pl.col(than_received_at)))


def moment_of(microseconds: int) -> datetime:
    """Return whole microseconds since the epoch as a UTC time."""
    return EPOCH + timedelta(microseconds=microseconds)


def _minute(slot_us: int) -> Interval:
    start = moment_of(slot_us)
    return Interval(start, start + Timeframe.M1.duration)


_ORDER: Sequence[pl.Expr] = (
    pl.col("open_time"),
    pl.col("source") != STREAM,
    pl.col("fetched_at"),
    *map(pl.col, VALUE_COLUMNS),
)
