"""The promises of ``CandleStore`` about single rows, and about looking after tables, on every store there is.

Not here: what becomes of files (``storage``).
"""

from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from mdp.errors import InputError, InvariantViolation, SchemaMismatch
from mdp.ports import DVOL, FETCHES, GAPS, OHLCV, REJECTED_OHLCV, REVISIONS, Compaction, DiskUse, Vacuum
from mdp_tests.contracts.rows import DAY, EVER, OTHER_MARKET, everything, part, rows_at
from mdp_tests.support.builders import at

HOUR = timedelta(hours=1)


@pytest.mark.parametrize("table", [OHLCV, DVOL], ids=lambda table: table.name)
def test_a_live_row_is_added_or_takes_the_place_of_the_one_with_its_key(store, table):
    first = rows_at(table, ["2024-12-30", "2024-12-30T00:01"])
    store.append_live(table, first)
    assert_frame_equal(store.read(table, DAY), first)
    second = rows_at(table, ["2024-12-30T00:02", "2024-12-30T00:01"], seed=1)
    store.append_live(table, second)
    assert_frame_equal(store.read(table, DAY), pl.concat([first.head(1), second.reverse()]))
    store.append_live(table, second)
    store.append_live(table, table.schema.to_frame())
    assert_frame_equal(store.read(table, DAY), pl.concat([first.head(1), second.reverse()]))


def test_live_rows_change_stored_slices_and_the_next_replacement_wins(store):
    moments = [at("2024-12-30") + timedelta(minutes=minute) for minute in range(10)]
    stored = rows_at(OHLCV, moments)
    store.replace(OHLCV, DAY, stored)
    live = rows_at(OHLCV, [moments[3], moments[9] + timedelta(minutes=1)], seed=1)
    store.append_live(OHLCV, live)
    expected = pl.concat([stored.filter(~pl.col("open_time").is_in(live["open_time"])), live]).sort("open_time")
    assert_frame_equal(store.read(OHLCV, DAY), expected)
    store.replace(OHLCV, DAY, stored)
    assert_frame_equal(store.read(OHLCV, DAY), stored)


def test_live_rows_of_many_markets_timeframes_and_months_are_added_at_once(store):
    rows = pl.concat(
        [
            rows_at(OHLCV, ["2024-12-31T23:59", "2025-01-01"]),
            rows_at(OHLCV, ["2024-12-31T23:00"], timeframe="1h", seed=1),
            rows_at(OHLCV, ["2024-12-31T23:59"], market=OTHER_MARKET, seed=2),
        ]
    )
    store.append_live(OHLCV, rows.reverse())
    assert_frame_equal(everything(store), rows.sort("exchange", "timeframe", "open_time"), check_row_order=False)
    changed = rows.with_columns(close=pl.lit(1.0))
    store.append_live(OHLCV, changed)
    assert_frame_equal(everything(store), changed, check_row_order=False)


def test_what_is_no_live_row_is_refused_and_nothing_is_written(store):
    good = rows_at(OHLCV, ["2024-12-30"])
    with pytest.raises(InvariantViolation) as caught:
        store.append_live(OHLCV, pl.concat([good, rows_at(OHLCV, ["2024-12-30T00:01"] * 2)]))
    assert caught.value.failures == {"key_is_unique": 2}
    with pytest.raises(InvariantViolation, match="open_time_is_present: 1"):
        store.append_live(OHLCV, pl.concat([good, good.with_columns(open_time=pl.lit(None, good.schema["open_time"]))]))
    with pytest.raises(SchemaMismatch):
        store.append_live(OHLCV, good.drop("close"))
    for table in (FETCHES, GAPS, REVISIONS):
        with pytest.raises(InputError, match="table: expected ohlcv or dvol"):
            store.append_live(table, rows_at(table, ["2024-12-30"]))
    assert everything(store).is_empty()


def test_rows_older_than_a_moment_are_pruned_and_those_without_a_time_stay(store):
    moments = ["2024-10-30", "2024-11-30", "2024-12-30", "2024-12-31", "2025-01-02"]
    rows = rows_at(REJECTED_OHLCV, moments, has_holes=False)
    times = [at("2026-01-01"), at("2026-02-01"), at("2026-01-01"), at("2026-02-01"), None]
    rows = rows.with_columns(fetched_at=pl.Series(times, dtype=rows.schema["fetched_at"]))
    of_other = rows_at(REJECTED_OHLCV, ["2024-12-30"], market=OTHER_MARKET, has_holes=False).with_columns(
        fetched_at=pl.lit(at("2026-01-31")).cast(rows.schema["fetched_at"])
    )
    store.append(REJECTED_OHLCV, pl.concat([rows, of_other]))
    assert store.prune(REJECTED_OHLCV, "fetched_at", at("2026-02-01")) == 3
    assert_frame_equal(everything(store, REJECTED_OHLCV), rows.gather([1, 3, 4]))
    assert store.prune(REJECTED_OHLCV, "fetched_at", at("2026-02-01")) == 0
    assert store.prune(REJECTED_OHLCV, "window_start", at("2024-12-31")) == 1
    assert store.prune(REJECTED_OHLCV, "fetched_at", at("2100-01-01")) == 1
    assert everything(store, REJECTED_OHLCV).height == 1


def test_an_empty_table_can_be_looked_after(store):
    assert store.prune(OHLCV, "open_time", at("2100-01-01")) == 0
    assert store.compact(OHLCV) == Compaction()
    assert store.vacuum(OHLCV, HOUR) == Vacuum()
    assert store.disk_use(OHLCV) == DiskUse()


def test_pruning_by_what_is_no_time_of_the_table_is_refused(store):
    with pytest.raises(InputError, match="column: expected a time of ohlcv: open_time, ingested_at, got 'close'"):
        store.prune(OHLCV, "close", at("2024-12-30"))
    with pytest.raises(InputError, match=r"before: .*time zone"):
        store.prune(OHLCV, "open_time", datetime(2024, 12, 30))  # noqa: DTZ001  # what is refused


def test_what_somebody_may_still_read_is_not_removed(store):
    with pytest.raises(InputError, match="keep: expected at least 1:00:00"):
        store.vacuum(OHLCV, HOUR - timedelta(seconds=1))


def test_compaction_and_vacuum_change_no_row_and_no_order(store):
    for seed in range(7):
        moments = ["2024-12-30", "2024-12-30", "2024-12-31", "2025-01-01"]
        rows = rows_at(REVISIONS, moments, seed=seed, has_holes=False)
        store.append(REVISIONS, rows.with_columns(revised_at=pl.lit(at("2026-01-01")).cast(rows.schema["revised_at"])))
    before = store.read(REVISIONS, EVER)
    assert before.height == 28
    store.compact(REVISIONS)
    assert_frame_equal(store.read(REVISIONS, EVER), before)
    assert store.vacuum(REVISIONS, HOUR, dry_run=True) == store.vacuum(REVISIONS, HOUR)
    assert_frame_equal(store.read(REVISIONS, EVER), before)


def test_disk_use_counts_the_rows_of_now(store):
    store.replace(OHLCV, part("2024-12-01", "2025-02-01"), rows_at(OHLCV, ["2024-12-30", "2025-01-01"]))
    store.replace(OHLCV, DAY, rows_at(OHLCV, ["2024-12-30", "2024-12-30T00:01"], seed=1))
    assert store.disk_use(OHLCV).rows == 3
    assert store.disk_use(OHLCV).size_bytes > 0
