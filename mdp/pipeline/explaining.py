"""Find out everything that is known of one candle, there or missing.

Not here: what is found out, as values (``explanation``), showing it (``cli``).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

import polars as pl

from mdp.config.reference import Reference
from mdp.domain.amounts import slack
from mdp.domain.candles import RAW_SCHEMA, VALUE_COLUMNS
from mdp.domain.dvol import LENGTHS
from mdp.domain.interval import DAY, Interval
from mdp.domain.market import Market
from mdp.domain.resample import resample_all
from mdp.domain.revisions import each_change_once
from mdp.domain.rules import Asked, split_by_rules
from mdp.domain.timeframe import RESAMPLED, Timeframe
from mdp.errors import InputError, OutdatedStore, SnapshotMissing, StoreCorrupt
from mdp.pipeline.explanation import Bucket, Evidence, Explanation, Held, Missing, Row, State
from mdp.pipeline.snapshots import read_snapshot
from mdp.ports import (
    ARCHIVE_FILES,
    DVOL,
    FAILED_FETCHES,
    FETCHES,
    GAP_SIGHTINGS,
    GAPS,
    OHLCV,
    RAW_DVOL,
    RAW_OHLCV,
    REJECTED_OHLCV,
    REVISIONS,
    CandleStore,
    Slice,
    Table,
)

_log = logging.getLogger(__name__)

_AROUND = timedelta(days=7)
_FILE_DAYS = timedelta(days=31)
"""A bulk file stands under the first day that was asked for; the longest holds a month."""

_MOST_AGE = timedelta(hours=3)
"""How long before a minute without a value the candle of an index may have opened that it would have carried."""


def explain_candle(
    store: CandleStore,
    market: Market,
    timeframe: Timeframe,
    moment: datetime,
    *,
    markets: Sequence[str],
    reference: Reference,
    now: datetime,
) -> Explanation:
    """Tell everything that is known of the candle that holds a moment.

    Args:
        store: Where it would be.
        market: Whose.
        timeframe: Of the candle; ``1m`` for an index.
        moment: Any instant of the candle.
        markets: All that are collected, to compare with.
        reference: Listings and outages.
        now: Tells what is over.

    Raises:
        InputError: another timeframe of an index, or a time at which no candle can be.
    """
    slot = _slot(market, timeframe, moment)
    day = Interval.of_day(slot.start.date())
    table, asked_at = (DVOL, LENGTHS) if market.is_volatility_index else (OHLCV, (Timeframe.M1,))
    part = Slice(market, (timeframe,), slot)
    row, has_minutes = _one(store.read(table, part)), _has_minutes(store, market, timeframe, slot)
    gaps = store.read(GAPS, Slice(market, asked_at, Interval(day.start - _AROUND, day.end + _AROUND)))
    asked, listed_at = Slice(market, asked_at, Interval(day.start - DAY, day.end + DAY)), reference.listed_at(market)
    evidence = _evidence(store, asked, slot, row)
    missing = Missing(_touching(gaps, slot), _touching(store.read(GAP_SIGHTINGS, asked), slot))
    return Explanation(
        market=market,
        timeframe=timeframe,
        asked=moment,
        slot=slot,
        state=State.STORED if row else _absence(missing, evidence, slot, now, listed_at, has_minutes=has_minutes),
        row=row,
        gaps=missing.gaps,
        gap_before=_one(gaps.filter(pl.col("end") <= slot.start, timeframe=Timeframe.M1.value).tail(1)),
        gap_after=_one(gaps.filter(pl.col("start") >= slot.end, timeframe=Timeframe.M1.value).head(1)),
        sightings=missing.sightings,
        evidence=evidence,
        answer=(answer := _answer(evidence.accepted, market, timeframe, row)),
        equals_answer=_is_as_answered(row, answer),
        buckets=() if market.is_volatility_index else tuple(_buckets(store, market, timeframe, slot, now)),
        snapshots=tuple(_snapshots(store, table, part, row)),
        others=_others(store, market, part, markets),
        outage=next((one for one in reference.outages_of(market) if not one.interval.intersect(slot).is_empty), None),
        listed_at=listed_at,
    )


def _evidence(store: CandleStore, around: Slice, slot: Interval, row: Row | None) -> Evidence:
    """What was asked and answered; rows of the slot are looked for under the days beside it too."""
    market, asked_at, is_index = around.market, around.timeframes, around.market.is_volatility_index
    day = Slice(market, asked_at, Interval.of_day(slot.start.date()))
    answered = _carried(slot, row) if is_index else slot
    raw = _opening_in(store.read(RAW_DVOL if is_index else RAW_OHLCV, around), answered)
    rejected = _opening_in(store.read(REJECTED_OHLCV, around), answered)
    revisions = each_change_once(store.read(REVISIONS, Slice(market, asked_at, answered)))
    if is_index:
        raw, rejected, revisions = (_closed_by(rows, slot.start) for rows in (raw, rejected, revisions))
    return Evidence(
        fetches=store.read(FETCHES, day).sort("fetched_at", maintain_order=True),
        failed=store.read(FAILED_FETCHES, day).sort("failed_at", maintain_order=True),
        files=_files(store, day),
        raw=raw,
        accepted=_accepted(raw, slot, is_index=is_index),
        rejected=rejected,
        revisions=revisions,
    )


def _slot(market: Market, timeframe: Timeframe, moment: datetime) -> Interval:
    if market.is_volatility_index and timeframe is not Timeframe.M1:
        raise InputError("timeframe", got=timeframe.value, expected=f"1m, the only timeframe of the index {market}")
    try:
        start = timeframe.floor(moment)
        Interval(start - _FILE_DAYS, start + _FILE_DAYS)
        return Interval(start, start + timeframe.duration)
    except OverflowError:
        raise InputError("time", got=moment.isoformat(), expected="a time at which there are candles") from None


def _one(rows: pl.DataFrame) -> Row | None:
    return rows.row(0, named=True) if len(rows) else None


def _touching(rows: pl.DataFrame, slot: Interval) -> pl.DataFrame:
    """The stretches that share an instant with the slot; those of hours of an index stand beside those of minutes."""
    return rows.filter((pl.col("start") < slot.end) & (pl.col("end") > slot.start))


def _opening_in(rows: pl.DataFrame, window: Interval) -> pl.DataFrame:
    return rows.filter(pl.col("open_time").is_between(window.start, window.end, closed="left"))


def _files(store: CandleStore, day: Slice) -> pl.DataFrame:
    before = Interval(day.window.start - _FILE_DAYS, day.window.end)
    rows = store.read(ARCHIVE_FILES, Slice(day.market, day.timeframes, before))
    return rows.filter(pl.col("window_end") > day.window.start).sort("fetched_at", maintain_order=True)


def _carried(slot: Interval, row: Row | None) -> Interval:
    """Open times of the candles of an index that a minute carries, or might carry if it were there."""
    return Interval(row["hour_open_time"] if row else slot.start - _MOST_AGE, slot.start)


def _closed_by(rows: pl.DataFrame, moment: datetime) -> pl.DataFrame:
    """Candles of an index that were closed at a moment: no minute carries another one."""
    is_closed = [
        (pl.col("timeframe") == length.value) & (pl.col("open_time") <= moment - length.duration) for length in LENGTHS
    ]
    return rows.filter(pl.any_horizontal(is_closed))


def _accepted(raw: pl.DataFrame, slot: Interval, *, is_index: bool) -> pl.DataFrame:
    """Judge raw rows by the day and the length they were asked for; what once was judged may be lost itself.

    A day of an index has a copy of its own of the candles before it that it needs, and its minutes carry that one.
    """
    accepted = [RAW_SCHEMA.to_frame()]
    own_day = Interval.of_day(slot.start.date()).start
    for (start, length), rows in raw.group_by("window_start", "timeframe", maintain_order=True):
        if not isinstance(start, datetime) or (is_index and start != own_day):
            continue
        asked = Interval(start - _MOST_AGE if is_index else start, start + DAY)
        accepted.append(split_by_rules(rows, Asked(asked, Timeframe(str(length)))).accepted)
    return pl.concat(accepted).sort("open_time", maintain_order=True)


def _answer(accepted: pl.DataFrame, market: Market, timeframe: Timeframe, row: Row | None) -> Row | None:
    """Return the accepted row of one minute; of an index the candle that a stored minute carries."""
    if timeframe is not Timeframe.M1:
        return None
    if not market.is_volatility_index:
        return _one(accepted)
    if row is None:
        return None
    closed_at = row["open_time"] - timedelta(minutes=row["age_minutes"])
    carried = accepted.filter(pl.col("open_time") == row["hour_open_time"])
    lengths = [one.value for one in LENGTHS if row["hour_open_time"] + one.duration == closed_at]
    return _one(carried.filter(pl.col("timeframe").is_in(lengths)))


def _is_as_answered(row: Row | None, answer: Row | None) -> bool | None:
    if row is None or answer is None:
        return None
    if "dvol" in row:
        return bool(row["dvol"] == answer["close"])
    return all(row[name] == answer[name] for name in VALUE_COLUMNS)


def _absence(
    missing: Missing, evidence: Evidence, slot: Interval, now: datetime, listed_at: datetime | None, *,
    has_minutes: bool,
) -> State:  # fmt: skip
    """Tell what stands in the place of a candle that is not stored."""
    if slot.start > now:
        return State.TO_COME
    if slot.end > now:
        return State.FORMING
    return State.NOT_MADE if has_minutes else _absence_of_minutes(missing, evidence, slot, listed_at)


def _absence_of_minutes(missing: Missing, evidence: Evidence, slot: Interval, listed_at: datetime | None) -> State:
    recorded = missing.gaps.filter(timeframe=Timeframe.M1.value)
    lost = evidence.accepted
    for start, end in recorded["start", "end"].rows():
        # the candles that a minute of an index might carry open before it: its own gap is what counts
        lost = lost.filter((pl.col("open_time") >= slot.start) & ~pl.col("open_time").is_between(start, end, "left"))
    if not lost.is_empty():
        return State.LOST
    if not recorded.is_empty():
        return State.GAP
    if listed_at is not None and slot.end <= listed_at:
        return State.BEFORE_LISTING
    if not evidence.fetches.is_empty():
        return State.UNJUDGED
    return State.UNFETCHED if missing.sightings.is_empty() else State.SEEN_MISSING


def _has_minutes(store: CandleStore, market: Market, timeframe: Timeframe, slot: Interval) -> bool:
    """Tell whether a longer candle could be made."""
    if timeframe is Timeframe.M1:
        return False
    return not store.read(OHLCV, Slice(market, (Timeframe.M1,), slot), columns=["open_time"]).is_empty()


def _buckets(
    store: CandleStore, market: Market, timeframe: Timeframe, slot: Interval, now: datetime
) -> Iterable[Bucket]:
    """The longer candles of the slot, itself among them if it is one, each beside what its minutes make."""
    day = Interval.of_day(slot.start.date())
    made = resample_all(store.read(OHLCV, Slice(market, (Timeframe.M1,), day)))
    stored = store.read(OHLCV, Slice(market, RESAMPLED, day))
    for longer in RESAMPLED:
        if longer.minutes < timeframe.minutes:
            continue
        opened = longer.floor(slot.start)
        own, expected = (_one(rows.filter(timeframe=longer.value, open_time=opened)) for rows in (stored, made[longer]))
        is_same = None if own is None and expected is None else _agree(own, expected)
        minutes = expected["minutes"] if expected else 0
        yield Bucket(longer, opened, own, minutes, opened + longer.duration <= now, is_same)


def _agree(stored: Row | None, made: Row | None) -> bool:
    """Compare two candles; amounts are compared to 8 decimals, for they are sums."""
    if stored is None or made is None:
        return False
    for name in (*VALUE_COLUMNS, "minutes"):
        ours, theirs = stored[name], made[name]
        is_sum = name in ("volume", "quote_volume") and ours is not None and theirs is not None
        if abs(ours - theirs) > slack(theirs) if is_sum else ours != theirs:
            return False
    return True


def _snapshots(store: CandleStore, table: Table, part: Slice, row: Row | None) -> Iterable[Held]:
    """The snapshots that hold the slot; one that does not says so by an error."""
    for name in store.snapshots():
        try:
            found = _one(read_snapshot(store, name, table, part))
        except (InputError, SnapshotMissing):  # it does not hold the slot, or was deleted just now
            continue
        except (StoreCorrupt, OutdatedStore) as error:  # what is known of a candle does not end with one bad snapshot
            _log.warning("snapshot %s cannot be read: %s", name, error)
            continue
        yield Held(name, found, found == row)


def _others(store: CandleStore, market: Market, part: Slice, markets: Sequence[str]) -> dict[Market, Row | None]:
    """The same symbol at other exchanges."""
    same = [one for one in map(Market.parse, markets) if one != market and one.symbol_key == market.symbol_key]
    return {one: _one(store.read(OHLCV, Slice(one, part.timeframes, part.window))) for one in same}
