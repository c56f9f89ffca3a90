"""Several markets side by side: every slot there, nothing filled, an index at the instant of the close."""

from __future__ import annotations

import polars as pl
import pytest

import mdp
from mdp.domain.candles import TIME
from mdp.errors import InputError
from mdp_tests.support.builders import at

BTC, OKX, INDEX = "binance:BTC-USDT", "okx:BTC-USDT", "deribit:BTC-DVOL"
ASKED = ("1h", "2024-12-30T21:00Z", "2024-12-31T01:00Z")


def test_every_slot_is_there_and_what_is_missing_is_null(lake):
    rows = mdp.read_aligned([OKX, BTC, INDEX], *ASKED, settings=lake)
    assert rows.columns == ["open_time", f"{OKX}.close", f"{BTC}.close", f"{INDEX}.dvol"]
    assert rows["open_time"].to_list() == [at(f"2024-12-30T{hour}:00") for hour in (21, 22, 23)] + [at("2024-12-31")]
    assert rows[f"{BTC}.close"].to_list() == [119.0, 179.0, 239.0, 299.0]
    assert rows[f"{OKX}.close"].to_list() == [119.0, None, None, 299.0]


def test_an_index_gives_the_value_of_the_minute_whose_close_is_the_candle_s_and_no_earlier_one(lake):
    rows = mdp.read_aligned([BTC, INDEX], *ASKED, settings=lake)
    assert rows[f"{INDEX}.dvol"].to_list() == [119.0, 179.0, None, 299.0]
    assert (
        rows.filter(pl.col(f"{INDEX}.dvol").is_not_null())
        .select((pl.col(f"{INDEX}.dvol") == pl.col(f"{BTC}.close")).all())
        .item()
    )


def test_an_index_alone_at_minutes_is_its_minutes(lake):
    rows = mdp.read_aligned([INDEX], "1m", "2024-12-30T23:29Z", "2024-12-31T00:01Z", settings=lake)
    assert rows[f"{INDEX}.dvol"].to_list() == [209.0, *[None] * 30, 240.0]


def test_the_columns_that_are_asked_for_stand_by_market(lake):
    rows = mdp.read_aligned([BTC, OKX], *ASKED, columns=["volume", "trades"], settings=lake)
    assert rows.columns[1:] == [f"{BTC}.volume", f"{BTC}.trades", f"{OKX}.volume", f"{OKX}.trades"]
    assert rows.schema[f"{OKX}.trades"] == pl.Int64
    assert rows[f"{OKX}.trades"].to_list() == [420, None, None, 420]


def test_a_window_in_which_nothing_is_stored_has_its_slots(lake):
    rows = mdp.read_aligned([BTC, INDEX], "4h", "2023-01-01", "2023-01-02", settings=lake)
    assert rows.height == 6
    assert rows.schema == {"open_time": TIME, f"{BTC}.close": pl.Float64, f"{INDEX}.dvol": pl.Float64}
    assert rows.null_count().row(0) == (0, 6, 6)


def test_a_window_between_two_slots_has_none(lake):
    assert mdp.read_aligned([BTC, INDEX], "1d", "2024-12-30T01:00Z", "2024-12-30T02:00Z", settings=lake).is_empty()


def test_one_by_one_says_the_same(lake):
    rows = mdp.read_aligned([BTC], "1h", "2024-12-30T20:00Z", "2024-12-31T04:00Z", columns=["open"], settings=lake)
    alone = mdp.read(BTC, "1h", "2024-12-30T20:00Z", "2024-12-31T04:00Z", settings=lake)
    assert rows.rename({f"{BTC}.open": "open"}).equals(alone.select("open_time", "open"))


def test_as_of_an_earlier_time_it_is_what_was_there_then(lake):
    before = mdp.read_aligned([BTC, OKX], *ASKED, as_of="2025-12-01", settings=lake)
    after = mdp.read_aligned([BTC, OKX], *ASKED, as_of="2026-02-01", settings=lake)
    assert before.null_count().row(0) == (0, 4, 4)
    assert after.equals(mdp.read_aligned([BTC, OKX], *ASKED, settings=lake))


@pytest.mark.parametrize(
    ("markets", "options", "complaint"),
    [
        ([], {}, "markets: expected at least one, got 'none'"),
        ([BTC, OKX, "binance:BTC/USDT"], {}, "markets: expected each once, got 'binance:BTC-USDT twice'"),
        (["binance:DOGE-USDT"], {}, "market: expected one of"),
        ("binance:DOGE-USDT", {}, "market: expected one of"),
        ([BTC], {"columns": []}, "columns: expected at least one"),
        ([BTC], {"columns": ["close", "close"]}, "columns: expected each once, got 'close twice'"),
        (
            [BTC],
            {"columns": ["vwap"]},
            "columns: expected some of open, high, low, close, volume, quote_volume, trades",
        ),
        ([BTC], {"as_of": "2024-12-30", "snapshot": "x"}, "as_of: expected either"),
    ],
)
def test_a_wrong_argument_is_named(lake, markets, options, complaint):
    with pytest.raises(InputError, match=complaint):
        mdp.read_aligned(markets, *ASKED, **options, settings=lake)


def test_a_window_of_more_slots_than_anybody_means_is_refused(lake):
    with pytest.raises(InputError, match="end: expected at most"):
        mdp.read_aligned([BTC], "1m", "1980-01-01", "2100-01-01", settings=lake)


def test_one_market_may_be_given_by_its_name_alone(lake):
    assert mdp.read_aligned(BTC, *ASKED, settings=lake).columns == ["open_time", f"{BTC}.close"]
