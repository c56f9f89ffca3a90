"""The minutes of a spot market as its feed told them: judged, compared with what is stored, and the longer candles.

The same rules, revisions and resampling as of a backfill. A day that was collected after it ended is left as it is: its
minutes are those of its raw rows. Not here: what was told (``live_told``), writing (``live``), the index
(``live_index``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

import polars as pl

from mdp.config.reference import Reference
from mdp.domain.candles import CANDLE_SCHEMA, SIGHTING_SCHEMA, VALUE_COLUMNS
from mdp.domain.gaps import find_gaps
from mdp.domain.interval import Interval, merge, subtract
from mdp.domain.market import Market
from mdp.domain.resample import resample_all
from mdp.domain.revisions import find_revisions
from mdp.domain.rules import to_candles
from mdp.domain.sightings import Finding, Sighting, new_sightings, sightings_of
from mdp.domain.timeframe import RESAMPLED, Timeframe
from mdp.pipeline.batches import parts_of
from mdp.pipeline.gap_evidence import Asking, sighting_rows
from mdp.pipeline.judge import not_yet_recorded
from mdp.pipeline.live_told import Absence, is_older
from mdp.ports import FETCHES, GAP_SIGHTINGS, OHLCV, REJECTED_OHLCV, CandleStore, Slice

REST = "rest"


@dataclass(frozen=True, slots=True)
class Desk:
    """With what is judged.

    Attributes:
        store: What is stored.
        reference: Listings.
        apart: How far apart two sightings of a gap count as two.
        now: The market's time; stamps revisions, and tells which longer candles are over.
    """

    store: CandleStore
    reference: Reference
    apart: timedelta
    now: datetime


class Made(NamedTuple):
    """What is to be written of one market, and what the rest of it was.

    Attributes:
        rows: Of ``OHLCV``, minutes and longer candles, or of ``DVOL``.
        revisions: Of ``REVISION_SCHEMA``, not recorded yet.
        sightings: Of ``SIGHTING_SCHEMA``, not recorded yet.
        changed: Open times of the minutes among ``rows``.
        stored: Minutes that were not there.
        revised: Stored candles that are replaced by other values.
        unchanged: Told as they are stored.
        superseded: Told as they were before.
        left: Of a day that is collected, and told otherwise.
        buckets: Longer candles among ``rows``.
    """

    rows: pl.DataFrame
    revisions: pl.DataFrame
    sightings: pl.DataFrame
    changed: pl.Series
    stored: int = 0
    revised: int = 0
    unchanged: int = 0
    superseded: int = 0
    left: int = 0
    buckets: int = 0


def make_candles(
    market: Market, accepted: pl.DataFrame, rejected: pl.DataFrame, absences: Sequence[Absence], desk: Desk
) -> list[Made]:
    """Make the minutes and longer candles of a market, month by month.

    Args:
        market: A spot market.
        accepted: Good rows, one a slot, sorted by ``open_time``.
        rejected: The others: the longer candles they would have been part of may be over with them.
        absences: Slots that hold no candle.
        desk: With what.
    """
    spoilt = rejected["open_time"].drop_nulls()
    days = {*accepted["open_time"].dt.date().to_list(), *spoilt.dt.date().to_list()}
    days |= {day.start.date() for one in absences for run in one.runs for day in run.days()}
    return [_make(part, accepted, spoilt, absences, desk) for part in parts_of((market, day) for day in days)]


def _make(part: Slice, accepted: pl.DataFrame, spoilt: pl.Series, absences: Sequence[Absence], desk: Desk) -> Made:
    stored = desk.store.read(OHLCV, part).unique("open_time", keep="last", maintain_order=True)
    new = to_candles(_within(accepted, part.window), Timeframe.M1)
    fate = Fates.of(new, stored, collected_days(part, desk))
    changed = new.filter(fate.is_changed)
    after = pl.concat([stored.join(changed, on="open_time", how="anti"), changed]).sort("open_time")
    missing = [run for absence in absences for run in missing_of(absence, after["open_time"], part.window)]
    touched = _touched([changed["open_time"], spoilt, _before_holes(after, changed)], missing)
    revisions = find_revisions(stored.join(changed, on="open_time", how="semi"), changed, revised_at=desk.now)
    buckets = _unlike_stored(desk.store, part, _buckets(after, touched), is_new=len(changed) > 0)
    return Made(
        rows=pl.concat([changed, buckets]),
        revisions=not_yet_recorded(desk.store, part, part.window, revisions),
        sightings=see_absent(part, absences, after["open_time"], desk),
        changed=changed["open_time"],
        stored=len(changed) - len(revisions),
        revised=len(revisions),
        unchanged=int(fate.is_same.sum()),
        superseded=int(fate.is_superseded.sum()),
        left=int(fate.is_left.sum()),
        buckets=len(buckets),
    )


class Fates(NamedTuple):
    """What becomes of told candles, one flag of each kind a candle; exactly one of them is set."""

    is_same: pl.Series
    is_superseded: pl.Series
    is_left: pl.Series
    is_changed: pl.Series

    @classmethod
    def of(
        cls,
        new: pl.DataFrame,
        stored: pl.DataFrame,
        collected: Sequence[Interval],
        values: Sequence[str] = VALUE_COLUMNS,
    ) -> Fates:
        """Compare what was told with what is stored.

        Args:
            new: Of ``CANDLE_SCHEMA``, one a slot.
            stored: The same, of the same days.
            collected: Days that were collected after they ended.
            values: What is compared.
        """
        names = ("open_time", *values, "source", "ingested_at")
        both = new.select(names).join(
            stored.select(names).with_columns(is_there=True), on="open_time", how="left", maintain_order="left",
            suffix="_stored",
        )  # fmt: skip
        is_there = pl.col("is_there").is_not_null()
        is_same = is_there & pl.all_horizontal(pl.col(name).eq_missing(pl.col(f"{name}_stored")) for name in values)
        is_old = is_older(
            "ingested_at", "source", than_received_at="ingested_at_stored", than_source="source_stored"
        ).fill_null(value=False)
        of_collected = pl.any_horizontal(
            pl.lit(value=False),
            *(pl.col("open_time").is_between(day.start, day.end, closed="left") for day in collected),
        )
        is_superseded = ~is_same & is_there & is_old
        is_left = ~is_same & ~is_superseded & of_collected
        flags = both.select(
            same=is_same, superseded=is_superseded, left=is_left, changed=~(is_same | is_superseded | is_left)
        )
        return cls(*flags.get_columns())


def collected_days(part: Slice, desk: Desk) -> list[Interval]:
    """Return the days of a slice that were collected after they had ended, at its timeframe."""
    if part.window.start + Timeframe.D1.duration > desk.now:
        return []
    columns = ["window_start", "window_end", "fetched_at"]
    fetched = desk.store.read(FETCHES, part, columns=columns).filter(pl.col("fetched_at") >= pl.col("window_end"))
    return merge(Interval(start, end) for start, end in fetched["window_start", "window_end"].iter_rows())


def missing_of(absence: Absence, present: pl.Series, window: Interval) -> list[Interval]:
    """Return what of some absent slots lies in a window and is not stored after all."""
    runs = [run.intersect(window) for run in absence.runs]
    return [gap for run in runs if not run.is_empty for gap in find_gaps(present, Timeframe.M1, run)]


def see_absent(part: Slice, absences: Iterable[Absence], present: pl.Series, desk: Desk) -> pl.DataFrame:
    """Return the sightings of absent slots that are not recorded yet; what came meanwhile is not absent.

    Shape:
        ``SIGHTING_SCHEMA``.
    """
    seen = [(one, missing_of(one, present, part.window)) for one in absences]
    if not any(runs for _, runs in seen):
        return SIGHTING_SCHEMA.to_frame()
    known = sightings_of(desk.store.read(GAP_SIGHTINGS, part))
    listed = desk.reference.listed_at(part.market)
    before = [Interval(min(part.window.start, listed), listed)] if listed else []
    found: list[tuple[Sighting, Asking]] = []
    for one, runs in seen:
        if not runs:
            continue
        asking = Asking(REST, one.requests, (), one.asked_at)
        # a slot that has not ended yet cannot have been seen missing
        asked = Timeframe.M1.floor(one.asked_at)
        over = Interval(min(part.window.start, asked), asked)
        witnessed = [run for gap in runs for run in subtract(gap.intersect(over), before)]
        for run in new_sightings(merge(witnessed), one.asked_at, known, desk.apart):
            sighting = Sighting(run, Finding.ABSENT, REST, one.asked_at)
            known.append(sighting)
            found.append((sighting, asking))
    return sighting_rows(part, found)


def not_yet_rejected(store: CandleStore, market: Market, rejected: pl.DataFrame) -> pl.DataFrame:
    """Leave out rejected rows that are kept already.

    Shape:
        ``REJECTED_SCHEMA`` in and out.
    """
    if rejected.is_empty():
        return rejected
    days = parts_of((market, day) for day in rejected["window_start"].dt.date().unique().to_list())
    kept = pl.concat(store.read(REJECTED_OHLCV, part) for part in days)
    same = [name for name in rejected.columns if name != "failed_rules"]
    return rejected.unique(same, maintain_order=True).join(kept, on=same, how="anti", nulls_equal=True)


def _touched(slots: Sequence[pl.Series], missing: Iterable[Interval]) -> pl.Series:
    """Open times of the minutes with which a longer candle may change, or be over."""
    runs = (pl.datetime_range(run.start, run.end, "1m", closed="left", time_unit="us", eager=True) for run in missing)
    return pl.concat([*slots, *(run.cast(slots[0].dtype) for run in runs)])


def _before_holes(minutes: pl.DataFrame, changed: pl.DataFrame) -> pl.Series:
    """The minutes after which some are missing, up to one that is new: what they were part of may be over by now."""
    follows = pl.col("open_time").shift(-1)
    is_hole = (follows - pl.col("open_time")) > Timeframe.M1.duration
    return minutes.filter(is_hole & follows.is_in(changed["open_time"].implode()))["open_time"]


def _buckets(minutes: pl.DataFrame, touched: pl.Series) -> pl.DataFrame:
    """The longer candles that hold a touched minute and are over: something is known of their last minute or a later.

    Not by the clock: a minute that has ended is on its way for a while, and a candle without it would be a wrong one.
    """
    first, newest, last = touched.dt.truncate(RESAMPLED[0].value).min(), touched.max(), minutes["open_time"].max()
    if not isinstance(last, datetime) or not isinstance(first, datetime) or not isinstance(newest, datetime):
        return CANDLE_SCHEMA.to_frame()
    closed_by = max(last, newest) + Timeframe.M1.duration
    if first + RESAMPLED[0].duration > closed_by:  # four flushes of five: not even the shortest one is over
        return CANDLE_SCHEMA.to_frame()
    made = resample_all(minutes, closed_by=closed_by)
    return pl.concat(
        rows.filter(pl.col("open_time").is_in(touched.dt.truncate(timeframe.value).unique().implode()))
        for timeframe, rows in made.items()
    )


def _unlike_stored(store: CandleStore, part: Slice, buckets: pl.DataFrame, *, is_new: bool) -> pl.DataFrame:
    """Leave out what is stored already; where minutes are new there is nothing to leave out, and nothing is read."""
    if is_new or buckets.is_empty():
        return buckets
    stored = store.read(OHLCV, Slice(part.market, RESAMPLED, part.window))
    return buckets.join(stored, on=buckets.columns, how="anti", nulls_equal=True)


def _within(rows: pl.DataFrame, window: Interval) -> pl.DataFrame:
    return rows.filter(pl.col("open_time").is_between(window.start, window.end, closed="left"))
