"""The exchanges' spellings of markets, there and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdp.domain.market import MARKETS, SPOT_EXCHANGES, Exchange, Market
from mdp.errors import InputError
from mdp.exchanges.symbols import QUOTES, from_market_id, to_market_id

coins = st.from_regex(r"[A-Z0-9]{1,10}", fullmatch=True)


@given(st.sampled_from(SPOT_EXCHANGES), coins, st.sampled_from(QUOTES))
def test_a_spelling_is_read_back_as_the_market_it_spells(exchange, base, quote):
    market = Market(exchange, base, quote)
    assert from_market_id(exchange, to_market_id(market)) == market


@pytest.mark.parametrize("market", MARKETS, ids=str)
def test_every_market_we_collect_has_a_spelling_that_is_read_back(market):
    assert from_market_id(market.exchange, to_market_id(market)) == market


@given(st.sampled_from(list(Exchange)), st.text(max_size=12))
def test_text_is_a_market_that_spells_it_or_refused(exchange, text):
    try:
        market = from_market_id(exchange, text)
    except InputError:
        return
    assert to_market_id(market) == text


def test_the_spellings_are_the_exchanges_own():
    spelled = {str(market): to_market_id(market) for market in MARKETS}
    assert spelled["binance:BTC-USDT"] == "BTCUSDT"
    assert spelled["bybit:SOL-USDT"] == "SOLUSDT"
    assert spelled["okx:ETH-USDT"] == "ETH-USDT"
    assert spelled["deribit:ETH-DVOL"] == "ETH"


def test_no_known_quote_is_the_ending_of_another():
    assert not [(a, b) for a in QUOTES for b in QUOTES if a != b and a.endswith(b)]


@pytest.mark.parametrize("text", ["deribit:SOL-DVOL", "deribit:BTC-USDT", "binance:BTC-DVOL", "binance:BTC-XYZ"])
def test_a_market_that_cannot_be_spelled_is_refused_by_name(text):
    with pytest.raises(InputError, match=text):
        to_market_id(Market.parse(text))


@pytest.mark.parametrize(
    ("exchange", "market_id"),
    [("binance", "USDT"), ("binance", "btcusdt"), ("bybit", ""), ("okx", "BTCUSDT"), ("okx", "BTC-USDT-SWAP"),
     ("okx", "BTC-DVOL"), ("deribit", "SOL"), ("deribit", "")],
)  # fmt: skip
def test_a_spelling_of_no_market_is_refused(exchange, market_id):
    with pytest.raises(InputError, match="expected"):
        from_market_id(Exchange(exchange), market_id)
