"""Asking: what is sent, which failures are worth a second question, what each answer that is none means."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import httpx
import pytest

from mdp.client import (
    ApiError,
    AsyncClient,
    BadAnswer,
    Client,
    Forbidden,
    NotFound,
    Retrying,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    Unreachable,
    WrongParameter,
)  # fmt: skip
from mdp.client.errors import error_of, retry_after_s
from mdp.errors import InputError
from mdp_tests.client.scripted import QUICK, arrow, asking, asking_async, buffer, problem, row, stored

BTC = "binance:BTC-USDT"
SECRET = "mdp_1_verysecret"
JSON = {"content-type": "application/json"}
LIVE = httpx.Response(200, json={"feeds": []})


@pytest.mark.parametrize(("status", "kind"), [
    (400, WrongParameter), (401, Unauthorized), (403, Forbidden), (404, NotFound), (406, WrongParameter),
    (422, WrongParameter), (429, TooManyRequests), (500, ApiError), (502, Unavailable), (503, Unavailable),
    (504, Unavailable),
])  # fmt: skip
def test_a_problem_becomes_an_error_that_says_all_of_it(status, kind):
    wrong = {"parameter": "timeframe", "got": "2m", "expected": "one of 1m", "allowed": ["1m"]}
    client, _ = asking([problem(status, errors=[wrong], headers={"retry-after": "0"})])
    with pytest.raises(ApiError) as caught:
        client.live()
    error = caught.value
    assert type(error) is kind
    assert (error.status, error.type, error.retry_after_s) == (status, "urn:mdp:problem:wrong-parameter", 0.0)
    assert str(error) == f"GET /api/v1/live answered {status}: timeframe: expected one of 1m, got '2m'"
    assert (error.errors[0].parameter, error.errors[0].allowed) == ("timeframe", ("1m",))
    assert error.retryable is (status in (429, 502, 503, 504))


@pytest.mark.parametrize("failure", [
    problem(503), problem(429), httpx.ConnectError("refused"), httpx.ReadTimeout("slow"),
    httpx.RemoteProtocolError("peer closed connection without sending complete message body"),
])  # fmt: skip
def test_what_may_pass_is_asked_again_and_what_will_not_is_not(failure):
    client, asked = asking([failure, failure, LIVE])
    assert (client.live(), len(asked)) == ({"feeds": []}, 3)
    client, asked = asking([failure])
    with pytest.raises((Unavailable, TooManyRequests)):
        client.live()
    assert len(asked) == QUICK.attempts
    client, asked = asking([problem(404), LIVE])
    with pytest.raises(NotFound):
        client.live()
    assert len(asked) == 1


def test_the_service_is_waited_for_as_long_as_it_says_but_not_longer_than_we_have_patience():
    client, asked = asking([problem(429, headers={"retry-after": "3600"}), LIVE])
    with pytest.raises(TooManyRequests) as caught:
        client.live()
    assert (caught.value.retry_after_s, len(asked)) == (3600.0, 1)
    patient = Retrying(first_pause_s=0.1, longest_pause_s=10)
    pauses = [patient.after(TooManyRequests("GET /", "", retry_after_s=2), 1) for _ in range(20)]
    assert all(2 < pause <= 2.05 for pause in pauses)
    assert len(set(pauses)) > 1
    assert all(0.2 <= patient.pause_s(3) <= 0.4 for _ in range(20))
    assert patient.pause_s(1_000) <= 10


def test_a_post_is_not_repeated_once_it_may_have_been_heard():
    client, asked = asking([httpx.ReadTimeout("slow")])
    with pytest.raises(Unreachable):
        client.generate(BTC, "2024-12-30", "2024-12-31")
    assert len(asked) == 1
    client, asked = asking([httpx.ConnectError("refused")])
    with pytest.raises(Unreachable):
        client.generate(BTC, "2024-12-30", "2024-12-31")
    assert len(asked) == QUICK.attempts


@pytest.mark.parametrize(("answer", "words"), [
    (httpx.Response(200, content=b"<html>busy</html>", headers={"content-type": "text/html"}), "text/html of 17 bytes"),
    (httpx.Response(200, content=b'{"feeds":', headers=JSON), "truncated"),
    (httpx.Response(200, content=b"[]", headers=JSON), "object"),
    (httpx.Response(200, content=b"\xff\xfe", headers=JSON), "malformed"),
    (httpx.Response(302, headers={"location": "https://elsewhere/"}), "redirects are not followed"),
    (httpx.Response(500, content=b"<html>", headers={"content-type": "text/html"}), "expected a problem"),
])  # fmt: skip
def test_what_is_no_answer_of_this_service_is_shown_and_not_asked_again(answer, words):
    client, asked = asking([answer])
    with pytest.raises(BadAnswer, match=words):
        client.live()
    assert len(asked) == 1


def test_a_page_of_a_proxy_keeps_its_status():
    page = httpx.Response(503, content=b"<html>down</html>", headers={"content-type": "text/html", "retry-after": "0"})
    client, asked = asking([page])
    with pytest.raises(Unavailable, match="<html>down"):
        client.live()
    assert len(asked) == QUICK.attempts


@pytest.mark.parametrize(("told", "seconds"), [
    ({}, None), ({"retry-after": "7"}, 7.0), ({"retry-after": "soon"}, None), ({"retry-after": "-1"}, None),
    ({"retry-after": "Sun, 06 Nov 1994 08:49:37 GMT"}, 0.0), ({"retry-after": "²"}, None),
])  # fmt: skip
def test_retry_after_is_read_in_both_forms(told, seconds):
    assert retry_after_s(told) == seconds


@pytest.mark.parametrize("body", [b"{", b"[]", b'"x"', b"\xff", b'{"errors": [1, {}], "detail": null}', b"{}"])
def test_a_broken_problem_still_becomes_an_error(body):
    found = error_of("GET /", 404, {"content-type": "application/problem+json; charset=utf-8"}, body)
    assert isinstance(found, NotFound)


def test_the_key_goes_with_each_question_and_is_never_shown():
    client, asked = asking([LIVE], key=SECRET)
    client.live()
    assert asked[0].headers["authorization"] == f"Bearer {SECRET}"
    failing, _ = asking([httpx.ConnectError("refused")], key=SECRET)
    with pytest.raises(Unreachable) as caught:
        failing.live()
    shown = [repr(client), repr(vars(client)), str(caught.value), repr(caught.value), repr(caught.value.__cause__)]
    assert not [text for text in shown if "verysecret" in text]
    with pytest.raises(InputError) as caught:
        Client(key=f"{SECRET}\nX-Evil: 1")
    assert "verysecret" not in str(caught.value)


@pytest.mark.parametrize("url", [
    "127.0.0.1:8000", "ftp://host", "http://", "http://user:verysecret@host", "http://host?x=1", "http://host:x", "",
])  # fmt: skip
def test_a_wrong_address_is_refused_before_anything_is_sent_and_without_its_password(url):
    with pytest.raises(InputError, match="url") as caught:
        Client(url)
    assert "verysecret" not in str(caught.value)


def test_a_service_below_a_path_is_asked_there():
    asked = []
    transport = httpx.MockTransport(lambda request: asked.append(str(request.url)) or LIVE)
    Client("https://desk.example/data/", transport=transport).live()
    assert asked == ["https://desk.example/data/api/v1/live"]


def test_nothing_is_packed_on_the_way_to_this_very_machine():
    client, asked = asking([LIVE])
    client.live()
    assert asked[0].headers["accept-encoding"] == "identity"
    far = httpx.MockTransport(lambda request: asked.append(request) or LIVE)
    Client("https://desk.example", transport=far).live()
    assert "gzip" in asked[1].headers["accept-encoding"]


@pytest.mark.parametrize(("call", "field"), [
    (lambda client: client.history("BTC", "1m", "2024-12-30"), "market"),
    (lambda client: client.history(None, "1m", "2024-12-30"), "market"),
    (lambda client: client.history(BTC, "2m", "2024-12-30"), "timeframe"),
    (lambda client: client.history(BTC, "1m", "yesterday"), "start"),
    (lambda client: client.history(BTC, "1m", "2024-12-30T10:00"), "start"),
    (lambda client: client.history(BTC, "1m", "2024-12-31", "2024-12-30"), "start"),
    (lambda client: client.history(BTC, "1m", "2024-12-30", columns=["price"]), "columns"),
    (lambda client: client.dvol("SOL", "2024-12-30"), "currency"),
    (lambda client: client.history("deribit:BTC-DVOL", "1m", "2024-12-30"), "market"),
    (lambda client: client.stream(timeframes=[]), "markets"),
    (lambda client: client.stream("binance:BTC"), "market"),
])  # fmt: skip
def test_a_wrong_argument_is_named_before_anything_is_sent(call, field):
    client, asked = asking([LIVE])
    with pytest.raises(InputError, match=field) as caught:
        call(client)
    assert (caught.value.field, asked) == (field, [])


def test_a_buffer_that_is_the_same_is_not_sent_twice():
    first = httpx.Response(200, json=buffer(row(0), row(1, state="forming"), seq=7), headers={"etag": '"7"'})
    second = httpx.Response(200, json=buffer(row(0), row(1), seq=8), headers={"etag": '"8"'})
    client, asked = asking([first, httpx.Response(304, headers={"etag": '"7"'}), second])
    one, two, three = (client.buffer(BTC, "1m") for _ in range(3))
    assert [request.headers.get("if-none-match") for request in asked] == [None, '"7"', '"7"']
    assert one == two
    assert (one.seq, three.seq, len(one.closed), len(three.closed)) == (7, 8, 1, 2)
    assert (one.newest.close, one.frame().height, one.is_stale) == (100.0, 2, False)


def test_a_buffer_is_read_by_its_columns_whatever_a_newer_service_adds():
    added = httpx.Response(200, json=buffer([*row(0), 1], columns=[*buffer()["columns"], "vwap"], mood="good"))
    plain = httpx.Response(200, json=buffer(row(0)))
    assert asking([added])[0].buffer(BTC, "1m") == asking([plain])[0].buffer(BTC, "1m")


@pytest.mark.parametrize("body", [
    buffer(row(1), row(0)), buffer(row(0), row(0)), buffer(row(0)[:5]), buffer(["x", *row(0)[1:]]),
    buffer(row(0), columns=["open_time"]), buffer([*row(0), 1], columns=[*buffer()["columns"], "a", "b"]),
    {**buffer(), "seq": "7"}, {**buffer(), "exchange": "nyse"}, [], buffer(row(0, state="guessed")),
])  # fmt: skip
def test_a_buffer_that_is_none_is_refused(body):
    client, _ = asking([httpx.Response(200, json=body)])
    with pytest.raises(BadAnswer, match="buffer"):
        client.buffer(BTC, "1m")


def test_a_304_nobody_asked_for_is_no_answer():
    client, _ = asking([httpx.Response(304)])
    with pytest.raises(ApiError):
        client.buffer(BTC, "1m")


def generation(state, done, **fields):
    return {"id": "3f9a", "state": state, "exchange": "binance", "symbol": "BTC-USDT", "start": "2024-12-28T00:00:00Z",
            "end": "2024-12-31T00:00:00Z", "days": 3, "days_done": done, **fields}  # fmt: skip


def test_a_generation_is_waited_for_and_each_state_told_once():
    soon = {"retry-after": "0"}
    states = [
        httpx.Response(202, json=generation("queued", 0), headers=soon),
        httpx.Response(200, json=generation("running", 1), headers=soon),
        httpx.Response(200, json=generation("running", 1), headers=soon),
        httpx.Response(200, json=generation("succeeded", 3)),
    ]
    client, asked = asking(states)
    heard = []
    found = client.generate(BTC, "2024-12-28", "2024-12-31", progress=heard.append)
    assert [(one.state, one.days_done) for one in heard] == [("queued", 0), ("running", 1), ("succeeded", 3)]
    assert (found.is_over, found.market.base, found.window.duration.days) == (True, "BTC", 3)
    assert [str(request.url.path) for request in asked[1:]] == ["/api/v1/generations/3f9a"] * 3
    client, asked = asking(states)
    assert client.generate(BTC, "2024-12-28", "2024-12-31", wait=False).state == "queued"
    assert len(asked) == 1


def test_a_service_that_restarts_while_a_generation_goes_on_is_waited_out():
    begun = httpx.Response(202, json=generation("running", 0), headers={"retry-after": "0"})
    client, asked = asking(
        [begun, *[httpx.ConnectError("refused")] * 7, httpx.Response(200, json=generation("failed", 2))]
    )
    assert client.generate(BTC, "2024-12-28", "2024-12-31").state == "failed"
    client, asked = asking([begun, httpx.ConnectError("refused")])
    with pytest.raises(Unreachable):
        client.generate(BTC, "2024-12-28", "2024-12-31")
    client, asked = asking([begun, problem(404)])
    with pytest.raises(NotFound):
        client.generate(BTC, "2024-12-28", "2024-12-31")
    assert len(asked) == 2


def test_a_name_cannot_lead_to_another_path():
    client, asked = asking([problem(404)])
    with pytest.raises(NotFound):
        client.snapshot("../../keys?x=1#y")
    assert asked[0].url.raw_path == b"/api/v1/snapshots/..%2F..%2Fkeys%3Fx%3D1%23y"


def test_a_service_that_is_not_ready_says_why():
    client, asked = asking([httpx.Response(503, json={"storage": "away"})])
    assert (client.service().is_ready, client.service().told["storage"], len(asked)) == (False, "away", 2)


def test_both_clients_ask_and_answer_the_same():
    def answer(request):
        path = request.url.path
        if path.endswith("/history"):
            return arrow(stored(0, 3))
        if "/buffer/" in path:
            return httpx.Response(200, json=buffer(row(0)), headers={"etag": '"1"'})
        return problem(404, detail=path)

    async def ask():
        async with asking_async(answer) as client:
            return (
                await client.history(BTC, "1m", "2024-12-30", "2024-12-31"),
                await client.buffer(BTC, "1m"),
                str(await _caught(client.live())),
            )

    with asking(answer)[0] as client:
        waited = (client.history(BTC, "1m", "2024-12-30", "2024-12-31"), client.buffer(BTC, "1m"))
        with pytest.raises(NotFound) as caught:
            client.live()
    found = asyncio.run(ask())
    assert found[0].equals(waited[0])
    assert found[1:] == (waited[1], str(caught.value))


async def _caught(call):
    try:
        await call
    except ApiError as error:
        return error


def test_both_clients_offer_the_same():
    def offered(kind):
        return {name for name in vars(kind) if not name.startswith("_")}

    assert offered(Client) == offered(AsyncClient)


@pytest.mark.slow
def test_the_client_is_light():
    code = "import sys, mdp.client; mdp.client.Client(); print(*(m in sys.modules for m in ('polars', 'websockets')))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).split() == ["False", "False"]
