"""What requests cost, and what answers say of the quota."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from mdp.domain.market import Exchange
from mdp.domain.quota import Usage
from mdp.errors import InputError
from mdp.exchanges import quotas_of
from mdp.exchanges.binance import quota as binance
from mdp.exchanges.bybit import quota as bybit
from mdp.exchanges.deribit import quota as deribit
from mdp.exchanges.okx import quota as okx
from mdp.exchanges.verdicts import Answer

NOW = datetime(2025, 1, 15, 12, 0, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1_000)
MODULES = {Exchange.BINANCE: binance, Exchange.BYBIT: bybit, Exchange.OKX: okx, Exchange.DERIBIT: deribit}

# endpoint -> name of the quota: (what a request costs of it, how many such requests fit into its window)
DOCUMENTED = [
    (Exchange.BINANCE, "publicGetKlines", {"weight": (2, 3_000), "raw_requests": (1, 300_000)}),
    (Exchange.BINANCE, "publicGetTime", {"weight": (1, 6_000), "raw_requests": (1, 300_000)}),
    (Exchange.BINANCE, "publicGetExchangeInfo", {"weight": (20, 300), "raw_requests": (1, 300_000)}),
    (Exchange.BYBIT, "publicGetV5MarketKline", {"requests": (1, 600)}),
    (Exchange.BYBIT, "publicGetV5MarketTime", {"requests": (1, 600)}),
    (Exchange.OKX, "publicGetMarketCandles", {"market/candles": (1, 40)}),
    (Exchange.OKX, "publicGetMarketHistoryCandles", {"market/history-candles": (1, 20)}),
    (Exchange.OKX, "publicGetPublicTime", {"public/time": (1, 10)}),
    (Exchange.OKX, "publicGetPublicMarketDataHistory", {"public/market-data-history": (1, 5)}),
    (Exchange.DERIBIT, "/api/v2/public/get_volatility_index_data", {"credits": (500, 100)}),
    (Exchange.DERIBIT, "/api/v2/public/get_time", {"credits": (500, 100)}),
]
WINDOWS_S = {Exchange.BYBIT: {5}, Exchange.OKX: {2}, Exchange.DERIBIT: {5}, Exchange.BINANCE: {60, 300}}


@pytest.mark.parametrize(("exchange", "endpoint", "expected"), DOCUMENTED)
def test_a_request_costs_what_the_documents_say(exchange, endpoint, expected):
    amounts = {quota.name: quota.amount for quota in quotas_of(exchange)}
    costs = MODULES[exchange].costs(endpoint)
    assert {name: (cost, amounts[name] / cost) for name, cost in costs.items()} == expected


@pytest.mark.parametrize("exchange", list(Exchange))
def test_every_quota_has_a_name_of_its_own_and_the_documented_window(exchange):
    quotas = quotas_of(exchange)
    assert len({quota.name for quota in quotas}) == len(quotas)
    assert {quota.window_s for quota in quotas} == WINDOWS_S[exchange]
    assert [quota.name for quota in quotas if quota.is_calendar] == (["weight"] if exchange == "binance" else [])


@pytest.mark.parametrize("module", [binance, okx])
def test_an_endpoint_whose_cost_is_not_known_is_refused_by_name(module):
    with pytest.raises(InputError, match=r"endpoint: expected one of publicGet.*, got 'publicGetTrades'"):
        module.costs("publicGetTrades")


LIMIT, LEFT, RESET = "x-bapi-limit", "x-bapi-limit-status", "x-bapi-limit-reset-timestamp"
SAID = [
    (binance, {"x-mbx-used-weight-1m": "1234"}, Usage("weight", used=1_234)),
    (binance, {"x-mbx-used-weight-1m": "0"}, Usage("weight", used=0)),
    (binance, {"x-mbx-used-weight-1m": ""}, None),
    (binance, {"x-mbx-used-weight-1m": "many"}, None),
    (binance, {"x-mbx-used-weight-1m": "-3"}, None),
    (binance, {"x-mbx-used-weight-1m": "٣"}, None),  # a digit, and no number of Binance's
    (binance, {}, None),
    (bybit, {LIMIT: "600", LEFT: "599", RESET: str(NOW_MS)}, Usage("requests", left=599)),
    (bybit, {LIMIT: "600", LEFT: "0", RESET: str(NOW_MS + 2_500)}, Usage("requests", left=0, resets_in_s=2.5)),
    (bybit, {LIMIT: "600", LEFT: "7", RESET: str(NOW_MS + 2_500)}, Usage("requests", left=7)),
    (bybit, {LIMIT: "600", LEFT: "0", RESET: str(NOW_MS + 6_000)}, Usage("requests", left=0)),  # not this window's
    (bybit, {LIMIT: "600", LEFT: "0", RESET: str(NOW_MS - 1)}, Usage("requests", left=0)),
    (bybit, {LIMIT: "600", LEFT: "0", RESET: "soon"}, Usage("requests", left=0)),
    (bybit, {LIMIT: "600", LEFT: "0"}, Usage("requests", left=0)),
    (bybit, {LIMIT: "100", LEFT: "99"}, None),  # an account's limit of one endpoint
    (bybit, {LEFT: "99"}, None),
    (bybit, {LIMIT: "600"}, None),
    (bybit, {}, None),
    (okx, {"x-ratelimit-remaining": "5"}, None),
    (deribit, {}, None),
]


@pytest.mark.parametrize(("module", "headers", "expected"), SAID)
def test_what_an_answer_says_of_the_quota_is_read_and_anything_else_is_not(module, headers, expected):
    assert module.read_usage(Answer(200, headers, "[]", NOW)) == expected
