"""The promises of ``CandleStore``, on every store there is.

Not here: what only one store has (``storage``).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from mdp.domain.candles import TIME
from mdp.domain.interval import Interval
from mdp.errors import InputError, InvariantViolation
from mdp.ports import DVOL, GAPS, OHLCV, RAW_OHLCV, REJECTED_OHLCV, TABLES, Slice
from mdp_tests.contracts.rows import DAY, EVER, OTHER_MARKET, everything, part, rows_at
from mdp_tests.support.builders import MARKET, at


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_rows_of_every_table_come_back_as_they_were_given(store, table):
    moments = [at("2024-12-30") + timedelta(minutes=minute) for minute in range(0, 1440, 7)]
    rows = rows_at(table, moments)
    store.replace(table, DAY, rows)
    assert_frame_equal(store.read(table, DAY), rows, check_exact=True)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_what_was_never_written_reads_as_no_rows_of_the_tables_schema(store, table):
    assert_frame_equal(store.read(table, DAY), table.schema.to_frame())
    assert store.read(table, DAY, columns=["timeframe"]).schema == {"timeframe": pl.String}


def test_extreme_and_missing_values_survive(store):
    rows = rows_at(OHLCV, ["2024-12-30", "2024-12-30T00:01", "2024-12-30T00:02"]).with_columns(
        open=pl.Series([float("nan"), float("inf"), -0.0]),
        quote_volume=pl.Series([None, 5e-324, 1.7976931348623157e308]),
        trades=pl.Series([None, 2**63 - 1, -(2**63)]),
        source=pl.Series([None, "", "ü'\""]),
    )
    store.replace(OHLCV, DAY, rows)
    back = store.read(OHLCV, DAY)
    assert_frame_equal(back, rows, check_exact=True)
    assert str(back["open"][2]) == "-0.0"


def test_lists_of_texts_survive_empty_missing_and_with_missing_parts(store):
    lists = [["a", "b"], [], None, [None, "c"]]
    rows = rows_at(REJECTED_OHLCV, [f"2024-12-30T00:0{minute}" for minute in range(4)])
    rows = rows.with_columns(failed_rules=pl.Series(lists, dtype=pl.List(pl.String)))
    store.replace(REJECTED_OHLCV, DAY, rows)
    assert store.read(REJECTED_OHLCV, DAY)["failed_rules"].to_list() == lists


def test_replacing_twice_is_replacing_once(store):
    rows = rows_at(OHLCV, ["2024-12-30T00:05", "2024-12-30T23:59"])
    store.replace(OHLCV, DAY, rows)
    once = everything(store)
    store.replace(OHLCV, DAY, rows)
    assert_frame_equal(everything(store), once)


def test_a_row_on_start_is_replaced_and_a_row_on_end_is_not(store):
    around = ["2024-12-29T23:59:59.999999", "2024-12-30", "2024-12-30T23:59:59.999999", "2024-12-31"]
    store.replace(OHLCV, part("2024-12-29", "2025-01-01"), rows_at(OHLCV, around))
    store.replace(OHLCV, DAY, rows_at(OHLCV, ["2024-12-30T12:00"]))
    left = store.read(OHLCV, part("2024-12-01", "2025-02-01"))["open_time"].to_list()
    assert left == [at(around[0]), at("2024-12-30T12:00"), at(around[3])]


def test_a_row_on_start_is_read_and_a_row_on_end_is_not(store):
    store.replace(OHLCV, part("2024-12-29", "2025-01-01"), rows_at(OHLCV, ["2024-12-30", "2024-12-31"]))
    assert store.read(OHLCV, DAY)["open_time"].to_list() == [at("2024-12-30")]


def test_replacing_touches_no_other_market_timeframe_or_table(store):
    neighbours = [
        (
            OHLCV,
            rows_at(OHLCV, ["2024-12-30"], market=OTHER_MARKET),
            part("2024-12-30", "2024-12-31", market=OTHER_MARKET),
        ),
        (OHLCV, rows_at(OHLCV, ["2024-12-30"], timeframe="5m"), part("2024-12-30", "2024-12-31", "5m")),
        (OHLCV, rows_at(OHLCV, ["2024-12-30"], timeframe="1h"), part("2024-12-30", "2024-12-31", "1h")),
        (GAPS, rows_at(GAPS, ["2024-12-30"]), DAY),
    ]
    for table, rows, where in neighbours:
        store.replace(table, where, rows)
    store.replace(OHLCV, DAY, rows_at(OHLCV, ["2024-12-30T00:01"], seed=1))
    store.replace(OHLCV, DAY, rows_at(OHLCV, []))
    for table, rows, where in neighbours:
        assert_frame_equal(store.read(table, where), rows)


def test_a_slice_of_several_timeframes_is_replaced_at_all_of_them(store):
    both = part("2024-12-30", "2024-12-31", "5m", "4h")
    old = pl.concat(
        rows_at(OHLCV, ["2024-12-30T00:00", "2024-12-30T08:00"], timeframe=timeframe)
        for timeframe in ("5m", "4h", "1d")
    )
    store.replace(OHLCV, part("2024-12-30", "2024-12-31", "5m", "4h", "1d"), old)
    new = rows_at(OHLCV, ["2024-12-30T04:00"], timeframe="4h", seed=1)
    store.replace(OHLCV, both, new)
    assert_frame_equal(store.read(OHLCV, both), new)
    assert store.read(OHLCV, part("2024-12-30", "2024-12-31", "1d")).height == 2


@pytest.mark.parametrize("timeframe", ["1m", "1h"])
def test_a_window_may_lie_across_months_and_years(store, timeframe):
    borders = ["2023-12-31T23:00", "2024-01-01", "2024-01-31T23:00", "2024-02-01", "2024-12-31T23:00", "2025-01-01"]
    outside = ["2023-12-31T22:00", "2025-01-01T01:00"]
    everywhere = part("2023-01-01", "2026-01-01", timeframe)
    store.replace(OHLCV, everywhere, rows_at(OHLCV, sorted(borders + outside), timeframe=timeframe))
    new = rows_at(OHLCV, borders, timeframe=timeframe, seed=1)
    across = part("2023-12-31T23:00", "2025-01-01T01:00", timeframe)
    store.replace(OHLCV, across, new)
    assert_frame_equal(store.read(OHLCV, across), new)
    assert store.read(OHLCV, everywhere)["open_time"].to_list() == [at(moment) for moment in sorted(borders + outside)]


def test_an_empty_replacement_leaves_nothing_in_its_window_and_all_beside_it(store):
    store.replace(OHLCV, part("2024-12-01", "2025-02-01"), rows_at(OHLCV, ["2024-12-29", "2024-12-30", "2025-01-01"]))
    store.replace(OHLCV, DAY, OHLCV.schema.to_frame())
    assert store.read(OHLCV, EVER)["open_time"].to_list() == [at("2024-12-29"), at("2025-01-01")]
    store.replace(OHLCV, part("2024-12-01", "2025-01-01"), OHLCV.schema.to_frame())
    assert store.read(OHLCV, EVER)["open_time"].to_list() == [at("2025-01-01")]


def test_a_slice_of_no_time_or_no_timeframe_holds_nothing(store):
    store.replace(OHLCV, DAY, rows_at(OHLCV, ["2024-12-30"]))
    for nothing in (part("2024-12-30", "2024-12-30"), Slice(MARKET, (), DAY.window)):
        store.replace(OHLCV, nothing, OHLCV.schema.to_frame())
        assert store.read(OHLCV, nothing).is_empty()
        with pytest.raises(InvariantViolation):
            store.replace(OHLCV, nothing, rows_at(OHLCV, ["2024-12-30"]))
    assert store.read(OHLCV, DAY).height == 1


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        (["close", "open_time"], ["open_time", "close"]),
        ({"source", "exchange"}, ["exchange", "source"]),
        (("timeframe",), ["timeframe"]),
        (["close", "close"], ["close"]),
        (None, list(OHLCV.schema)),
    ],
)
def test_asked_columns_come_in_the_order_of_the_schema_with_all_rows(store, asked, given):
    rows = rows_at(OHLCV, ["2024-12-30", "2024-12-30T00:01", "2024-12-30T00:02"])
    store.replace(OHLCV, DAY, rows)
    assert_frame_equal(store.read(OHLCV, DAY, columns=asked), rows.select(given))


def test_a_column_that_the_table_does_not_have_is_named(store):
    with pytest.raises(InputError, match=r"columns: .*period"):
        store.read(OHLCV, DAY, columns=["close", "period"])


def test_rows_are_read_sorted_by_timeframe_then_by_the_tables_order(store):
    moments = ["2025-01-03", "2024-12-30", "2025-01-01", "2024-12-31"]
    rows = pl.concat(rows_at(OHLCV, moments, timeframe=name, seed=len(name)) for name in ("5m", "1m", "1h", "15m"))
    asked = part("2024-12-01", "2025-02-01", "1m", "5m", "15m", "1h")
    store.replace(OHLCV, asked, rows)
    assert_frame_equal(store.read(OHLCV, asked), rows.sort("timeframe", "open_time"))


def test_rows_that_tie_keep_the_order_they_were_given_in(store):
    ties = rows_at(RAW_OHLCV, ["2024-12-30"] * 1_000, has_holes=False).with_columns(
        open_time=pl.lit(at("2024-12-30T00:01")).cast(TIME), open=pl.arange(1_000).cast(pl.Float64)
    )
    store.replace(RAW_OHLCV, part("2024-12-30", "2025-01-01"), pl.concat([rows_at(RAW_OHLCV, ["2024-12-31"]), ties]))
    store.replace(RAW_OHLCV, part("2024-12-31", "2025-01-01"), rows_at(RAW_OHLCV, ["2024-12-31"]))
    assert store.read(RAW_OHLCV, DAY)["open"].to_list() == list(range(1_000))


@pytest.mark.parametrize(
    "unordered",
    [
        [(1, 2), (1, None), (1, 1)],
        [(2, 1), (1, 2)],
        [(2, 1), (1, 1)],
        [(1, 3), (1, 2), (2, 1)],
        [(1, 1), (3, 1), (2, 5)],
    ],
)
def test_the_second_column_of_the_order_counts_after_the_first(store, unordered):
    windows = [f"2024-12-30T{hour:02d}:00" for hour, _ in unordered]
    opens = [None if minute is None else at(f"2024-12-30T00:{minute:02d}") for _, minute in unordered]
    rows = rows_at(RAW_OHLCV, windows).with_columns(open_time=pl.Series(opens, dtype=TIME))
    store.replace(RAW_OHLCV, DAY, rows)
    found = store.read(RAW_OHLCV, DAY, columns=["window_start", "open_time"])
    assert_frame_equal(found, rows.select("window_start", "open_time").sort("window_start", "open_time"))


def test_a_window_in_another_zone_that_stands_at_utc_is_the_same_window(store):
    london = ZoneInfo("Europe/London")
    in_london = Interval(datetime(2024, 12, 30, tzinfo=london), datetime(2024, 12, 31, tzinfo=london))
    rows = rows_at(OHLCV, ["2024-12-30", "2024-12-30T23:59"])
    store.replace(OHLCV, Slice(MARKET, DAY.timeframes, in_london), rows)
    assert_frame_equal(store.read(OHLCV, Slice(MARKET, DAY.timeframes, in_london)), rows)
    assert_frame_equal(store.read(OHLCV, DAY), rows)


def test_what_was_read_or_given_may_be_changed_without_changing_the_store(store):
    rows = rows_at(OHLCV, ["2024-12-30"])
    store.replace(OHLCV, DAY, rows)
    expected = rows.clone()
    rows[0, "close"] = -1.0
    store.read(OHLCV, DAY)[0, "close"] = -2.0
    assert_frame_equal(store.read(OHLCV, DAY), expected)


def test_the_index_is_kept_like_any_market(store):
    index = Slice(MARKET.parse("deribit:BTC-DVOL"), DAY.timeframes, DAY.window)
    rows = rows_at(DVOL, ["2024-12-30", "2024-12-30T00:01"], market=index.market)
    store.replace(DVOL, index, rows)
    assert_frame_equal(store.read(DVOL, index), rows)
