"""What is wrong with what is stored of a market, day by day, and what that takes.

Not here: making it whole (``treatment``), what Dagster's checks look at beside it (``integrity``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from enum import StrEnum

import polars as pl

from mdp.config.reference import Reference
from mdp.domain.dvol import LENGTHS
from mdp.domain.gaps import Cause, find_gaps, tile
from mdp.domain.interval import Interval
from mdp.domain.market import Market
from mdp.domain.timeframe import Timeframe
from mdp.pipeline.batches import days_of, parts_of, rows_by_day
from mdp.pipeline.checking.verdicts import Verdict
from mdp.pipeline.coverage import failed_days
from mdp.pipeline.gap_evidence import APART, GapEvidence
from mdp.pipeline.integrity import inspect_dvol, inspect_raw_candles, inspect_raw_dvol, inspect_resampled
from mdp.pipeline.judge import judge_days
from mdp.pipeline.raw_comparison import compare_with_raw
from mdp.ports import FETCHES, GAPS, OHLCV, RAW_OHLCV, CandleStore, Slice


class Reason(StrEnum):
    """What is wrong."""

    UNFETCHED = "never asked for"
    FAILED = "could not be collected"
    GAP = "gap that may be filled"
    RAW_CHANGED = "raw rows are not those received"
    NOT_OF_RAW = "minutes are not those of the raw rows"
    REJECTED_NOT_OF_RAW = "rejected rows are not those of the raw rows"
    REPEATED = "minutes stored more than once"
    LOST = "minutes neither stored nor in a gap"
    NEEDLESS_GAP = "gap where minutes are stored"
    GAP_CHANGED = "gaps are not what is known of them"
    NOT_OF_MINUTES = "longer candles are not those of the minutes"
    INDEX = "minutes are not those of the index"

    @property
    def needs_asking(self) -> bool:
        """Tell whether only the exchange can help; all else follows from the raw rows that are stored."""
        return self in (Reason.UNFETCHED, Reason.FAILED, Reason.GAP, Reason.RAW_CHANGED)


@dataclass(frozen=True, slots=True)
class Ailment:
    """Something that is wrong with a stretch of a market.

    Attributes:
        market: Whose.
        interval: Whole UTC days; of a gap the gap itself.
        reason: What.
        count: Minutes or rows that it is about; of an index made of hours, hours.
        detail: What is known of it: the cause of a gap, the error of a day that failed.
        ask_from: Before this moment asking again tells nothing new; None: it does at once.
        is_explained: Whether the exchange is known to have no candle there, so that nothing has to be done.
    """

    market: Market
    interval: Interval
    reason: Reason
    count: int
    detail: str = ""
    ask_from: datetime | None = None
    is_explained: bool = False

    def is_due(self, now: datetime) -> bool:
        """Tell whether something can be done about it now."""
        return self.ask_from is None or self.ask_from <= now

    @property
    def days(self) -> list[date]:
        """The UTC days it touches."""
        return [part.start.date() for part in self.interval.days()]


@dataclass(frozen=True, slots=True)
class Yardstick:
    """What is stored is measured by.

    Attributes:
        reference: Listings and outages, which explain gaps.
        apart: How far apart two sightings of a gap count as two.
        ask_again: How long after a day was asked for nothing is gained by asking for its gaps again.
        index_length: Length of the candles from which an index is made.
        rejected_since: Rejected rows received before may have been dropped for their age; None: none was.
    """

    reference: Reference
    apart: timedelta = APART
    ask_again: timedelta = timedelta(hours=1)
    index_length: Timeframe = Timeframe.H1
    rejected_since: datetime | None = None


def diagnose(store: CandleStore, market: Market, window: Interval, by: Yardstick) -> list[Ailment]:
    """Find everything that is wrong with what is stored of a market.

    Values are compared with the raw rows, and these with the digest of what was received: a price that was changed in
    the store is found even where it breaks no rule.

    Args:
        store: Where.
        market: A spot market or a volatility index.
        window: Whole UTC days, all of which should be stored.
        by: What it is measured by.

    Returns:
        Ascending by time for each reason; a day may suffer from several.
    """
    found = [
        Ailment(market, one.window, Reason.FAILED, one.window.slots(Timeframe.M1), one.message)
        for one in failed_days(store, market, window)
    ]
    counts: dict[Reason, dict[date, int]] = {}
    for part in parts_of(((market, day.start.date()) for day in window.days()), length_asked(market, by.index_length)):
        # what is stored of an index was not wrong because its resolution was changed since
        lengths = LENGTHS if market.is_volatility_index else part.timeframes
        asked = days_asked(store, Slice(market, lengths, part.window))
        unfetched = {day: Timeframe.D1.minutes for day, _ in days_of(part) if day not in asked}
        _add(counts, Reason.UNFETCHED, unfetched)
        for one in parts_of(((market, day) for day in asked), part.timeframes[0]):
            for reason, days in _examine(store, one, by):
                _add(counts, reason, days)
        found += _gaps(store, part, by.ask_again)
    found += [one for reason in Reason for one in _stretches(market, reason, counts.get(reason, {}))]
    order = list(Reason)
    return sorted(found, key=lambda one: (order.index(one.reason), one.interval))


def length_asked(market: Market, index_length: Timeframe) -> Timeframe:
    """Return the length of the candles that a market is asked for."""
    return index_length if market.is_volatility_index else Timeframe.M1


def days_asked(store: CandleStore, part: Slice) -> list[date]:
    """Return the days of a slice that were ever asked for and got, at its timeframes; ascending."""
    return sorted(last_asked(store, part))


def last_asked(store: CandleStore, part: Slice) -> dict[date, datetime]:
    """Return of each day of a slice that was asked for and got when it was last, at its timeframes."""
    asked = store.read(FETCHES, part, columns=["window_start", "fetched_at"])
    latest = asked.group_by("window_start").agg(pl.col("fetched_at").max())
    return {start.date(): at for start, at in latest.select("window_start", "fetched_at").iter_rows()}


def _examine(store: CandleStore, part: Slice, by: Yardstick) -> Iterator[tuple[Reason, Mapping[date, int]]]:
    """Compare each layer of days that were asked for with the one it is made of."""
    by_minute = Slice(part.market, (Timeframe.M1,), part.window)
    if part.market.is_volatility_index:
        yield Reason.RAW_CHANGED, _broken(inspect_raw_dvol(store, part), "rows_are_those_received")
        yield Reason.INDEX, _broken(inspect_dvol(store, part))
        return
    yield Reason.RAW_CHANGED, _broken(inspect_raw_candles(store, part), "rows_are_those_received")
    minutes = store.read(OHLCV, by_minute)
    unlike = compare_with_raw(store, part, minutes, rejected_since=by.rejected_since)
    yield Reason.NOT_OF_RAW, _per_day(unlike.minutes.unique("open_time"))
    yield Reason.REJECTED_NOT_OF_RAW, _per_day(unlike.rejected, "window_start")
    yield Reason.REPEATED, _per_day(minutes.filter(~pl.col("open_time").is_first_distinct()))
    lost, needless = _untiled(store, part, minutes)
    yield Reason.LOST, lost
    yield Reason.NEEDLESS_GAP, needless
    changed = _unlike_evidence(store, part, minutes, by)
    yield Reason.GAP_CHANGED, {day: slots for day, slots in changed.items() if not lost.get(day)}
    yield Reason.NOT_OF_MINUTES, _broken(inspect_resampled(store, part))


def _untiled(store: CandleStore, part: Slice, minutes: pl.DataFrame) -> tuple[dict[date, int], dict[date, int]]:
    """Minutes that are neither stored nor in a gap, and minutes that are both."""
    stored = dict(rows_by_day(minutes.select("open_time"), "open_time", part))
    recorded = dict(rows_by_day(store.read(GAPS, part), "start", part))
    lost, needless = {}, {}
    for day, window in days_of(part):
        gaps = [Interval(start, end) for start, end in recorded[day].select("start", "end").iter_rows()]
        missing = find_gaps(stored[day]["open_time"], Timeframe.M1, window)
        if missing or gaps:
            lost[day], needless[day] = tile(missing, gaps, Timeframe.M1)
    return lost, needless


def _unlike_evidence(store: CandleStore, part: Slice, minutes: pl.DataFrame, by: Yardstick) -> dict[date, int]:
    """Missing minutes whose gap is not what sightings and facts make of it; whoever keeps rows twice has it so too."""
    recorded = store.read(GAPS, part).sort("start")
    if recorded.is_empty():
        return {}
    rejected = judge_days(store.read(RAW_OHLCV, part), part).rejected
    evidence = GapEvidence(store, part, by.reference, by.apart)
    seen = evidence.see(minutes["open_time"], Timeframe.M1, by.reference.listed_at(part.market), rejected)
    made = dict(rows_by_day(seen.gaps, "start", part))
    return {
        day: max(1, int(made[day].join(mine, on=mine.columns, how="anti", nulls_equal=True)["slots"].sum()))
        for day, mine in rows_by_day(recorded, "start", part)
        if not mine.equals(made[day])
    }


def _gaps(store: CandleStore, part: Slice, ask_again: timedelta) -> Iterator[Ailment]:
    """Gaps that asking again may fill, or whose being final a second sighting would witness."""
    lengths = (*part.timeframes,) if part.market.is_volatility_index else (Timeframe.M1,)
    asked_for = [Cause.UNKNOWN.value, Cause.EXCHANGE_OUTAGE.value]
    gaps = store.read(GAPS, Slice(part.market, lengths, part.window))
    asked = last_asked(store, Slice(part.market, LENGTHS if part.market.is_volatility_index else lengths, part.window))
    is_open = pl.col("cause").is_in(asked_for) & ~pl.col("is_permanent").fill_null(value=False)
    for row in gaps.filter(is_open).sort("start").iter_rows(named=True):
        detail = row["cause"] + (f": {row['detail']}" if row["detail"] else "")
        yield Ailment(
            part.market, Interval(row["start"], row["end"]), Reason.GAP, row["slots"], detail,
            last + ask_again if (last := asked.get(row["start"].date())) else None, Cause(row["cause"]).is_explained,
        )  # fmt: skip


def _broken(verdicts: Mapping[date, Verdict], *names: str) -> dict[date, int]:
    return {
        day: sum(count for name, count in verdict.broken.items() if not names or name in names)
        for day, verdict in verdicts.items()
    }


def _per_day(rows: pl.DataFrame, time_column: str = "open_time") -> dict[date, int]:
    return dict(rows.group_by(pl.col(time_column).dt.date().alias("day")).agg(pl.len()).sort("day").iter_rows())


def _add(counts: dict[Reason, dict[date, int]], reason: Reason, days: Mapping[date, int]) -> None:
    counts.setdefault(reason, {}).update({day: count for day, count in days.items() if count})


def _stretches(market: Market, reason: Reason, days: Mapping[date, int]) -> Iterable[Ailment]:
    """Join consecutive days that suffer from the same into one ailment each."""
    joined: list[Ailment] = []
    for day, count in sorted(days.items()):
        one, last = Interval.of_day(day), joined[-1] if joined else None
        if last and last.interval.end == one.start:
            joined[-1] = replace(last, interval=Interval(last.interval.start, one.end), count=last.count + count)
        else:
            joined.append(Ailment(market, one, reason, count))
    return joined
