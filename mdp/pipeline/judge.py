"""Judge what was collected: raw rows in, candles, rejected rows, gaps and revisions out.

Not here: the rules themselves (``domain.rules``), longer timeframes (``resampling``), the index (``volatility``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import date, timedelta

import polars as pl

from mdp.config.reference import Reference
from mdp.domain.interval import Interval
from mdp.domain.revisions import CHANGE, find_revisions, keep_first_received
from mdp.domain.rules import Asked, Judged, count_failures, split_by_rules, to_candles
from mdp.domain.timeframe import Timeframe
from mdp.errors import SliceMissing
from mdp.pipeline.batches import Batch, DayReport, Write, days_of, report_days, rows_by_day
from mdp.pipeline.failed_days import LeftOut
from mdp.pipeline.gap_evidence import APART, GapEvidence
from mdp.ports import (
    FETCHES,
    GAP_SIGHTINGS,
    GAPS,
    OHLCV,
    RAW_OHLCV,
    REJECTED_OHLCV,
    REVISIONS,
    CandleStore,
    Clock,
    Slice,
    Table,
)


def judge_candles(
    parts: Iterable[Slice],
    store: CandleStore,
    reference: Reference,
    clock: Clock,
    *,
    apart: timedelta = APART,
    run_id: str = "",
) -> Iterator[Batch]:
    """Judge the raw minutes of each slice.

    Args:
        parts: Whole UTC days of spot markets at 1m, all of them collected.
        store: Where the raw rows are, and the candles of an earlier time, to which the new ones are compared.
        reference: Listings and outages, which explain gaps.
        clock: Stamps revisions.
        apart: How far apart in time two sightings of a gap count as two.
        run_id: The run on whose behalf; see :class:`LeftOut`.

    Yields:
        One batch for each slice; present slots and gaps tile each of its days.

    Raises:
        SliceMissing: a day was never asked for.
        NotCollected: after everything else was yielded, the latest attempt at some days had failed.
    """
    left_out = LeftOut(store, run_id)
    for part in left_out.without(parts):
        raw = read_collected(store, RAW_OHLCV, part)
        judged = judge_days(raw, part)
        stored = _each_once(store.read(OHLCV, part))
        rejected, candles = judged.rejected, keep_first_received(stored, to_candles(judged.accepted, Timeframe.M1))
        evidence = GapEvidence(store, part, reference, apart)
        gaps, sightings = evidence.see(candles["open_time"], Timeframe.M1, reference.listed_at(part.market), rejected)
        revisions = find_revisions(stored, candles, revised_at=clock())
        yield Batch(
            part=part,
            writes=(
                Write(REJECTED_OHLCV, part, rejected),
                Write(GAP_SIGHTINGS, part, sightings, appends=True),
                Write(GAPS, part, gaps),
                Write(REVISIONS, part, not_yet_recorded(store, part, part.window, revisions), appends=True),
                Write(OHLCV, part, candles),
            ),
            days=reports_of(part, candles, rejected, gaps, revisions),
        )
    left_out.require_none()


def judge_days(raw: pl.DataFrame, part: Slice) -> Judged:
    """Judge the raw minutes of a slice, each day against its own window.

    A stray row must not be judged by how many days the run happens to hold. Where every row stands under its own day
    and is good, judging all days at once says the same.
    """
    is_at_home = (raw["open_time"].dt.truncate("1d") == raw["window_start"]).all()
    if is_at_home and (whole := split_by_rules(raw, Asked(part.window, Timeframe.M1))).rejected.is_empty():
        return whole
    judged = [
        split_by_rules(raw.filter(pl.col("window_start") == window.start), Asked(window, Timeframe.M1))
        for _, window in days_of(part)
    ]
    return Judged(pl.concat(day.accepted for day in judged), pl.concat(day.rejected for day in judged))


def _each_once(stored: pl.DataFrame) -> pl.DataFrame:
    """What damage made stand there twice is still one candle."""
    return stored if stored["open_time"].n_unique() == len(stored) else stored.unique(maintain_order=True)


def read_collected(store: CandleStore, table: Table, part: Slice) -> pl.DataFrame:
    """Read the raw rows of a slice; a day that nobody ever asked for is an error, a day without rows is not.

    Raises:
        SliceMissing: names the days.
    """
    asked = set(store.read(FETCHES, part, columns=["window_start"])["window_start"].to_list())
    missing = [str(day) for day, window in days_of(part) if window.start not in asked]
    if missing:
        raise SliceMissing(
            f"{part.market}: {table.name} was never collected for {', '.join(missing)} at {part.timeframes[0]}; "
            "materialize it first"
        )
    return store.read(table, part)


def not_yet_recorded(store: CandleStore, part: Slice, window: Interval, revisions: pl.DataFrame) -> pl.DataFrame:
    """Leave out revisions that a run recorded which died before it stored the new candles.

    Such a revision is the latest of its slot. An older equal one is another event: a value may change, change back and
    change again.
    """
    if revisions.is_empty():
        return revisions
    recorded = store.read(REVISIONS, Slice(part.market, part.timeframes, window))
    latest = recorded.sort("revised_at", maintain_order=True).unique(["timeframe", "open_time"], keep="last")
    # each day of an index keeps its own copy of the candle between two, with a receipt of its own
    same = CHANGE if part.market.is_volatility_index else (*CHANGE, "old_ingested_at")
    return revisions.join(latest, on=same, how="anti", nulls_equal=True)


def reports_of(
    part: Slice, rows: pl.DataFrame, rejected: pl.DataFrame, gaps: pl.DataFrame, revisions: pl.DataFrame
) -> dict[date, DayReport]:
    """Report of each day what judging it came to; revisions count on the day of their ``open_time``."""
    gaps_by_day = dict(rows_by_day(gaps.filter(timeframe="1m"), "start", part))
    rejected_by_day = dict(rows_by_day(rejected, "window_start", part))
    revised_by_day = dict(rows_by_day(revisions, "open_time", part))
    return {
        day: replace(
            report,
            gaps=_slots_by_cause(gaps_by_day[day]),
            rejected=count_failures(rejected_by_day[day]),
            revised=len(revised_by_day[day]),
        )
        for day, report in report_days(rows, "open_time", part).items()
    }


def _slots_by_cause(gaps: pl.DataFrame) -> dict[str, int]:
    counted: Counter[str] = Counter()
    for cause, slots in gaps.select("cause", "slots").iter_rows():
        counted[cause] += slots
    return dict(sorted(counted.items()))
