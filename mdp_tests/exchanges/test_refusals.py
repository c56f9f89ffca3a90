"""What is refused for good: asked once, believed for as long as the source is open, and no further than it goes."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from mdp.domain.market import Market
from mdp.errors import ExchangeUnavailable, RequestRejected
from mdp.exchanges import open_source
from mdp.exchanges.binance import client as binance
from mdp.exchanges.bybit import client as bybit
from mdp.exchanges.deribit import client as deribit
from mdp.exchanges.okx import client as okx
from mdp.exchanges.refusals import Refusals
from mdp.exchanges.verdicts import Answer, Reach
from mdp_tests.exchanges.harness import QUICK, EasyBudget, expected_ms, recent, run, settings_for
from mdp_tests.exchanges.wires import NOW, BinanceWire, BybitWire, DeribitWire, OkxWire
from mdp_tests.support.scripted_exchange import Reply, ScriptedExchange

GEO_HTML = "<HTML><H1>403 ERROR</H1>The Amazon CloudFront distribution is configured to block access.</HTML>"
CURRENCY = '"data":{"reason":"wrong format","param":"currency"}'

# One refusal of each kind for each exchange; all others are in the table at the end.
REFUSED = [
    (BinanceWire, Reply('{"code":0,"msg":"restricted location"}', status=451), Reach.EXCHANGE),
    (BybitWire, Reply(GEO_HTML, status=403, headers={"Content-Type": "text/html"}), Reach.EXCHANGE),
    (OkxWire, Reply('{"code":"50051","msg":"local laws","data":[]}'), Reach.EXCHANGE),
    (DeribitWire, Reply('{"error":{"code":12005,"message":"country_is_banned"}}', status=400), Reach.EXCHANGE),
    (BinanceWire, Reply('{"code":-1121,"msg":"Invalid symbol."}', status=400), Reach.MARKET),
    (BybitWire, Reply('{"retCode":10001,"retMsg":"Not supported symbols","result":{}}'), Reach.MARKET),
    (OkxWire, Reply('{"code":"51001","msg":"Instrument ID does not exist","data":[]}'), Reach.MARKET),
    (DeribitWire, Reply('{"error":{"code":-32602,"message":"Invalid",' + CURRENCY + "}}", status=400), Reach.MARKET),
]
NAMES = ("symbol", "instId", "currency")
IDS = [f"{wire.exchange.value}-{reach.value}" for wire, _, reach in REFUSED]


def _use(wire, answer, work):
    """Return what ``work`` makes of a source, and all that reached the exchange."""

    async def main():
        async with ScriptedExchange(answer) as server:
            settings = settings_for(server.url, wire, pages_in_flight=16)
            source_ = open_source(wire.exchange, settings, clock=lambda: NOW, budget=EasyBudget(), waits=QUICK)
            async with source_ as source:
                return await work(source), server.requests

    return run(main())


@pytest.mark.parametrize(("wire_class", "reply", "reach"), REFUSED, ids=IDS)
def test_a_refusal_for_good_takes_two_requests_and_nothing_it_reaches_is_asked_again(wire_class, reply, reach):
    wire = wire_class()
    window = recent(wire, 20 * wire.max_rows)
    other = Market.parse(f"{wire.exchange.value}:ETH-{wire.market.quote}")
    seen, asked = [], []

    async def work(source):
        for market in (wire.market, wire.market, other, wire.market):
            with pytest.raises(RequestRejected) as caught:
                await source.fetch(market, wire.timeframe, window)
            seen.append(caught.value)

    def answer(request):
        asked.append(next((request.query[name] for name in NAMES if name in request.query), "the clock")[:3])
        return wire.answer(request) if wire.is_time(request) else reply

    _use(wire, answer, work)
    assert asked == (["the", "BTC"] if reach is Reach.EXCHANGE else ["the", "BTC", "ETH"])
    assert {type(error) for error in seen} == {RequestRejected}
    assert not any(error.retryable for error in seen)
    assert str(seen[0]) in str(seen[1])
    assert ["is not asked again" in str(error) for error in seen] == [False, True, reach is Reach.EXCHANGE, True]


@pytest.mark.parametrize(("wire_class", "reply"), [line[:2] for line in REFUSED[:4]], ids=IDS[:4])
def test_a_region_that_is_refused_at_the_clock_takes_one_request(wire_class, reply):
    wire = wire_class()

    async def work(source):
        for _ in range(2):
            with pytest.raises(RequestRejected, match="REST_URL"):
                await source.fetch(wire.market, wire.timeframe, recent(wire, 5))

    _, requests = _use(wire, lambda _: reply, work)
    assert len(requests) == 1


def test_pages_go_side_by_side_once_the_market_has_answered():
    wire = BinanceWire()
    window = recent(wire, 4 * wire.max_rows)
    asked = []

    def answer(request):
        if wire.is_time(request):
            return wire.answer(request)
        asked.append(request)
        return replace(wire.answer(request), delay_s=0.4 if len(asked) == 2 else 0)

    async def work(source):
        await source.fetch(wire.market, wire.timeframe, recent(wire, 5))
        fetched = await source.fetch(wire.market, wire.timeframe, window)
        assert fetched.rows["open_time"].dt.epoch("ms").to_list() == expected_ms(window, wire)

    _use(wire, answer, work)
    assert len(asked) == 5
    # Whoever waits for the first of the second fetch comes after its answer.
    assert max(request.at_s for request in asked[2:]) < asked[1].at_s + 0.4


def test_a_region_that_is_revoked_meanwhile_ends_what_is_left():
    wire = BinanceWire()
    window = recent(wire, 40 * wire.max_rows)
    asked = []

    def answer(request):
        if wire.is_time(request):
            return wire.answer(request)
        asked.append(request)
        return wire.answer(request) if len(asked) <= 3 else Reply("", status=451)

    async def work(source):
        for _ in range(3):
            with pytest.raises(RequestRejected):
                await source.fetch(wire.market, wire.timeframe, window)

    _use(wire, answer, work)
    assert len(asked) <= 3 + 16  # what was under way


def test_a_failure_that_passes_is_no_refusal():
    wire = BinanceWire()
    replies = [Reply("", status=503)] * 4

    async def work(source):
        with pytest.raises(ExchangeUnavailable):
            await source.fetch(wire.market, wire.timeframe, recent(wire, 5))
        return await source.fetch(wire.market, wire.timeframe, recent(wire, 5))

    def answer(request):
        return replies.pop() if replies and not wire.is_time(request) else wire.answer(request)

    fetched, _ = _use(wire, answer, work)
    assert fetched.rows.height == 5


def test_two_markets_at_once_are_both_told():
    wire = BybitWire()
    other = Market.parse("bybit:ETH-USDT")

    async def work(source):
        return await asyncio.gather(
            *(source.fetch(market, wire.timeframe, recent(wire, 5)) for market in (wire.market, other)),
            return_exceptions=True,
        )

    results, requests = _use(wire, lambda _: Reply(GEO_HTML, status=403), work)
    assert [type(result) for result in results] == [RequestRejected, RequestRejected]
    assert len(requests) == 1


def _said(code):
    return f'{{"code":{code},"msg":"as it says"}}'


REACHES = [
    *((client, 451, "", Reach.EXCHANGE) for client in (binance, bybit, okx, deribit)),
    (bybit, 403, GEO_HTML, Reach.EXCHANGE),
    (bybit, 200, '{"retCode":10009,"retMsg":"IP has been banned"}', Reach.EXCHANGE),
    (bybit, 200, '{"retCode":10024,"retMsg":"Compliance rules triggered"}', Reach.EXCHANGE),
    (okx, 200, _said('"50051"'), Reach.EXCHANGE),
    (okx, 403, _said('"50121"'), Reach.EXCHANGE),
    (deribit, 400, '{"error":{"code":12005,"message":"country_is_banned"}}', Reach.EXCHANGE),
    (binance, 400, _said(-1121), Reach.MARKET),
    (bybit, 200, '{"retCode":10001,"retMsg":"params error: Symbol Invalid"}', Reach.MARKET),
    (bybit, 200, '{"retCode":10029,"retMsg":"The requested symbol is invalid"}', Reach.MARKET),
    (okx, 200, _said('"51001"'), Reach.MARKET),
    (deribit, 400, '{"error":{"code":-32602,"message":"Invalid params",' + CURRENCY + "}}", Reach.MARKET),
    *((client, 404, body, Reach.REQUEST) for client in (binance, bybit, okx, deribit) for body in ("", "<html>", "{}")),
    (binance, 400, _said(-1120), Reach.REQUEST),
    (bybit, 200, '{"retCode":10001,"retMsg":"params error: start invalid"}', Reach.REQUEST),
    (okx, 400, _said('"51000"'), Reach.REQUEST),
    (deribit, 400, '{"error":{"code":-32602,"message":"Invalid params","data":{"param":"resolution"}}}', Reach.REQUEST),
    (deribit, 400, '{"error":{"code":-32602,"message":"Invalid params"}}', Reach.REQUEST),
]


@pytest.mark.parametrize(("client", "status", "body", "expected"), REACHES)
def test_a_refusal_reaches_as_far_as_what_it_says(client, status, body, expected):
    assert client.reach_of(Answer(status, {}, body, NOW)) is expected


def test_a_refusal_that_is_not_to_last_is_asked_again():
    lasting, brief = Refusals(), Refusals(last_s=0.0)
    for one in (lasting, brief):
        one.remember(RequestRejected("binance", "restricted"), Reach.EXCHANGE, None)
    with pytest.raises(RequestRejected, match="refused before"):
        lasting.check(Market.parse("binance:BTC-USDT"))
    brief.check(Market.parse("binance:BTC-USDT"))
