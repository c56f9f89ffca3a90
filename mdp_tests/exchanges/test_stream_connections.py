"""Connections of streams against a scripted server: what they cost, and how they end."""

from __future__ import annotations

import asyncio
import gc
import json
import math
import resource
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from mdp.config.exchange_sections import ExchangeSettings
from mdp.domain.market import Exchange, Market
from mdp.errors import ConfigError, ExchangeUnavailable, InputError, PayloadError, RateLimited, RequestRejected
from mdp.exchanges import open_stream
from mdp.exchanges.bybit.stream import judge_handshake
from mdp.exchanges.stream_failures import explain
from mdp.exchanges.stream_wire import Closed, Silent
from mdp.exchanges.verdicts import Answer
from mdp_tests.exchanges.streaming import SteadyClock, watching

Behave = Callable[[web.WebSocketResponse], Awaitable[None]]
NOW = SteadyClock()()
KLINE = (
    '{"e":"kline","E":1672515782136,"s":"BTCUSDT","k":{"t":1672515780000,"T":1672515839999,"s":"BTCUSDT","i":"1m",'
    '"f":100,"L":200,"o":"16849.10","c":"16850.20","h":"16851.00","l":"16848.00","v":"12.34567","n":100,"x":false,'
    '"q":"208000.1234","V":"500","Q":"0.500","B":"0"}}'
)


@asynccontextmanager
async def serving(behave: Behave) -> AsyncIterator[str]:
    async def connected(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(autoping=True)
        await socket.prepare(request)
        await behave(socket)
        return socket

    application = web.Application()
    application.router.add_get("/{path:.*}", connected)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        yield f"ws://127.0.0.1:{port}/stream"
    finally:
        await runner.cleanup()


async def accept(socket: web.WebSocketResponse) -> None:
    asked = json.loads((await socket.receive()).data)
    await socket.send_str(json.dumps({"result": None, "id": asked["id"]}))


async def never_end(socket: web.WebSocketResponse) -> None:
    async for _ in socket:
        pass


@pytest.mark.slow
def test_twenty_thousand_messages_leave_no_memory_behind_and_cost_little():
    count, rounds = 5_000, 4

    async def push(socket: web.WebSocketResponse) -> None:
        await accept(socket)
        for _ in range(rounds):
            await asyncio.sleep(0.2)
            for _ in range(count):
                await socket.send_str(KLINE)
        await never_end(socket)

    async def run() -> list[int]:
        heard = 0
        sizes: list[int] = []

        def take(_: object) -> None:
            nonlocal heard
            heard += 1

        async with serving(push) as url:
            settings = ExchangeSettings(ws_url=url, timeout_s=5)
            async with open_stream(Exchange.BINANCE, settings, clock=SteadyClock()) as stream:
                task = asyncio.create_task(stream.watch(Market.parse("binance:BTC-USDT"), take))
                for number in range(1, rounds + 1):
                    while heard < number * count:
                        assert not task.done(), task
                        await asyncio.sleep(0.01)
                    gc.collect()
                    sizes.append(tracemalloc.get_traced_memory()[0])
                await stream.drop("done")
                with pytest.raises(ExchangeUnavailable):
                    await task
        return sizes

    tracemalloc.start()
    try:
        sizes = asyncio.run(run())
    finally:
        tracemalloc.stop()
    print(f"bytes held after each {count} messages: {sizes}")
    assert sizes[-1] - sizes[0] < 64_000


@pytest.mark.slow
def test_the_cost_of_a_message_is_printed():
    count = 10_000

    async def run() -> float:
        wires = []

        async def push(socket: web.WebSocketResponse) -> None:
            await accept(socket)
            # written at once by the server, so that what is measured afterwards is reading alone
            transport = socket._req.transport
            payload = KLINE.encode()
            frame = bytes([0x81, 126]) + len(payload).to_bytes(2, "big") + payload
            wires.append(resource.getrusage(resource.RUSAGE_SELF))
            transport.write(frame * count)
            await never_end(socket)

        heard = 0
        done = asyncio.Event()

        def take(_: object) -> None:
            nonlocal heard
            heard += 1
            if heard == count:
                wires.append(resource.getrusage(resource.RUSAGE_SELF))
                done.set()

        async with serving(push) as url:
            stream = open_stream(Exchange.BINANCE, ExchangeSettings(ws_url=url), clock=SteadyClock())
            async with stream:
                task = asyncio.create_task(stream.watch(Market.parse("binance:BTC-USDT"), take))
                await asyncio.wait_for(done.wait(), 30)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        spent = [used.ru_utime + used.ru_stime for used in wires]
        return (spent[1] - spent[0]) / count

    each_s = asyncio.run(run())
    print(f"CPU a message, from the socket to the sink: {each_s * 1e6:.0f} us")
    assert each_s < 1e-3


@pytest.mark.slow
def test_a_connection_that_cannot_be_made_is_told_at_once():
    async def run() -> None:
        async with watching("deribit", "ws://127.0.0.1:9") as watched:
            watched.watch("BTC-DVOL")
            error = await watched.failure("BTC-DVOL")
            assert type(error) is ExchangeUnavailable
            assert "the connection failed" in str(error)

    asyncio.run(run())


@pytest.mark.slow
def test_the_silence_of_a_connection_that_is_gone_is_not_counted_against_the_next_one():
    connections = 0

    async def behave(socket: web.WebSocketResponse) -> None:
        nonlocal connections
        connections += 1
        await accept(socket)
        if connections == 1:
            await socket.close()
        await never_end(socket)

    async def run() -> None:
        async with serving(behave) as url, watching("binance", url) as watched:
            watched.watch("BTC-USDT")
            await watched.failure("BTC-USDT")
            assert watched.stream.heard_s() == math.inf, "a handshake that takes its time would be given up"
            watched.watch("BTC-USDT")
            await watched.until(lambda: watched.stream.heard_s() < 5)

    asyncio.run(run())


@pytest.mark.slow
def test_a_watch_that_is_cancelled_leaves_the_others_and_can_be_taken_up_again():
    subscribed: list[dict[str, object]] = []

    async def behave(socket: web.WebSocketResponse) -> None:
        async for message in socket:
            asked = json.loads(message.data)
            subscribed.append(asked)
            await socket.send_str(json.dumps({"result": None, "id": asked["id"]}))
            await socket.send_str(KLINE)
            await socket.send_str(KLINE.replace("BTCUSDT", "ETHUSDT"))

    async def run() -> None:
        async with serving(behave) as url, watching("binance", url, timeout_s=0.5) as watched:
            watched.watch("BTC-USDT", "ETH-USDT")
            await watched.until(lambda: watched.of("BTC-USDT") and len(subscribed) == 2)
            watched.task("BTC-USDT").cancel()
            await asyncio.gather(watched.task("BTC-USDT"), return_exceptions=True)
            assert not watched.task("ETH-USDT").done()
            watched.watch("BTC-USDT")
            await asyncio.sleep(2.0)  # longer than an answer may take: none is waited for
            assert not watched.task("BTC-USDT").done()
            assert len(subscribed) == 2, "the exchange sends it still: asking again would be an error on Bybit"

    asyncio.run(run())


@pytest.mark.slow
def test_a_market_whose_numbers_cannot_be_read_ends_its_own_watch_alone():
    async def behave(socket: web.WebSocketResponse) -> None:
        await accept(socket)
        await accept(socket)
        await socket.send_str(KLINE.replace("BTCUSDT", "ETHUSDT"))
        await socket.send_str(KLINE.replace('"16851.00"', "null"))
        await asyncio.sleep(0.2)
        await socket.send_str(KLINE.replace("BTCUSDT", "ETHUSDT"))
        await socket.send_str(KLINE)
        await never_end(socket)

    async def run() -> None:
        async with serving(behave) as url, watching("binance", url) as watched:
            watched.watch("BTC-USDT", "ETH-USDT")
            error = await watched.failure("BTC-USDT")
            assert isinstance(error, PayloadError)
            assert "k.h" in str(error)
            watched.watch("BTC-USDT")
            await watched.until(lambda: watched.of("BTC-USDT") and len(watched.of("ETH-USDT")) == 2)

    asyncio.run(run())


@pytest.mark.slow
def test_a_subscription_that_is_taken_back_is_asked_for_again():
    topics: list[str] = []

    async def behave(socket: web.WebSocketResponse) -> None:
        async for message in socket:
            asked = json.loads(message.data)
            if asked["op"] != "subscribe":
                continue
            (topic,) = asked["args"]
            topics.append(topic)
            await socket.send_str(json.dumps({"success": True, "op": "subscribe", "req_id": str(asked["req_id"])}))
            if topics.count("kline.1.BTCUSDT") == 1 and len(topics) == 2:
                said = "error:handler not found,topic:kline.1.BTCUSDT"
                await socket.send_str(json.dumps({"success": False, "ret_msg": said, "op": "subscribe"}))

    async def run() -> None:
        async with serving(behave) as url, watching("bybit", url + "/spot") as watched:
            watched.watch("BTC-USDT")
            await watched.until(lambda: topics)
            watched.watch("ETH-USDT")
            assert type(await watched.failure("BTC-USDT")) is RequestRejected
            assert not watched.task("ETH-USDT").done()
            watched.watch("BTC-USDT")
            await watched.until(lambda: len(topics) == 3)

    asyncio.run(run())


@pytest.mark.slow
def test_dropping_does_not_wait_for_a_peer_that_reads_nothing():
    async def freeze(socket: web.WebSocketResponse) -> None:
        await accept(socket)
        await socket.send_str(KLINE)
        socket._req.transport.pause_reading()
        await asyncio.sleep(30)

    async def run() -> None:
        async with serving(freeze) as url, watching("binance", url) as watched:
            watched.watch("BTC-USDT")
            await watched.until(lambda: watched.updates)
            began = time.monotonic()
            await watched.stream.drop("silent for 8 s")
            error = await watched.failure("BTC-USDT")
            assert time.monotonic() - began < 1
            assert str(error) == "binance: the connection was given up: silent for 8 s"
            watched.watch("BTC-USDT")
            await watched.until(lambda: len(watched.updates) == 2)

    asyncio.run(run())


@pytest.mark.slow
def test_a_sink_that_raises_is_told_to_who_watches_rather_than_lost():
    async def behave(socket: web.WebSocketResponse) -> None:
        await accept(socket)
        await socket.send_str(KLINE)
        await never_end(socket)

    def fail(_: object) -> None:
        raise ZeroDivisionError("a mistake of ours")

    async def run() -> None:
        async with serving(behave) as url:
            settings = ExchangeSettings(ws_url=url)
            async with open_stream(Exchange.BINANCE, settings, clock=SteadyClock()) as stream:
                with pytest.raises(ZeroDivisionError):
                    await asyncio.wait_for(stream.watch(Market.parse("binance:BTC-USDT"), fail), 10)

    asyncio.run(run())


@pytest.mark.slow
def test_a_stream_names_what_it_cannot_watch():
    async def run() -> None:
        async with watching("okx", "ws://127.0.0.1:9") as watched:
            for market in ("binance:BTC-USDT", "okx:BTC-DVOL"):
                with pytest.raises(InputError, match="market"):
                    await watched.stream.watch(Market.parse(market), watched.updates.append)
            watched.watch("BTC-USDT")
            await asyncio.sleep(0)
            with pytest.raises(InputError, match="watched already"):
                await watched.stream.watch(Market.parse("okx:BTC-USDT"), watched.updates.append)
        with pytest.raises(InputError, match="async with"):
            await watched.stream.watch(Market.parse("okx:BTC-USDT"), watched.updates.append)

    asyncio.run(run())
    with pytest.raises(ConfigError, match="MDP_EXCHANGES__OKX__WS_URL"):
        open_stream(Exchange.OKX, ExchangeSettings(), clock=SteadyClock())


ENDS = [
    (Closed(1008, "Too many requests"), RateLimited), (Closed(1008, "Pong timeout"), ExchangeUnavailable),
    (Closed(1006), ExchangeUnavailable), (Silent("no sign of life for 11 s"), ExchangeUnavailable),
    (TimeoutError(), ExchangeUnavailable), (aiohttp.ServerDisconnectedError(), ExchangeUnavailable),
    (aiohttp.WebSocketError(1009, "too big"), ExchangeUnavailable), (ConnectionResetError(), ExchangeUnavailable),
    (aiohttp.InvalidURL("ftp"), RequestRejected), (PayloadError("okx", "cut"), PayloadError),
    (ZeroDivisionError(), ZeroDivisionError),
]  # fmt: skip


@pytest.mark.parametrize(("error", "expected"), ENDS)
def test_every_end_of_a_connection_has_its_error(error, expected):
    assert type(explain(Exchange.OKX, error, lambda _: None)) is expected


def test_bybit_tells_a_region_from_an_address_that_connected_too_often_by_the_kind_of_page():
    assert isinstance(judge_handshake(Answer(403, {"content-type": "text/html"}, "", NOW)), RequestRejected)
    limited = judge_handshake(Answer(403, {}, "", NOW))
    assert isinstance(limited, RateLimited)
    assert limited.retry_after_s == 600
