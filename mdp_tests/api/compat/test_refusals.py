"""What is refused before a route is reached, and how much of a minute a client has used."""

from __future__ import annotations

import json

import pytest

from mdp.api.compat.refusals import refusal
from mdp.api.compat.weights import Weights


@pytest.mark.parametrize(
    ("path", "status", "answered", "code"),
    [
        ("/compat/binance/api/v3/klines", 429, 429, ("code", -1003)),
        ("/compat/binance/api/v3/klines", 401, 401, ("code", -2015)),
        ("/compat/bybit/v5/market/kline", 429, 429, ("retCode", 10006)),
        ("/compat/bybit/v5/market/kline", 403, 401, ("retCode", 10005)),
        ("/compat/okx/api/v5/market/candles", 429, 429, ("code", "50011")),
        ("/compat/okx", 503, 503, ("code", "50001")),
        ("/compat/okx/", 418, 418, ("code", "50026")),
    ],
)
def test_a_refusal_speaks_the_exchanges_language(path, status, answered, code):
    response = refusal(path, status, "why", 2.5)
    name, value = code
    body = json.loads(response.body)
    assert (response.status_code, body[name], response.headers["retry-after"]) == (answered, value, "3")
    assert "why" in body.values()


@pytest.mark.parametrize("path", ["/api/v1/compat/binance", "/compat", "/compat/deribit/x", "/compat/binancex", "/"])
def test_elsewhere_refusals_are_ours(path):
    assert refusal(path, 404, "why") is None


def test_weight_is_counted_for_each_client_and_minute():
    now = [600.0]
    weights = Weights(lambda: now[0])
    assert [weights.take("a", 2), weights.take("b", 20), weights.take("a", 2)] == [2, 20, 4]
    assert weights.until_next_s() == 60
    now[0] = 660.0
    assert weights.take("a", 2) == 2


def test_made_up_clients_do_not_take_memory_without_end():
    weights = Weights(lambda: 0.0)
    for number in range(10_050):
        weights.take(str(number), 1)
    assert weights.take("another", 1) == 51
