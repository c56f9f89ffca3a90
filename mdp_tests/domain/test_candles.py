"""Schemas, and the digest of what a frame says."""

from __future__ import annotations

import math

import polars as pl
import pytest

from mdp.domain import candles as schemas
from mdp.domain.candles import (
    CANDLE_SCHEMA,
    RAW_SCHEMA,
    REJECTED_SCHEMA,
    TIME,
    VALUE_COLUMNS,
    empty,
    require_schema,
)
from mdp.errors import SchemaMismatch
from mdp_tests.support.builders import candle, candles

SCHEMAS = {name: schema for name, schema in vars(schemas).items() if name.endswith("_SCHEMA")}


class TestSchemas:
    @pytest.mark.parametrize("name", SCHEMAS)
    def test_every_table_begins_with_which_series_it_is_about(self, name):
        assert SCHEMAS[name].names()[:3] == ["exchange", "symbol", "timeframe"]

    @pytest.mark.parametrize("name", SCHEMAS)
    def test_every_time_is_utc_in_microseconds(self, name):
        times = [dtype for dtype in SCHEMAS[name].dtypes() if dtype.base_type() == pl.Datetime]
        assert times
        assert all(dtype == TIME for dtype in times)

    def test_candle_columns_are_those_that_readers_were_promised(self):
        assert ", ".join(CANDLE_SCHEMA) == (
            "exchange, symbol, timeframe, open_time, open, high, low, close, "
            "volume, quote_volume, trades, minutes, source, ingested_at"
        )

    def test_a_rejected_row_is_a_raw_row_and_its_verdict(self):
        assert REJECTED_SCHEMA.names() == [*RAW_SCHEMA.names(), "failed_rules"]

    def test_a_revision_has_an_old_and_a_new_of_every_value(self):
        names = schemas.REVISION_SCHEMA.names()
        assert [name[4:] for name in names if name.startswith("old_")] == [*VALUE_COLUMNS, "source", "ingested_at"]
        assert [name[4:] for name in names if name.startswith("new_")] == [*VALUE_COLUMNS, "source"]

    @pytest.mark.parametrize("name", SCHEMAS)
    def test_an_empty_frame_is_of_its_schema(self, name):
        frame = empty(SCHEMAS[name])
        require_schema(frame, SCHEMAS[name], name)
        assert frame.is_empty()


class TestRequireSchema:
    def test_every_difference_is_named_at_once(self):
        wrong = candles(candle("2024-01-01")).drop("trades", "source").with_columns(
            pl.col("open").cast(pl.Float32), pl.col("open_time").cast(pl.Datetime("ms", "UTC")), color=pl.lit("red")
        )  # fmt: skip
        with pytest.raises(SchemaMismatch) as refused:
            require_schema(wrong, CANDLE_SCHEMA, "ohlcv")
        assert refused.value.table == "ohlcv"
        assert refused.value.differences == (
            "trades: missing, expected Int64",
            "source: missing, expected String",
            "color: not expected",
            f"open_time: expected {TIME}, got {pl.Datetime('ms', 'UTC')}",
            "open: expected Float64, got Float32",
        )
        assert all(difference in str(refused.value) for difference in refused.value.differences)

    def test_another_order_of_columns_is_refused(self):
        with pytest.raises(SchemaMismatch, match="ohlcv: columns in another order: symbol, exchange"):
            require_schema(empty({"symbol": pl.String(), "exchange": pl.String()}),
                           pl.Schema({"exchange": pl.String(), "symbol": pl.String()}), "ohlcv")  # fmt: skip

    def test_a_naive_time_is_refused(self):
        naive = candles(candle("2024-01-01")).with_columns(pl.col("open_time").dt.replace_time_zone(None))
        with pytest.raises(SchemaMismatch, match=r"open_time: expected .*UTC.*got .*None"):
            require_schema(naive, CANDLE_SCHEMA, "ohlcv")

    def test_nulls_and_strange_values_are_no_matter_of_the_schema(self):
        require_schema(candles(candle("2024-01-01", open=math.nan, high=None)), CANDLE_SCHEMA, "ohlcv")
