"""Markets and their spellings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdp.domain.market import CURRENCIES, MARKETS, SPOT_MARKETS, VOLATILITY_MARKETS, Exchange, Market

coins = st.text("ABCXYZ0189", min_size=1, max_size=8)
markets = st.builds(Market, st.sampled_from(Exchange), coins, coins)


@given(markets)
def test_reading_what_was_written_gives_the_same_market(market):
    assert Market.parse(str(market)) == market
    assert Market.parse(f"{market.exchange.value}:{market.symbol}") == market
    assert Market.parse(f"  {market}\n") == market


@given(markets)
def test_both_forms_of_a_symbol_say_the_same(market):
    assert market.symbol == f"{market.base}/{market.quote}"
    assert market.symbol_key == f"{market.base}-{market.quote}"


@pytest.mark.parametrize(
    "text",
    ["", "BTC-USDT", "binance", "binance:BTCUSDT", "binance:btc-usdt", "Binance:BTC-USDT", "binance:BTC-USDT-X",
     "binance:BTC-", ":BTC-USDT", "binance:BTC USDT", "binance:BTC-USDT:USDT", "binance:\uff22TC-USDT"],
)  # fmt: skip
def test_a_text_of_another_form_is_refused_with_an_example_of_the_right_one(text):
    with pytest.raises(ValueError, match=r"expected a market such as binance:BTC-USDT, got ") as refused:
        Market.parse(text)
    assert repr(text) in str(refused.value)


def test_an_exchange_we_do_not_collect_is_refused_with_the_list_of_those_we_do():
    with pytest.raises(ValueError, match=r"binance, bybit, okx, deribit, got 'kraken'"):
        Market.parse("kraken:BTC-USDT")


def test_what_is_collected_is_nine_spot_markets_in_three_exchanges_and_two_indices():
    assert [str(market) for market in MARKETS] == [
        "binance:BTC-USDT", "binance:ETH-USDT", "binance:SOL-USDT",
        "bybit:BTC-USDT", "bybit:ETH-USDT", "bybit:SOL-USDT",
        "okx:BTC-USDT", "okx:ETH-USDT", "okx:SOL-USDT",
        "deribit:BTC-DVOL", "deribit:ETH-DVOL",
    ]  # fmt: skip
    assert SPOT_MARKETS + VOLATILITY_MARKETS == MARKETS
    assert [market.base for market in VOLATILITY_MARKETS] == list(CURRENCIES)


def test_only_a_volatility_index_is_one():
    assert all(market.is_volatility_index for market in VOLATILITY_MARKETS)
    assert not any(market.is_volatility_index for market in SPOT_MARKETS)
