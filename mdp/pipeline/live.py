"""Keep what feeds handed on: entries in; minutes, longer candles, rejected rows, sightings and revisions stored.

Everything is derived from what is stored and what was told, and written so that repeating it changes nothing: killed
anywhere, the same entries are taken again. Evidence is written first, candles last, all markets in one commit a table.
Not here: taking entries and acknowledging them (``bus``, ``defs``), one market's candles (``live_candles``,
``live_index``).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import polars as pl

from mdp.config.reference import Reference
from mdp.domain.candles import RAW_SCHEMA, REJECTED_SCHEMA
from mdp.domain.live import Entry, LiveCandle
from mdp.domain.market import Market
from mdp.domain.rules import Judged, count_failures
from mdp.domain.timeframe import Timeframe
from mdp.errors import DataError, MdpError, StorageError, StoreCorrupt
from mdp.pipeline.counting import counted_write
from mdp.pipeline.gap_evidence import APART
from mdp.pipeline.live_candles import Desk, Made, make_candles, not_yet_rejected
from mdp.pipeline.live_index import IndexRule, hours_of, make_index_minutes
from mdp.pipeline.live_report import Kept, MarketKept, NotKept
from mdp.pipeline.live_told import Told, judge_told, sort_by_market
from mdp.ports import (
    DVOL,
    GAP_SIGHTINGS,
    OHLCV,
    REJECTED_OHLCV,
    REVISIONS,
    CandleStore,
    Clock,
    Table,
    Taken,
)

_log = logging.getLogger(__name__)

BY_THE_HOUR = IndexRule(Timeframe.H1, 120)

Minutes = Mapping[Market, Sequence[LiveCandle]]

_EVIDENCE: tuple[Table, ...] = (REJECTED_OHLCV, GAP_SIGHTINGS, REVISIONS)
"""Written before the candles, in this order."""


def keep_live(
    taken: Iterable[Taken | Entry],
    store: CandleStore,
    reference: Reference,
    clock: Clock,
    *,
    index: IndexRule = BY_THE_HOUR,
    index_minutes: Minutes | None = None,
    apart: timedelta = APART,
) -> Kept:
    """Judge entries and store what they say. What is told twice, or again after a kill, changes nothing.

    Args:
        taken: In any order; of what they say of a minute the last counts, and REST before a stream.
        store: Where to.
        reference: Listings.
        clock: The market's time: which longer candles are over, and when something was revised.
        index: How the minutes of a volatility index are made.
        index_minutes: What buffers of 1m hold of each index: an hour is made of them and of what is told. Without
            them an hour is made only if all its minutes are told at once.
        apart: How far apart two sightings of a gap count as two.

    Returns:
        What became of each market's entries. All of it is durable: they may be acknowledged.

    Raises:
        NotKept: some markets' entries could not be stored, all others' are.
        StorageError: nothing could be stored; its ``retryable`` tells whether it may later.
    """
    began, now = time.monotonic(), clock()
    entries = (one.entry if isinstance(one, Taken) else one for one in taken)
    desk = Desk(store, reference, apart, now)
    work: list[_Work] = []
    failures: dict[Market, MdpError] = {}
    for told in sort_by_market(entries, now):
        try:
            work.append(_judge(told, desk, index, (index_minutes or {}).get(told.market, ())))
        except (StorageError, DataError) as error:
            failures[told.market] = error
        except Exception as error:  # a mistake of ours may cost one market, not all; its entries wait
            _log.exception("%s: its entries could not be judged", told.market)
            failures[told.market] = StorageError(f"{told.market}: {type(error).__name__}: {error}")
    failures |= _write(store, work)
    kept = Kept(tuple(one.report for one in work if one.market not in failures), now, time.monotonic() - began)
    if failures and not kept.markets:
        raise next(iter(failures.values()))
    if failures:
        raise NotKept(kept, failures)
    return kept


@dataclass(frozen=True, slots=True)
class _Work:
    """One market's rows by the name of the table, and its report."""

    market: Market
    rows: Mapping[str, pl.DataFrame]
    report: MarketKept


def _judge(told: Told, desk: Desk, index: IndexRule, buffered: Sequence[LiveCandle]) -> _Work:
    market = told.market
    judged = judge_told(told.raw()) if told.candles else _NO_ROWS
    rejected = not_yet_rejected(desk.store, market, judged.rejected)
    hours_left = 0
    if market.is_volatility_index:
        target, (made, hours_left) = DVOL, _made_of_index(told, judged, desk, index, buffered)
    else:
        target = OHLCV
        made = make_candles(market, judged.accepted, judged.rejected, told.absences(), desk)
    rows = {
        REJECTED_OHLCV.name: rejected,
        GAP_SIGHTINGS.name: _joined(GAP_SIGHTINGS, (one.sightings for one in made)),
        REVISIONS.name: _joined(REVISIONS, (one.revisions for one in made)),
        target.name: _joined(target, (one.rows for one in made)),
    }
    return _Work(market, rows, replace(_report(told, judged, rows, made, desk.now), hours_left=hours_left))


def _made_of_index(
    told: Told, judged: Judged, desk: Desk, index: IndexRule, buffered: Sequence[LiveCandle]
) -> tuple[list[Made], int]:
    if index.length is Timeframe.M1:
        return make_index_minutes(told.market, judged.accepted, told.absences(), index, desk), 0
    hours = hours_of(judged.accepted, [*buffered, *told.candles], told.market)
    return make_index_minutes(told.market, hours.rows, (), index, desk), hours.left


def _report(
    told: Told, judged: Judged, rows: Mapping[str, pl.DataFrame], made: Sequence[Made], now: datetime
) -> MarketKept:
    changed = pl.concat(one.changed for one in made) if made else judged.accepted["open_time"].clear()
    newest = judged.accepted["open_time"].max()
    newest = newest if isinstance(newest, datetime) else None
    counts = {
        name: sum(getattr(one, name) for one in made)
        for name in ("stored", "revised", "unchanged", "superseded", "left", "buckets")
    }
    return MarketKept(
        market=told.market,
        entries=told.entries,
        first_open_time=_moment(changed.min()),
        last_open_time=_moment(changed.max()),
        rejected=count_failures(rows[REJECTED_OHLCV.name]),
        absent=int(rows[GAP_SIGHTINGS.name]["slots"].sum()),
        refused=told.refused,
        newest_open_time=newest,
        lag_s=None if newest is None else (now - newest - Timeframe.M1.duration).total_seconds(),
        **counts,
    )


def _write(store: CandleStore, work: Sequence[_Work]) -> dict[Market, MdpError]:
    """Write all markets at once; where a file cannot be read, market by market, so that one does not stop the others.

    Raises:
        StorageError: nothing can be written at all.
    """
    try:
        _write_all(store, work)
    except StoreCorrupt:
        failures: dict[Market, MdpError] = {}
        for one in work:
            try:
                _write_all(store, [one])
            except StoreCorrupt as error:
                failures[one.market] = error
        return failures
    return {}


def _write_all(store: CandleStore, work: Sequence[_Work]) -> None:
    for table in _EVIDENCE:
        rows = _joined(table, (one.rows[table.name] for one in work))
        if len(rows):
            with counted_write(table, len(rows)):
                store.append(table, rows)
    for table in (OHLCV, DVOL):
        rows = _joined(table, (one.rows[table.name] for one in work if table.name in one.rows))
        if len(rows):
            with counted_write(table, len(rows)):
                store.append_live(table, rows)


def _joined(table: Table, frames: Iterable[pl.DataFrame]) -> pl.DataFrame:
    return pl.concat([table.schema.to_frame(), *frames])


def _moment(value: object) -> datetime | None:
    return value if isinstance(value, datetime) else None


_NO_ROWS = Judged(RAW_SCHEMA.to_frame(), REJECTED_SCHEMA.to_frame())
