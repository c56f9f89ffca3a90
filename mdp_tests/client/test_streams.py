"""Streams over a real WebSocket: connections break, services restart, keys are wrong, and nothing is lost."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from contextlib import contextmanager

import httpx
import pytest
from websockets.asyncio.server import serve
from websockets.datastructures import Headers
from websockets.http11 import Response

from mdp.client import (
    AsyncClient,
    BadAnswer,
    BufferSnapshot,
    CandleUpdate,
    Client,
    Disconnected,
    NotFound,
    Retrying,
    Told,
    Unauthorized,
)  # fmt: skip
from mdp.client.address import Address
from mdp.client.course import Course
from mdp.client.following import Stream
from mdp.client.tracking import Tracker
from mdp.domain.timeframe import EPOCH
from mdp_tests.client.scripted import QUICK, arrow, problem, row, snapshot, stored, streaming, told
from mdp_tests.support.builders import at

BTC = "binance:BTC-USDT"


def history(request):
    """Storage that has every minute of the window asked for."""
    first, last = (
        int((at(request.url.params[name].removesuffix("Z")) - at("2024-12-30T10:00")).total_seconds() // 60)
        for name in ("start", "end")
    )
    return arrow(stored(first, last))


def client(url, answer=history, **options):
    return AsyncClient(url, **{"retrying": QUICK, **options}, transport=httpx.MockTransport(answer))


def says(*messages, then="close", heard=None):
    """A conversation: what is asked is kept, the messages are sent, then it closes or falls silent."""

    async def conversation(connection):
        asked = json.loads(await connection.recv())
        if heard is not None:
            heard.append((asked, connection.request.headers.get("authorization")))
        for message in messages:
            await connection.send(message)
        if then == "silence":
            await connection.wait_closed()
        elif then == "abort":
            connection.transport.abort()

    return conversation


async def take(updates, number):
    found = []
    async for update in updates:
        found.append(update)
        if len(found) == number:
            return found
    return found


def minute(update):
    return (update.candle.open_us - (at("2024-12-30T10:00") - EPOCH) // EPOCH.resolution) // 60_000_000


def kinds(updates):
    return [
        (minute(update), update.reason) if isinstance(update, CandleUpdate) else type(update).__name__
        for update in updates
    ]


def test_a_service_that_goes_and_comes_back_costs_no_candle():
    heard = []
    conversations = [
        says(snapshot(row(0), seq=1, size=3), told(2, row(1)), heard=heard, then="abort"),
        says(told(3, row(2)), told(4, row(3)), heard=heard),
        says(snapshot(*(row(one) for one in range(9, 13)), seq=30, size=3), heard=heard, then="silence"),
    ]

    async def follow():
        async with streaming(*conversations) as url, client(url) as asked, asked.stream(BTC) as updates:
            return await take(updates, 15)

    found = kinds(asyncio.run(follow()))
    assert found == [
        "BufferSnapshot", (1, "changed"), "Disconnected", (2, "changed"), (3, "changed"), "Disconnected",
        *((one, "history") for one in range(4, 9)), *((one, "read") for one in range(9, 13)),
    ]  # fmt: skip
    assert [asked.get("since") for asked, _ in heard] == [
        None, {"candles.binance.BTC-USDT.1m": 2}, {"candles.binance.BTC-USDT.1m": 4},
    ]  # fmt: skip


def test_a_connection_that_fell_silent_is_left():
    async def follow():
        quiet = says('{"type":"subscribed","heartbeat_s":0.01}', snapshot(row(0), seq=1), then="silence")
        again = says(snapshot(row(0), row(1), seq=2), then="silence")
        async with streaming(quiet, again) as url, client(url) as asked, asked.stream(BTC) as updates:
            return await take(updates, 3)

    found = asyncio.run(follow())
    assert kinds(found) == ["BufferSnapshot", "Disconnected", (1, "read")]
    assert "nothing was heard for 0.03 s" in str(found[1].error)


def test_waiting_for_an_update_may_be_given_up_without_losing_one():
    async def follow():
        gate = asyncio.Event()

        async def conversation(connection):
            await connection.recv()
            await connection.send(snapshot(row(0), seq=1))
            await gate.wait()
            await connection.send(told(2, row(1)))
            await connection.wait_closed()

        async with streaming(conversation) as url, client(url) as asked, asked.stream(BTC) as updates:
            found = [await anext(updates)]
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(updates), 0.01)
            gate.set()
            return [*found, await anext(updates)]

    assert kinds(asyncio.run(follow())) == ["BufferSnapshot", (1, "changed")]


def refusing(*answers):
    """A service that refuses the first connections, and then talks."""
    left = list(answers)

    def answer(connection, request):
        if not left:
            return None
        found = left.pop(0)
        return Response(found.status_code, "", Headers(found.headers.multi_items()), found.content)

    return answer


def follow_refused(*answers, key=None):
    async def follow():
        talk = says(snapshot(row(0), seq=1), then="silence")
        async with serve(talk, "127.0.0.1", 0, process_request=refusing(*answers)) as server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            async with client(url, key=key) as asked, asked.stream(BTC) as updates:
                return await take(updates, len(answers) + 1)

    return asyncio.run(follow())


def test_a_service_that_is_full_or_restarts_is_tried_again_as_late_as_it_says():
    found = follow_refused(problem(503, headers={"retry-after": "0"}, detail="all streams are taken"))
    assert isinstance(found[0], Disconnected)
    assert isinstance(found[1], BufferSnapshot)
    assert (found[0].error.status, "all streams are taken" in str(found[0].error)) == (503, True)


@pytest.mark.parametrize(("answer", "kind"), [(problem(401), Unauthorized), (problem(404), NotFound)])
def test_what_trying_again_cannot_help_ends_the_stream(answer, kind):
    with pytest.raises(kind) as caught:
        follow_refused(answer, key="mdp_1_verysecret")
    assert "verysecret" not in str(caught.value) + repr(caught.value.__cause__)


def test_a_redirect_is_not_followed_to_wherever_it_leads():
    with pytest.raises(BadAnswer, match="redirects are not followed"):
        follow_refused(httpx.Response(302, headers={"location": "/api/v1/elsewhere"}))


def test_no_key_is_logged_even_by_a_program_that_logs_everything(caplog):
    caplog.set_level(logging.DEBUG)
    assert follow_refused(key="mdp_1_verysecret")
    said = [record.getMessage() for record in caplog.records if record.name != "websockets.server"]  # the scripted one
    assert "verysecret" not in " ".join(said)


def test_a_service_that_greets_and_breaks_is_asked_ever_later_until_a_connection_lasts():
    now = [0.0]
    course = Course(Tracker(["candles.*.*.1m"], heartbeat_s=15), Retrying(), clock=lambda: now[0])

    def pause_after(lasts_s):
        course.opened()
        now[0] += lasts_s
        course.heard('{"type":"subscribed","heartbeat_s":15}')
        course.lost(OSError("gone"))
        return course.ready.pop().retry_in_s

    pauses = [pause_after(0.1) for _ in range(10)]
    assert pauses[0] <= 0.2
    assert pauses[-1] >= 15
    assert pause_after(60) <= 0.2


def test_what_never_spoke_as_the_service_does_is_not_waited_out():
    async def follow():
        talk = says('{"type":"heartbeat"}', "hello", then="silence")
        async with streaming(talk) as url, client(url) as asked, asked.stream(BTC) as updates:
            return await anext(updates)

    with pytest.raises(BadAnswer):
        asyncio.run(follow())


def test_what_stands_in_the_place_of_a_service_that_was_there_is_waited_out():
    """A server without the route refuses with an empty 403, a proxy with a page of its own."""

    async def follow():
        left = [
            None,
            httpx.Response(403),
            httpx.Response(404, content=b"<html>", headers={"content-type": "text/html"}),
        ]
        talks = [says(snapshot(row(0), seq=1), then="abort"), says(snapshot(row(0), row(1), seq=2), then="silence")]

        def refuse(connection, request):
            found = left.pop(0) if left else None
            return found and Response(found.status_code, "", Headers(found.headers.multi_items()), found.content)

        async def talk(connection):
            await talks.pop(0)(connection)

        async with serve(talk, "127.0.0.1", 0, process_request=refuse) as server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            async with client(url) as asked, asked.stream(BTC) as updates:
                return await take(updates, 5)

    found = asyncio.run(follow())
    assert kinds(found) == ["BufferSnapshot", "Disconnected", "Disconnected", "Disconnected", (1, "read")]


def test_a_service_that_is_not_there_is_tried_for_ever_with_longer_pauses():
    async def follow():
        patient = Retrying(first_pause_s=0.001, longest_pause_s=0.004)
        async with client("http://127.0.0.1:9", retrying=patient) as asked, asked.stream(BTC) as updates:
            return await take(updates, 8)

    found = asyncio.run(follow())
    assert {type(update) for update in found} == {Disconnected}
    assert 0.002 <= found[-1].retry_in_s <= 0.004
    assert found[-1].error.retryable


def test_candles_that_cannot_be_fetched_are_missing_only_after_some_patience():
    conversations = [
        says(snapshot(row(0), seq=1, size=1)),
        says(snapshot(row(8), row(9), seq=30, size=1), then="silence"),
    ]

    async def follow():
        async with streaming(*conversations) as url:
            asked = client(
                url, lambda request: problem(503, detail="storage is away"), retrying=Retrying(1, 0.001, 0.01)
            )
            async with asked, asked.stream(BTC) as updates:
                return await take(updates, 7)

    found = asyncio.run(follow())
    assert kinds(found) == [
        "BufferSnapshot", "Disconnected", "Disconnected", "Disconnected", "Missing", (8, "read"), (9, "read"),
    ]  # fmt: skip
    assert (found[4].slots, "storage is away" in found[4].detail) == (7, True)


def test_other_topics_are_followed_too_and_the_key_is_shown_to_the_service():
    heard = []
    talk = says('{"type":"generation","topic":"generation.3f9a","state":"running"}', heard=heard, then="silence")

    async def follow():
        async with streaming(talk) as url:
            asked = client(url, key="mdp_1_s")
            async with asked, asked.stream(topics="generation.3f9a") as updates:
                return await anext(updates)

    assert isinstance(asyncio.run(follow()), Told)
    assert heard == [({"op": "subscribe", "topics": ["generation.3f9a"]}, "Bearer mdp_1_s")]


@contextmanager
def serving(*conversations):
    """The service in a thread, for programs that wait."""
    address, ready, done = [], threading.Event(), threading.Event()

    async def serve_meanwhile():
        async with streaming(*conversations) as url:
            address.append(url)
            ready.set()
            await asyncio.to_thread(done.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve_meanwhile()))
    thread.start()
    try:
        ready.wait()
        yield address[0]
    finally:
        done.set()
        thread.join()


def test_a_program_that_waits_is_told_the_same():
    conversations = [
        says(snapshot(row(0), seq=1, size=3), told(2, row(1)), then="abort"),
        says(snapshot(*(row(one) for one in range(9, 13)), seq=30, size=3), then="silence"),
    ]
    with serving(*conversations) as url:
        asked = Client(url, retrying=QUICK, transport=httpx.MockTransport(history))
        with asked, asked.stream(BTC) as updates:
            found = [next(updates) for _ in range(14)]
            held = updates.buffer(BTC, "1m")
        assert list(updates) == []
    assert kinds(found) == [
        "BufferSnapshot", (1, "changed"), "Disconnected", *((one, "history") for one in range(2, 9)),
        *((one, "read") for one in range(9, 13)),
    ]  # fmt: skip
    assert (held.seq, held.frame().height) == (30, 4)


def test_a_stream_that_another_thread_closes_ends_at_once():
    """While it listens, and while it waits to connect."""
    with serving(says(snapshot(row(0), seq=1), then="silence")) as url:
        for address, first in ((url, BufferSnapshot), ("http://127.0.0.1:9", Disconnected)):
            with Client(address, retrying=Retrying(first_pause_s=600, longest_pause_s=600)) as asked:
                updates = asked.stream(BTC)
                assert isinstance(next(updates), first)
                closing = threading.Timer(0.02, updates.close)
                closing.start()
                assert list(updates) == []
                closing.join()


def test_a_stream_that_is_closed_while_it_connects_leaves_no_connection():
    streams, gone = [], threading.Event()

    async def talk(connection):
        await connection.wait_closed()
        gone.set()

    async def follow():
        def close(connection, request):
            streams[0].close()

        async with serve(talk, "127.0.0.1", 0, process_request=close) as server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            with Client(url) as asked:
                streams.append(asked.stream(BTC))
                assert await asyncio.to_thread(list, streams[0]) == []
                assert await asyncio.to_thread(gone.wait, 10)

    asyncio.run(follow())


def test_a_stream_that_is_closed_between_connecting_and_sending_ends():
    class ClosedOnceOpen(Course):
        def opened(self):
            super().opened()
            updates.close()

    with serving(says(then="silence")) as url:
        course = ClosedOnceOpen(Tracker(["candles.*.*.1m"], heartbeat_s=15), QUICK)
        updates = Stream(Address.of(url, None), course, list)
        assert list(updates) == []


def test_a_stream_that_another_task_closes_while_it_connects_leaves_no_connection():
    async def follow():
        gone = asyncio.Event()

        async def talk(connection):
            await connection.wait_closed()
            gone.set()

        async def close(connection, request):
            await updates.aclose()

        async with serve(talk, "127.0.0.1", 0, process_request=close) as server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            updates = client(url).stream(BTC)
            assert [one async for one in updates] == []
            await asyncio.wait_for(gone.wait(), 10)

    asyncio.run(follow())
