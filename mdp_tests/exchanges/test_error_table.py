"""Every answer that an exchange can give in place of candles, over a real connection: what it is to us, whether asking
again can help, and how long everybody at this address is held.

The bytes and what to do about them are from the exchanges' documents and reports of users (``docs/exchanges``); what
CCXT's own classes say is often something else. Not here: the tables line by line (``test_verdicts``).
"""

from __future__ import annotations

import pytest

from mdp.config.exchange_sections import ExchangeSettings
from mdp.errors import ExchangeError
from mdp.exchanges.asking import Asker, Question
from mdp.exchanges.binance import client as binance
from mdp.exchanges.bybit import client as bybit
from mdp.exchanges.deribit import client as deribit
from mdp.exchanges.frames import Asked
from mdp.exchanges.okx import client as okx
from mdp_tests.exchanges.harness import QUICK, EasyBudget, run
from mdp_tests.exchanges.test_parse import PARSE
from mdp_tests.exchanges.wires import NOW, BinanceWire, BybitWire, DeribitWire, OkxWire
from mdp_tests.support.scripted_exchange import Reply, ScriptedExchange

HTML = "<html><body>Just a moment...</body></html>"
IS_HTML = {"Content-Type": "text/html"}
NOW_MS = int(NOW.timestamp() * 1_000)

GONE = ("ExchangeUnavailable", "a retry can help", None)
REFUSED = ("RequestRejected", "no retry", None)
GARBLED = ("PayloadError", "a retry can help", None)


def held(seconds):
    return ("RateLimited", "a retry can help", seconds)


def _html(status, headers=None):
    return Reply(HTML, status=status, headers={**IS_HTML, **(headers or {})})


def _after(seconds):
    return {"Content-Type": "application/json", "Retry-After": str(seconds)}


def _said(code, status, headers=None):
    return Reply(f'{{"code":{code},"msg":"as it says"}}', status=status, headers=headers or {})


def _bybit(code, text="as it says", status=200, headers=None):
    body = f'{{"retCode":{code},"retMsg":"{text}","result":{{}},"retExtInfo":{{}},"time":{NOW_MS}}}'
    return Reply(body, status=status, headers=headers or {"Content-Type": "application/json"})


def _deribit(code, status=400):
    return Reply(f'{{"jsonrpc":"2.0","error":{{"code":{code},"message":"as it says"}},"usIn":1}}', status=status)


ANYWHERE = {
    "200, a page of html": (_html(200), GARBLED),
    "200, html that calls itself json": (Reply(HTML), GARBLED),
    "200, cut json": (Reply('[[1735646400000,"4'), GARBLED),
    "200, empty": (Reply(""), GARBLED),
    "no answer": (Reply(ending="hang"), GONE),
    "reset": (Reply(ending="reset"), GONE),
    "broken off in the body": (Reply("x" * 100, ending="cut"), GONE),
    "503, a page of html": (_html(503), GONE),
    "500, empty": (Reply("", status=500), GONE),
    "504, empty": (Reply("", status=504), GONE),
    "451": (_html(451), REFUSED),
}
TABLES = {
    BinanceWire: {
        **ANYWHERE,
        "429, -1003, Retry-After": (_said(-1003, 429, _after(7)), held(7)),
        "429, -1003": (_said(-1003, 429), held(60)),
        "418, -1003, Retry-After": (_said(-1003, 418, _after(300)), held(300)),
        "418, -1003": (_said(-1003, 418), held(120)),
        "403, firewall": (_html(403), held(300)),
        "504, -1007": (_said(-1007, 504), GONE),
        "503, -1008": (_said(-1008, 503), GONE),
        "400, -1000": (_said(-1000, 400), GONE),
        "400, -1001": (_said(-1001, 400), GONE),
        "400, -1016": (_said(-1016, 400), GONE),
        "400, -1121": (_said(-1121, 400), REFUSED),
        "400, -1120": (_said(-1120, 400), REFUSED),
        "200, an object": (Reply('{"oops":1}'), GARBLED),
        "200, an object with a code": (_said(-9999, 200), GARBLED),
    },
    BybitWire: {
        **ANYWHERE,
        "403, too frequent": (Reply("403, access too frequent", status=403, headers={}), held(600)),
        "403, geo": (_html(403), REFUSED),
        "10006, reset header": (
            _bybit(10006, headers={"X-Bapi-Limit-Reset-Timestamp": str(NOW_MS + 2_500)}),
            held(2.5),
        ),
        "10006": (_bybit(10006), held(5)),
        "10018": (_bybit(10018), held(600)),
        "429, json": (_bybit(10429, status=429), held(10)),
        "429, json, Retry-After": (_bybit(10429, status=429, headers=_after(7)), held(7)),
        "429, json of an unknown code": (_bybit(777, status=429), held(10)),
        "429, empty": (Reply("", status=429), held(10)),
        "10000": (_bybit(10000), GONE),
        "10016": (_bybit(10016), GONE),
        "10001": (_bybit(10001), REFUSED),
        "10001, symbol": (_bybit(10001, "Not supported symbols"), REFUSED),
        "10009": (_bybit(10009), REFUSED),
        "10024": (_bybit(10024), REFUSED),
        "10027": (_bybit(10027), REFUSED),
        "10029": (_bybit(10029), REFUSED),
    },
    OkxWire: {
        **ANYWHERE,
        "50011 with 200": (_said('"50011"', 200), held(2)),
        "50011 with 429": (_said('"50011"', 429), held(2)),
        "50011 with 429, Retry-After": (_said('"50011"', 429, _after(9)), held(9)),
        "429, html": (_html(429), held(10)),
        "50013": (_said('"50013"', 429), held(10)),
        "50013, Retry-After": (_said('"50013"', 429, _after(7)), held(7)),
        "50001, Retry-After": (_said('"50001"', 503, _after(7)), held(7)),
        "50005": (_said('"50005"', 410), GONE),
        "50026": (_said('"50026"', 500), GONE),
        "403, firewall": (_html(403), held(300)),
        "50001": (_said('"50001"', 503), GONE),
        "50004": (_said('"50004"', 400), GONE),
        "50040": (_said('"50040"', 200), GONE),
        "50051": (_said('"50051"', 200), REFUSED),
        "50121": (_said('"50121"', 403), REFUSED),
        "51000": (_said('"51000"', 400), REFUSED),
        "51001": (_said('"51001"', 200), REFUSED),
    },
    DeribitWire: {
        **ANYWHERE,
        "10028 with 429": (_deribit(10028, 429), held(5)),
        "429, text, Retry-After": (Reply("Too Many Requests", status=429, headers=_after(3)), held(3)),
        "10040": (_deribit(10040), GONE),
        "10041": (_deribit(10041), GONE),
        "11051": (_deribit(11051), GONE),
        "-32602": (_deribit(-32602), REFUSED),
        "11050": (_deribit(11050), REFUSED),
        "12005": (_deribit(12005), REFUSED),
    },
}
OPEN = {
    BinanceWire: binance.open_client,
    BybitWire: bybit.open_client,
    OkxWire: okx.open_client,
    DeribitWire: deribit.DeribitClient,
}
ENDPOINTS = {
    BinanceWire: "publicGetKlines",
    BybitWire: "publicGetV5MarketKline",
    OkxWire: "publicGetMarketCandles",
    DeribitWire: "/api/v2/public/get_volatility_index_data",
}


async def _meaning(client, wire):
    """Return what the next answer is to us, and for how long everybody was held."""
    budget = EasyBudget()
    asker = Asker(wire.exchange, budget, lambda _: None, ExchangeSettings(attempts=1), QUICK)
    asked = Asked(wire.market, wire.timeframe, NOW, NOW)
    question = Question(lambda: client.send(ENDPOINTS[type(wire)], {}), {})
    with pytest.raises(ExchangeError) as caught:
        await asker.ask(question, lambda answer: PARSE[type(wire)](answer.body, asked))
    error = caught.value
    seconds = getattr(error, "retry_after_s", None)
    assert error.exchange == wire.exchange.value
    assert [said[0] for said in budget.cooled] == ([] if seconds is None else [seconds])
    assert all(len(leave.ends) == 1 for leave in budget.given)
    return type(error).__name__, "a retry can help" if error.retryable else "no retry", seconds


@pytest.mark.parametrize("wire_class", TABLES, ids=lambda wire: wire.exchange.value)
def test_every_answer_that_is_not_candles_is_what_the_table_says(wire_class):
    wire, table = wire_class(), TABLES[wire_class]
    script = []

    async def main():
        async with ScriptedExchange(lambda _: script[0]) as server:
            settings = ExchangeSettings(rest_url=server.url, timeout_s=0.15)
            client = OPEN[wire_class](settings, lambda: NOW)
            found = {}
            for answer, (reply, _) in table.items():
                script[:] = [reply]
                found[answer] = await _meaning(client, wire)
            await client.close()
            return found

    assert run(main()) == {answer: meaning for answer, (_, meaning) in table.items()}


@pytest.mark.parametrize("wire_class", [BinanceWire, BybitWire, OkxWire], ids=lambda wire: wire.exchange.value)
def test_a_client_keeps_no_more_connections_than_pages_in_flight(wire_class):
    async def main():
        async with ScriptedExchange(lambda _: Reply("[]")) as server:
            client = OPEN[wire_class](ExchangeSettings(rest_url=server.url, pages_in_flight=7), lambda: NOW)
            await client.send(ENDPOINTS[wire_class], {})
            limit = client._ccxt.session.connector.limit
            await client.close()
            return limit

    assert run(main()) == 7
