"""The digest of what a frame says."""

from __future__ import annotations

import itertools
import math
from datetime import timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdp.domain.candles import CANDLE_SCHEMA, REJECTED_SCHEMA
from mdp.domain.digests import content_equals, digest, digests_of_runs
from mdp_tests.domain.strategies import minute_candles, raw_frames
from mdp_tests.support.builders import NOW, candle, candles, raw, raws


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


def with_failed_rules(frame: pl.DataFrame, rules: list[list[str] | None]) -> pl.DataFrame:
    failed = pl.Series("failed_rules", (rules * len(frame))[: len(frame)], dtype=pl.List(pl.String))
    return frame.with_columns(failed).select(REJECTED_SCHEMA.names())


class TestRuns:
    @settings(max_examples=30)
    @given(raw_frames, st.data())
    def test_each_run_of_rows_has_the_digest_it_would_have_alone(self, frame, data):
        frame = with_failed_rules(frame, [["a"], None, ["é", ""], [], ["x", "yy", "z"]])
        cuts = sorted(data.draw(st.lists(st.integers(0, len(frame)), max_size=3)))
        bounds = [0, *cuts, len(frame)]
        alone = [digest(frame[first:last]) for first, last in itertools.pairwise(bounds)]
        assert digests_of_runs(frame, bounds) == alone

    @settings(max_examples=30)
    @given(raw_frames, raw_frames)
    def test_content_equals_exactly_where_digests_do(self, one, other):
        assert content_equals(one, other) == (digest(one) == digest(other))
        later = one.with_columns(pl.col("fetched_at") + timedelta(days=1))
        assert content_equals(one, later)
