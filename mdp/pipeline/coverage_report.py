"""The whole of what is stored of a market, day by day: what is there, what is missing and why, what was changed.

It agrees with ``coverage``, which looks at few days; this one looks at all of them, four years at a time. Not here:
pictures of it (``heat_map``, ``coverage_page``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mdp.domain.candles import TIME
from mdp.domain.gaps import Cause
from mdp.domain.interval import DAY, Interval, merge
from mdp.domain.market import Market
from mdp.domain.revisions import each_change_once
from mdp.domain.timeframe import Timeframe
from mdp.pipeline.coverage import failed_days
from mdp.pipeline.failed_days import FailedDays
from mdp.ports import DVOL, GAPS, OHLCV, REJECTED_OHLCV, REVISIONS, CandleStore, Slice

CAUSES: tuple[str, ...] = tuple(cause.value for cause in Cause)

DAY_SCHEMA = pl.Schema(
    {
        "market": pl.String(),
        "day": pl.Date(),
        **dict.fromkeys(("expected", "present", "idle", *CAUSES, "permanent", "rejected", "revised"), pl.Int64()),
    }
)
"""One row per market and UTC day, in minutes; ``expected`` is ``present`` and the missing ones, each under its cause.

``idle`` are present minutes without volume, null for an index, which has none; ``permanent`` are missing ones
without an explanation that were seen missing often enough to stay so. ``rejected`` and ``revised`` count rows; a
revision counts on the day its candle opens.
"""

STRETCH_SCHEMA = pl.Schema(
    {
        "market": pl.String(),
        "start": TIME,
        "end": TIME,
        "slots": pl.Int64(),
        "cause": pl.String(),
        "sightings": pl.Int64(),
        "is_permanent": pl.Boolean(),
        "first_seen_at": TIME,
        "seen_at": TIME,
        "source": pl.String(),
        "detail": pl.String(),
    }
)
"""A stretch of missing minutes with one cause, joined over midnights; ``unfetched`` where nobody got an answer.

``sightings`` are those of its least often seen part, ``first_seen_at`` and ``seen_at`` the first and last of any part.
"""

_MINUTE_US = Timeframe.M1.microseconds
_DAY_MINUTES = Timeframe.D1.minutes
_PRESENT = len(CAUSES)
_UNFETCHED = CAUSES.index(Cause.UNFETCHED.value)
_ALIKE = ("cause", "is_permanent", "source", "detail")

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class MarketReport:
    """What is known of one market.

    Attributes:
        market: Which.
        days: Of ``DAY_SCHEMA``, ascending, every day from the first to the last.
        gaps: Of ``STRETCH_SCHEMA``, ascending.
        failed: Days whose latest attempt failed.
    """

    market: Market
    days: pl.DataFrame
    gaps: pl.DataFrame
    failed: tuple[FailedDays, ...]

    def total(self, *columns: str) -> int:
        """Add columns of all days up."""
        return sum(int(self.days[name].sum()) for name in columns)

    @property
    def missing(self) -> dict[str, int]:
        """Missing minutes by cause; of those of ``unknown``, the ones that no more is asked for are ``permanent``."""
        by_cause = {cause: self.total(cause) for cause in CAUSES}
        permanent = self.total("permanent")
        unknown = Cause.UNKNOWN.value
        return {**by_cause, unknown: by_cause[unknown] - permanent, "permanent": permanent}

    @property
    def share(self) -> float | None:
        """Present ÷ expected; None when nothing is known."""
        return self.total("present") / self.total("expected") if len(self.days) else None


def report_market(store: CandleStore, market: Market, within: Interval, *, is_whole: bool = False) -> MarketReport:
    """Count every day of a market.

    Args:
        store: Where candles, gaps, rejected rows and revisions are.
        market: A spot market or a volatility index.
        within: Bounds; days that they cut count whole.
        is_whole: Every day of it; otherwise those from the first to the last of which anything is known: a candle, a
            gap, or an attempt that failed.
    """
    days = Interval(Timeframe.D1.floor(within.start), Timeframe.D1.floor(within.end + DAY - datetime.resolution))
    part = Slice(market, (Timeframe.M1,), days)
    failed = failed_days(store, market, days)
    gaps = store.read(GAPS, part)
    counted, unfetched = [DAY_SCHEMA.to_frame()], []
    for years in _four_years(days):
        states = _states(store, market, years, gaps)
        counted.append(states.by_day(market))
        unfetched += states.runs(_UNFETCHED)
    rows = _with_changes(pl.concat(counted), store, market, days)
    known = days if is_whole else _known(rows, failed)
    if known is None:
        return MarketReport(market, DAY_SCHEMA.to_frame(), STRETCH_SCHEMA.to_frame(), ())
    asked = pl.col("day").is_between(known.start.date(), known.end.date(), closed="left")
    stretches = pl.concat([_stretches(market, gaps), _unfetched(market, unfetched, known)]).sort("start")
    return MarketReport(market, rows.filter(asked), stretches, tuple(failed))


@dataclass(frozen=True, slots=True)
class _States:
    """What each minute of some days is: present, or the cause for which it is missing."""

    window: Interval
    states: Bytes
    is_permanent: NDArray[np.bool_]
    is_idle: NDArray[np.bool_] | None

    def by_day(self, market: Market) -> pl.DataFrame:
        numbers = np.arange(len(self.states)) // _DAY_MINUTES
        days, kinds = len(self.states) // _DAY_MINUTES, _PRESENT + 1
        counts = np.bincount(numbers * kinds + self.states, minlength=days * kinds).reshape(days, kinds)
        first = self.window.start.date()
        columns = {
            "day": pl.date_range(first, first + timedelta(days=days - 1), eager=True),
            "expected": np.full(days, _DAY_MINUTES),
            "present": counts[:, _PRESENT],
            "idle": None if self.is_idle is None else self.is_idle.reshape(days, -1).sum(axis=1),
            **{cause: counts[:, number] for number, cause in enumerate(CAUSES)},
            "permanent": self.is_permanent.reshape(days, -1).sum(axis=1),
        }
        rows = pl.DataFrame(columns).with_columns(pl.lit(str(market)).alias("market"), rejected=0, revised=0)
        return rows.select(pl.col(name).cast(dtype) for name, dtype in DAY_SCHEMA.items())

    def runs(self, state: int) -> list[Interval]:
        """The maximal runs of minutes that are in a state."""
        edges = np.flatnonzero(np.diff(self.states == state, prepend=False, append=False)).reshape(-1, 2)
        minute = Timeframe.M1.duration
        return [Interval(self.window.start + int(a) * minute, self.window.start + int(b) * minute) for a, b in edges]


def _states(store: CandleStore, market: Market, window: Interval, gaps: pl.DataFrame) -> _States:
    """Look at each minute of a window of whole days. A gap that is recorded where a candle is counts for nothing."""
    is_index = market.is_volatility_index
    columns = ["open_time"] if is_index else ["open_time", "volume"]
    rows = store.read(DVOL if is_index else OHLCV, Slice(market, (Timeframe.M1,), window), columns=columns)
    minutes = window.slots(Timeframe.M1)
    states, is_permanent = np.full(minutes, _UNFETCHED, dtype=np.uint8), np.zeros(minutes, dtype=np.bool_)
    touching = gaps.filter((pl.col("start") < window.end) & (pl.col("end") > window.start))
    for start, end, cause, permanent in touching.select("start", "end", "cause", "is_permanent").iter_rows():
        of_gap = slice(max(0, _minute(start, window)), max(0, _minute(end, window)))
        states[of_gap], is_permanent[of_gap] = CAUSES.index(cause), permanent and not Cause(cause).is_explained
    offset = rows["open_time"].to_physical().to_numpy() - _minute_us(window.start)
    is_slot = offset % _MINUTE_US == 0
    slots = offset[is_slot] // _MINUTE_US
    states[slots], is_permanent[slots] = _PRESENT, False
    if is_index:
        return _States(window, states, is_permanent, None)
    is_idle = np.zeros(minutes, dtype=np.bool_)
    is_idle[slots] = (rows["volume"] == 0).fill_null(value=False).to_numpy()[is_slot]
    return _States(window, states, is_permanent, is_idle)


def _minute(moment: datetime, window: Interval) -> int:
    return (moment - window.start) // Timeframe.M1.duration


def _minute_us(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // datetime.resolution


def _with_changes(rows: pl.DataFrame, store: CandleStore, market: Market, days: Interval) -> pl.DataFrame:
    """Count the rejected rows and the revisions of each day; those of hours of an index too."""
    asked_at = (Timeframe.M1, Timeframe.H1) if market.is_volatility_index else (Timeframe.M1,)
    part = Slice(market, asked_at, days)
    changes = {
        "rejected": store.read(REJECTED_OHLCV, part, columns=["window_start"])["window_start"],
        "revised": each_change_once(store.read(REVISIONS, part))["open_time"],
    }
    for name, times in changes.items():
        counts = times.dt.date().alias("day").value_counts(name="found").cast({"found": pl.Int64})
        joined = rows.drop(name).join(counts, on="day", how="left", maintain_order="left")
        rows = joined.with_columns(pl.col("found").fill_null(0).alias(name)).select(DAY_SCHEMA.names())
    return rows


def _known(rows: pl.DataFrame, failed: Iterable[FailedDays]) -> Interval | None:
    """The days from the first to the last of which anything is known."""
    days = rows.filter(pl.col(CAUSES[_UNFETCHED]) < pl.col("expected"))["day"].to_list()
    days += [day.start.date() for one in failed for day in one.window.days()]
    return Interval.of_days(min(days), max(days)) if days else None


def _stretches(market: Market, gaps: pl.DataFrame) -> pl.DataFrame:
    """Join recorded gaps that touch and are alike."""
    same = pl.all_horizontal(pl.col(name).eq_missing(pl.col(name).shift()) for name in _ALIKE)
    begins = ~(same & (pl.col("start") == pl.col("end").shift())).fill_null(value=False)
    joined = (
        gaps.sort("start")
        .group_by(begins.cum_sum().alias("stretch"), maintain_order=True)
        .agg(
            pl.col("start").first(),
            pl.col("end").last(),
            pl.col("slots").sum(),
            pl.col("sightings").min(),
            pl.col("first_seen_at").min(),
            pl.col("seen_at").max(),
            *(pl.col(name).first() for name in _ALIKE),
        )
        .with_columns(pl.lit(str(market)).alias("market"))
    )
    return joined.select(pl.col(name).cast(dtype) for name, dtype in STRETCH_SCHEMA.items())


def _unfetched(market: Market, runs: Iterable[Interval], known: Interval) -> pl.DataFrame:
    """What nobody asked for, or did not get, as stretches; runs that touch are one."""
    stretches = merge(run.intersect(known) for run in runs)
    rows = [
        {"market": str(market), "start": one.start, "end": one.end, "slots": one.slots(Timeframe.M1),
         "cause": Cause.UNFETCHED.value}
        for one in stretches
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=STRETCH_SCHEMA)


def _four_years(window: Interval) -> Iterator[Interval]:
    """What is looked at at once: 2.1 million minutes, 40 MB; each look at a store costs some milliseconds."""
    start = window.start
    while start < window.end:
        end = min(datetime(start.year // 4 * 4 + 4, 1, 1, tzinfo=UTC), window.end)
        yield Interval(start, end)
        start = end
