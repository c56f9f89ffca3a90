"""Schemas, and the digest of what a frame says."""

from __future__ import annotations

import math
from datetime import timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdp.domain import candles as schemas
from mdp.domain.candles import (
    CANDLE_SCHEMA,
    RAW_SCHEMA,
    REJECTED_SCHEMA,
    TIME,
    VALUE_COLUMNS,
    digest,
    empty,
    require_schema,
)
from mdp.errors import SchemaMismatch
from mdp_tests.domain.strategies import minute_candles, raw_frames
from mdp_tests.support.builders import NOW, candle, candles, raw, raws

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
        assert [name[4:] for name in names if name.startswith("old_")] == [*VALUE_COLUMNS, "source"]
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


class TestDigest:
    def test_it_is_the_same_on_every_machine_and_library_version(self):
        frame = candles(
            candle("2024-12-30T00:00", open=93_576.0, volume=8.21827), candle("2024-12-30T00:01", trades=None)
        )
        assert digest(frame) == "2bd4fb858cdc5da99cd81e060286ab35f2970b0d27bc79dca671946d1306bc72"

    def test_the_names_of_broken_rules_are_part_of_it(self):
        def broken(*rules):
            return digest(pl.DataFrame({"failed_rules": rules}, schema={"failed_rules": pl.List(pl.String())}))

        assert broken(["a"], ["b", "c"]) != broken(["a", "b"], ["c"])
        assert broken(["ab"], ["c"]) != broken(["a"], ["bc"])
        assert len({broken([]), broken([""]), broken(None), broken()}) == 4
        assert broken(["a"], [], None, ["b"]) == "9e1da763ce4e16242b446d56b627e661388b1ae07f94fd927b98ad29ed9782c3"

    def test_when_a_row_was_collected_does_not_count(self):
        later = NOW + timedelta(days=1)
        assert digest(candles(candle("2024-01-01", ingested_at=later))) == digest(candles(candle("2024-01-01")))
        assert digest(raws(raw("2024-01-01", fetched_at=later))) == digest(raws(raw("2024-01-01")))
        for column in ("seen_at", "revised_at"):
            assert digest(pl.DataFrame({"a": [1], column: [1]})) == digest(pl.DataFrame({"a": [1], column: [2]}))

    @pytest.mark.parametrize("column", [name for name in CANDLE_SCHEMA if name != "ingested_at"])
    def test_every_other_column_counts(self, column):
        row = candle("2024-01-01")
        other = {"exchange": "okx", "symbol": "ETH-USDT", "timeframe": "5m", "source": "archive"}
        changed = other.get(column) or (row[column] + (timedelta(minutes=1) if column == "open_time" else 1))
        assert digest(candles({**row, column: changed})) != digest(candles(row))

    @pytest.mark.parametrize("column", CANDLE_SCHEMA.names()[4:])
    def test_unknown_is_not_zero(self, column):
        if column != "ingested_at":
            nothing = "" if column == "source" else 0
            known, unknown = ({**candle("2024-01-01"), column: value} for value in (nothing, None))
            assert digest(candles(known)) != digest(candles(unknown))

    def test_order_counts(self):
        rows = [candle("2024-01-01T00:00", open=1.0), candle("2024-01-01T00:01", open=2.0)]
        assert digest(candles(*rows)) != digest(candles(*reversed(rows)))

    def test_the_last_bit_of_a_price_counts(self):
        price = 93_576.13
        assert digest(candles(candle("2024-01-01", open=price))) != digest(
            candles(candle("2024-01-01", open=math.nextafter(price, math.inf)))
        )

    def test_an_empty_frame_and_a_missing_column_differ_from_a_full_one(self):
        one = candles(candle("2024-01-01"))
        assert len({digest(one), digest(one.clear()), digest(one.drop("trades")), digest(pl.DataFrame())}) == 4

    @given(st.lists(st.lists(st.text("a,\x1f\x00é", max_size=3), max_size=3), max_size=4),
           st.lists(st.lists(st.text("a,\x1f\x00é", max_size=3), max_size=3), max_size=4))  # fmt: skip
    def test_texts_that_differ_have_digests_that_differ_whatever_is_in_them(self, one, other):
        def lists(values):
            return pl.DataFrame({"failed_rules": values}, schema={"failed_rules": pl.List(pl.String())})

        def flat(values):
            return [text for texts in values for text in texts]

        def texts(values):
            return pl.DataFrame({"source": flat(values)}, schema={"source": pl.String()})

        assert (digest(lists(one)) == digest(lists(other))) == (one == other)
        assert (digest(texts(one)) == digest(texts(other))) == (flat(one) == flat(other))

    def test_an_unknown_flag_and_an_unknown_list_have_a_digest(self):
        rejected = raws(raw("2024-01-01", closed=None)).with_columns(
            failed_rules=pl.lit(None, REJECTED_SCHEMA["failed_rules"])
        )
        assert digest(rejected) != digest(rejected.with_columns(closed=pl.lit(value=False)))
        assert digest(rejected) != digest(
            rejected.with_columns(failed_rules=pl.lit([], REJECTED_SCHEMA["failed_rules"]))
        )

    @given(minute_candles(most=300))
    def test_how_a_frame_was_put_together_does_not_count(self, frame):
        pieces = pl.concat([frame[:7], frame[7:20], frame[20:]], rechunk=False)
        assert digest(pieces) == digest(frame)

    @given(raw_frames)
    def test_any_frame_of_ours_has_a_digest_of_64_digits(self, frame):
        assert len(digest(frame)) == 64
