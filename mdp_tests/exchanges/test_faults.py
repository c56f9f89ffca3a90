"""What a source does when an exchange, or something in between, answers badly: a retry or an error, never a hole."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
from ccxt.base import errors as ccxt

from mdp.config.exchange_sections import ExchangeSettings
from mdp.domain.market import Exchange
from mdp.errors import ExchangeError, ExchangeUnavailable, PayloadError, RateLimited, RequestRejected
from mdp.exchanges import open_source
from mdp_tests.exchanges.harness import QUICK, EasyBudget, expected_ms, fetch, recent, with_source
from mdp_tests.exchanges.wires import NOW, WIRES, BinanceWire, BybitWire, OkxWire, Wire, row_at
from mdp_tests.support.scripted_exchange import Reply, Request

every_wire = pytest.mark.parametrize("wire_class", WIRES, ids=lambda wire: wire.exchange.value)

HTML = {"Content-Type": "text/html"}
PASSING: dict[str, Callable[[Wire, Request], Reply]] = {
    "html with status 200": lambda *_: Reply("<html><body>Just a moment...</body></html>", headers=HTML),
    "html that calls itself json": lambda *_: Reply("<html></html>"),
    "cut json": lambda wire, request: Reply(wire.candles(request)[:-40]),
    "cut in the middle of a number": lambda wire, request: Reply(wire.candles(request)[:75]),
    "empty body": lambda *_: Reply(""),
    "empty body without a type": lambda *_: Reply("", headers={}),
    "blank body": lambda *_: Reply("  \n"),
    "two answers in one": lambda wire, request: Reply(wire.candles(request) * 2),
    "connection broken in the body": lambda wire, request: replace(wire.answer(request), ending="cut"),
    "connection reset": lambda *_: Reply(ending="reset"),
    "no answer": lambda *_: Reply(ending="hang"),
    "500": lambda *_: Reply("oops", status=500, headers=HTML),
    "502 from a proxy": lambda *_: Reply("<html>bad gateway</html>", status=502, headers=HTML),
    "503": lambda *_: Reply("<html>maintenance</html>", status=503, headers=HTML),
    "504": lambda *_: Reply("", status=504),
    "408": lambda *_: Reply("", status=408),
    "429 with Retry-After": lambda *_: Reply("", status=429, headers={"Retry-After": "0.05"}),
}


@every_wire
@pytest.mark.parametrize("fault", PASSING)
def test_a_passing_fault_is_retried_and_nothing_is_lost(wire_class, fault):
    wire = wire_class()
    window = recent(wire, 30)
    seen = fetch(wire, window, [lambda request: PASSING[fault](wire, request)], timeout_s=0.2)
    assert seen.open_times_ms == expected_ms(window, wire)
    # CCXT's HTTP library repeats a request itself when a kept-alive connection breaks before an answer.
    assert len(seen.asked) in ((2, 3) if fault == "connection reset" else (2,))
    was_answered = fault not in ("connection broken in the body", "connection reset", "no answer")
    assert seen.fetched.requests == (2 if was_answered else 1)


@every_wire
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("html with status 200", PayloadError),
        ("cut json", PayloadError),
        ("empty body", PayloadError),
        ("503", ExchangeUnavailable),
        ("no answer", ExchangeUnavailable),
        ("connection reset", ExchangeUnavailable),
        ("429 with Retry-After", RateLimited),
    ],
)
def test_a_fault_that_does_not_pass_ends_after_the_attempts_with_an_error_that_may_be_retried_later(
    wire_class, fault, error
):
    wire = wire_class()
    script = [lambda request: PASSING[fault](wire, request)] * 12
    with pytest.raises(error) as caught:
        fetch(wire, recent(wire, 30), script, attempts=3, timeout_s=0.1)
    assert caught.value.exchange == wire.exchange.value
    assert caught.value.retryable


@every_wire
def test_a_request_is_tried_as_often_as_the_setting_says(wire_class):
    wire, asked = wire_class(), []

    def fail(request):
        asked.append(request)
        return Reply("", status=503)

    with pytest.raises(ExchangeUnavailable):
        fetch(wire, recent(wire, 30), [fail] * 9, attempts=3)
    assert len(asked) == 3


BROKEN: dict[str, tuple[Callable[[list], object], str]] = {
    "None in a price": (lambda row: [*row[:2], None, *row[3:]], "row 2, field high: expected `float`, got `null`"),
    "text in a price": (lambda row: [*row[:4], "n/a", *row[5:]], "row 2, field close: expected `float`, got `str`"),
    "NaN in a price": (lambda row: [*row[:1], "nan", *row[2:]], "row 2, field open: expected "),
    "one field less": (lambda row: row[:-1], "row 2: expected `array` of length"),
    "one field more": (lambda row: [*row, "0"], "row 2: expected `array` of length"),
    "None for a row": (lambda _: None, "row 2: expected `array`, got `null`"),
    "an object for a row": (lambda _: {"open": 1}, "row 2: expected `array`, got `object`"),
    "microseconds": (lambda row: [int(row[0]) * 1_000, *row[1:]], "row 2, field open_time: expected `int` <"),
    "no time": (lambda row: [None, *row[1:]], "row 2, field open_time: expected `int`, got `null`"),
}


@every_wire
@pytest.mark.parametrize("fault", BROKEN)
def test_a_row_that_is_not_a_candle_is_an_error_that_names_exchange_row_and_field(wire_class, fault):
    wire = wire_class()
    spoil, message = BROKEN[fault]
    window = recent(wire, 5)
    rows: list = [wire.spell(row_at(ms)) for ms in expected_ms(window, wire)]
    rows[2] = spoil(rows[2])
    asked = []

    def answer(request):
        asked.append(request)
        return Reply(wire.wrap(rows))

    with pytest.raises(PayloadError) as caught:
        fetch(wire, window, [answer] * 4)
    assert str(caught.value).startswith(f"{wire.exchange.value}: {message}")
    assert not caught.value.retryable
    assert len(asked) == 1


@every_wire
@pytest.mark.parametrize(
    "body", ['{"whatever": 1}', '"text"', "3", "null", '{"result": null, "code": "0", "retCode": 0}']
)
def test_an_answer_of_another_shape_is_an_error_and_not_a_hole(wire_class, body):
    wire = wire_class()
    with pytest.raises(PayloadError) as caught:
        fetch(wire, recent(wire, 5), [Reply(body)] * 4, attempts=2)
    assert "expected " in str(caught.value)
    assert body in str(caught.value)


@every_wire
def test_a_blocked_region_is_refused_at_once_and_says_what_to_do(wire_class):
    wire, asked = wire_class(), []

    def refuse(request):
        asked.append(request)
        return Reply('{"code": 0, "msg": "Service unavailable from a restricted location"}', status=451)

    with pytest.raises(RequestRejected, match=f"MDP_EXCHANGES__{wire.exchange.name}__REST_URL") as caught:
        fetch(wire, recent(wire, 5), [refuse] * 4)
    assert not caught.value.retryable
    assert len(asked) == 1


@every_wire
def test_a_long_wait_is_reported_at_once(wire_class):
    wire, asked = wire_class(), []

    def limit(request):
        asked.append(request)
        return Reply("", status=429, headers={"Retry-After": "61"})

    started = time.monotonic()
    with pytest.raises(RateLimited) as caught:
        fetch(wire, recent(wire, 5), [limit] * 4)
    assert caught.value.retry_after_s == 61
    assert len(asked) == 1
    assert time.monotonic() - started < 5


@every_wire
def test_a_short_wait_holds_the_other_pages_too(wire_class):
    wire = wire_class()
    limited = Reply("", status=429, headers={"Retry-After": "0.2"})
    slots = 4 * wire.max_rows
    seen = fetch(wire, recent(wire, slots), [limited], pages_in_flight=2)
    assert seen.fetched.rows.height == slots
    times = sorted(request.at_s for request in seen.asked)
    # Whoever was on its way when the answer came arrives; the next one comes when the wait is over.
    assert max(later - earlier for earlier, later in pairwise(times)) >= 0.18
    assert sum(moment < times[0] + 0.18 for moment in times) <= 2


@every_wire
def test_the_first_page_that_fails_stops_the_others_and_is_the_error(wire_class):
    wire, asked = wire_class(), []

    def refuse(request):
        asked.append(request)
        return Reply("{}", status=404)

    script = [None, refuse] + [lambda request: replace(wire.answer(request), delay_s=0.5)] * 30
    with pytest.raises(RequestRejected):
        fetch(wire, recent(wire, 20 * wire.max_rows), script, pages_in_flight=3)
    assert len(asked) == 1


@every_wire
def test_a_source_that_failed_can_be_asked_again(wire_class):
    wire = wire_class()
    window = recent(wire, 30)

    async def work(source):
        with pytest.raises(RequestRejected):
            await source.fetch(wire.market, wire.timeframe, window)
        return await source.fetch(wire.market, wire.timeframe, window)

    seen = with_source(wire, work, [Reply("{}", status=404)])
    assert seen.open_times_ms == expected_ms(window, wire)


@every_wire
def test_the_librarys_own_exception_stays_behind_ours(wire_class):
    wire = wire_class()
    with pytest.raises(ExchangeUnavailable) as caught:
        fetch(wire, recent(wire, 5), [Reply(ending="hang")] * 2, attempts=1, timeout_s=0.1)
    assert type(caught.value.__cause__).__module__.split(".")[0] in ("ccxt", "httpx", "builtins")
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize("wire_class", [wire for wire in WIRES if wire.exchange is not Exchange.DERIBIT])
def test_ccxts_exception_for_an_answer_stays_behind_ours(wire_class):
    wire = wire_class()
    with pytest.raises(ExchangeUnavailable) as caught:
        fetch(wire, recent(wire, 5), [Reply("", status=503)], attempts=1)
    assert isinstance(caught.value.__cause__, ccxt.ExchangeNotAvailable)


@every_wire
@pytest.mark.parametrize("ending", ["hang", "drip"])
def test_an_answer_is_not_waited_for_longer_than_the_setting_says(wire_class, ending):
    wire = wire_class()
    started = time.monotonic()
    with pytest.raises(ExchangeUnavailable):
        fetch(wire, recent(wire, 5), [Reply("x" * 1_000, ending=ending)], attempts=1, timeout_s=0.2)
    assert 0.2 <= time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("wire_class", "body"),
    [
        (OkxWire, '{"code":"50102","msg":"Timestamp expired","data":[]}'),
        (BybitWire, '{"retCode":10002,"retMsg":"time"}'),
    ],
)
def test_a_code_that_only_ccxt_knows_is_retried_when_ccxt_calls_it_passing(wire_class, body):
    wire = wire_class()
    window = recent(wire, 5)
    seen = fetch(wire, window, [Reply(body)])
    assert seen.open_times_ms == expected_ms(window, wire)
    assert len(seen.asked) == 2


@every_wire
def test_an_exchange_that_is_not_there_is_unavailable(wire_class):
    wire = wire_class()

    async def work():
        settings = ExchangeSettings(rest_url="http://127.0.0.1:9", attempts=2)
        async with open_source(wire.exchange, settings, clock=lambda: NOW, budget=EasyBudget(), waits=QUICK) as source:
            await source.fetch(wire.market, wire.timeframe, recent(wire, 3))

    with pytest.raises(ExchangeUnavailable, match="connect"):
        asyncio.run(work())


@every_wire
def test_a_clock_that_cannot_be_read_is_an_error_before_any_candle_is_asked(wire_class):
    wire = wire_class()
    wire.time = lambda: '{"later": true}'
    with pytest.raises(ExchangeError, match="expected"):
        fetch(wire, recent(wire, 3), attempts=2)


def test_an_error_quotes_no_more_than_the_beginning_of_a_body():
    wire = BinanceWire()
    with pytest.raises(PayloadError) as caught:
        fetch(wire, recent(wire, 3), [Reply("<html>" + "x" * 100_000)] * 4, attempts=1)
    assert len(str(caught.value)) < 600
