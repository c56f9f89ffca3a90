"""The promises of ``CandleStore`` about what it refuses and what is only added to, on every store there is.

Not here: replacing and reading (``test_candle_store``).
"""

from __future__ import annotations

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from mdp.errors import InvariantViolation, SchemaMismatch
from mdp.ports import OHLCV, REVISIONS
from mdp_tests.contracts.rows import DAY, EVER, OTHER_MARKET, everything, part, rows_at

OUTSIDE = {
    "before": rows_at(OHLCV, ["2024-12-29T23:59:59.999999"]),
    "on end": rows_at(OHLCV, ["2024-12-31"]),
    "other symbol": rows_at(OHLCV, ["2024-12-30"]).with_columns(symbol=pl.lit("ETH-USDT")),
    "other exchange": rows_at(OHLCV, ["2024-12-30"]).with_columns(exchange=pl.lit("okx")),
    "other timeframe": rows_at(OHLCV, ["2024-12-30"], timeframe="5m"),
    "no time": rows_at(OHLCV, ["2024-12-30"]).with_columns(open_time=pl.lit(None, OHLCV.schema["open_time"])),
    "no symbol": rows_at(OHLCV, ["2024-12-30"]).with_columns(symbol=pl.lit(None, pl.String)),
    "a symbol that is SQL": rows_at(OHLCV, ["2024-12-30"]).with_columns(symbol=pl.lit("BTC-USDT' OR 'a'='a")),
}


@pytest.mark.parametrize("rows", OUTSIDE.values(), ids=OUTSIDE)
def test_a_row_outside_the_slice_is_refused_and_nothing_is_written(store, rows):
    old = rows_at(OHLCV, ["2024-12-30T00:01", "2024-12-30T00:02"])
    store.replace(OHLCV, DAY, old)
    good = rows_at(OHLCV, ["2024-12-30T00:03"])
    with pytest.raises(InvariantViolation) as caught:
        store.replace(OHLCV, DAY, pl.concat([good, rows, good]))
    assert list(caught.value.failures.values()) == [1]
    assert_frame_equal(everything(store), old)


MISFITS = {
    "missing": lambda rows: rows.drop("minutes"),
    "extra": lambda rows: rows.with_columns(period=pl.lit("2024-12")),
    "type": lambda rows: rows.with_columns(pl.col("minutes").cast(pl.Int64)),
    "zone": lambda rows: rows.with_columns(pl.col("open_time").dt.replace_time_zone(None)),
    "unit": lambda rows: rows.with_columns(pl.col("open_time").dt.cast_time_unit("ms")),
    "order": lambda rows: rows.select(reversed(rows.columns)),
}


@pytest.mark.parametrize("misfit", MISFITS.values(), ids=MISFITS)
def test_a_frame_of_another_schema_is_refused_and_nothing_is_written(store, misfit):
    store.replace(OHLCV, DAY, rows_at(OHLCV, ["2024-12-30"]))
    before = everything(store)
    with pytest.raises(SchemaMismatch):
        store.replace(OHLCV, DAY, misfit(rows_at(OHLCV, ["2024-12-30"], seed=1)))
    with pytest.raises(SchemaMismatch):
        store.append(OHLCV, misfit(rows_at(OHLCV, ["2024-12-30"], seed=1)))
    assert_frame_equal(everything(store), before)


def test_append_adds_and_removes_nothing(store):
    first, second = rows_at(REVISIONS, ["2024-12-30"], seed=1), rows_at(REVISIONS, ["2024-12-30", "2025-01-01"], seed=2)
    store.append(REVISIONS, first)
    store.append(REVISIONS, second)
    store.append(REVISIONS, REVISIONS.schema.to_frame())
    expected = pl.concat([first, second]).sort(REVISIONS.sort_by)
    assert_frame_equal(store.read(REVISIONS, EVER), expected)


def test_append_takes_rows_of_many_markets_timeframes_and_months(store):
    rows = pl.concat(
        [
            rows_at(REVISIONS, ["2024-12-30", "2025-01-01"]),
            rows_at(REVISIONS, ["2024-12-30"], timeframe="1h", seed=1),
            rows_at(REVISIONS, ["2024-12-30"], market=OTHER_MARKET, seed=2),
        ]
    )
    store.append(REVISIONS, rows)
    assert_frame_equal(
        everything(store, REVISIONS),
        rows.sort("exchange", "timeframe", "open_time", "revised_at"),
        check_row_order=False,
    )
    assert store.read(REVISIONS, part("2024-12-30", "2024-12-31", market=OTHER_MARKET)).height == 1


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("exchange", "nowhere"),
        ("exchange", None),
        ("symbol", "BTC/USDT"),
        ("symbol", "../../x"),
        ("timeframe", "2m"),
        ("open_time", None),
    ],
)
def test_append_refuses_rows_that_belong_nowhere(store, column, value):
    bad = rows_at(REVISIONS, ["2024-12-30"]).with_columns(pl.lit(value, REVISIONS.schema[column]).alias(column))
    with pytest.raises(InvariantViolation) as caught:
        store.append(REVISIONS, pl.concat([rows_at(REVISIONS, ["2024-12-30"]), bad]))
    assert list(caught.value.failures.values()) == [1]
    assert everything(store, REVISIONS).is_empty()


def test_appended_rows_can_be_replaced(store):
    store.append(REVISIONS, rows_at(REVISIONS, ["2024-12-30", "2024-12-31"]))
    store.append(REVISIONS, rows_at(REVISIONS, ["2024-12-30", "2024-12-31"], seed=1))
    new = rows_at(REVISIONS, ["2024-12-30T01:00"])
    store.replace(REVISIONS, DAY, new)
    assert_frame_equal(store.read(REVISIONS, DAY), new)
    assert store.read(REVISIONS, EVER).height == 3
