"""Streams of ``mdp serve`` over a real bus: nobody is held up by who does not read, and the end is told."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from contextlib import suppress

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from mdp.bus.live import open_live_bus
from mdp.cli.processes import free_port
from mdp.domain.live import CandleState, Change
from mdp.domain.market import MARKETS
from mdp.domain.timeframe import Timeframe
from mdp_tests.api.live_service import M1, live_candle
from mdp_tests.api.streams.scripted import CANDLES, Believer
from mdp_tests.benchmarks.streams import handshake, masked, subscription
from mdp_tests.support.builders import MARKET
from mdp_tests.support.workplace import Workplace

pytestmark = pytest.mark.slow

SPOT = [market for market in MARKETS if not market.is_volatility_index]


def full(timeframe):
    """As many candles as a buffer holds, the newest of which holds minute 200."""
    newest = live_candle(200, 1.0).open_us // timeframe.microseconds * timeframe.microseconds
    opened = (newest - number * timeframe.microseconds for number in range(100, -1, -1))
    return [live_candle(200, 100.0 + 1 / 7)._replace(open_us=one) for one in opened]


class Place:
    """A service, and a bus that holds full buffers."""

    def __init__(self, folder):
        # memory of a client that does not read is what this is about: patience is short
        self.workplace = Workplace(folder, extra={"MDP_API__SLOW_CLIENT_S": "2", "MDP_API__HEARTBEAT_S": "0.5"})
        self.port = free_port(0)
        self.url = f"http://127.0.0.1:{self.port}"
        self.stream = f"ws://127.0.0.1:{self.port}/api/v1/stream"
        self.number = 200

    async def __aenter__(self):
        self.bus = await open_live_bus(self.workplace.settings).__aenter__()
        for exchange in {market.exchange for market in SPOT}:
            await self.bus.lease(f"feed/{exchange.value}", "test", for_s=600)
        for market in SPOT:
            await self.bus.rewrite(market, {timeframe: full(timeframe) for timeframe in Timeframe})
        self.service = self.workplace.start("serve", "--port", str(self.port))
        self.http = httpx.AsyncClient(base_url=self.url, trust_env=False, timeout=10)
        await self.until(lambda counts: counts.get("mdp_buffers") == len(SPOT) * len(Timeframe))
        return self

    async def __aexit__(self, *_):
        await self.http.aclose()
        self.service.send_signal(signal.SIGTERM)
        await asyncio.to_thread(self.service.wait, 30)
        await self.bus.__aexit__(None, None, None)

    async def counts(self):
        try:
            text = (await self.http.get("/metrics")).text
        except httpx.TransportError:
            return {}
        lines = (line.split() for line in text.splitlines() if not line.startswith("#"))
        return {line[0]: float(line[1]) for line in lines}

    async def until(self, holds):
        async with asyncio.timeout(30):
            while not holds(await self.counts()):
                await asyncio.sleep(0.05)

    async def close_minute(self):
        self.number += 1
        for state in (CandleState.FORMING, CandleState.CLOSED):
            await self.bus.publish(MARKET, [Change(M1, live_candle(self.number, 1.0, state))])

    def silent(self, request):
        """Somebody who asks for everything and never reads."""
        opened = socket.socket()
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        opened.connect(("127.0.0.1", self.port))
        opened.sendall(request)
        if request == ASK_SOCKET:
            assert opened.recv(64).startswith(b"HTTP/1.1 101")
            opened.sendall(masked(0x81, subscription(["candles.*.*.*"])))
        return opened


ASK_EVENTS = b"GET /api/v1/stream/events?topic=candles.*.*.* HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
ASK_SOCKET = handshake()


async def hear_until(connection, believer, seq):
    async with asyncio.timeout(20):
        while believer.seq is None or believer.seq < seq:
            told = json.loads(await connection.recv())
            if told["type"] in ("snapshot", "candle"):
                believer.believe(told)


async def hear_to_the_end(connection, heard):
    async with asyncio.timeout(20):
        while True:
            heard.append(json.loads(await connection.recv()))


def read_to_the_end(one):
    with suppress(ConnectionResetError):
        while one.recv(65_536):
            pass


def test_who_does_not_read_is_cut_off_and_the_others_hear_every_close(tmp_path):
    async def run():
        async with Place(tmp_path) as place, connect(place.stream) as reading:
            believer = Believer()
            await reading.send(subscription([CANDLES]).decode())
            silent = [place.silent(ASK_SOCKET), place.silent(ASK_EVENTS)]
            await place.until(lambda counts: counts["mdp_streams_open"] == 3)
            for _ in range(20):
                await place.close_minute()
            buffer = await place.bus.buffer(MARKET, M1)
            await hear_until(reading, believer, buffer.seq)
            await place.until(lambda counts: counts["mdp_streams_cut_total"] == 2 and counts["mdp_streams_open"] == 1)
            for one in silent:
                one.settimeout(10)
                read_to_the_end(one)
                one.close()
            return believer

    believer = asyncio.run(run())
    assert len([end for end in believer.ends if end[2] == "closed"]) == 20


def test_the_end_is_told_and_somebody_who_does_not_read_does_not_delay_it(tmp_path):
    async def run():
        async with Place(tmp_path) as place, connect(place.stream) as reading:
            await reading.send(subscription([CANDLES]).decode())
            await reading.recv()
            silent = [place.silent(ASK_SOCKET), place.silent(ASK_EVENTS)]
            await place.until(lambda counts: counts["mdp_streams_open"] == 3)
            place.service.send_signal(signal.SIGTERM)
            heard = []
            with pytest.raises(ConnectionClosed) as closed:
                await hear_to_the_end(reading, heard)
            assert heard[-1] == {"type": "closing", "reason": "the service ends: connect again"}
            assert closed.value.rcvd.code == 1012
            assert await asyncio.to_thread(place.service.wait, 9) == 0
            for one in silent:
                one.close()

    asyncio.run(run())


async def read_events(place, until, **headers):
    """Read events until a test has enough; return them and the last id."""
    found, given = [], None
    said = {**headers, "accept-encoding": "gzip"}
    async with place.http.stream("GET", "/api/v1/stream/events", params={"topic": CANDLES}, headers=said) as answer:
        assert "content-encoding" not in answer.headers
        async for line in answer.aiter_lines():
            name, _, value = line.partition(": ")
            if name == "data":
                found.append(json.loads(value))
            given = value if name == "id" else given
            if not line and given and until(found):
                break
    return found, given


def test_events_over_http_go_on_where_they_were_left(tmp_path):
    async def run():
        async with Place(tmp_path) as place:
            believer = Believer()
            first, given = await read_events(place, lambda found: found[-1]["type"] == "snapshot")
            for _ in range(5):
                await place.close_minute()
            seq = (await place.bus.buffer(MARKET, M1)).seq
            again, _ = await read_events(
                place, lambda found: any(one.get("seq") == seq for one in found), **{"last-event-id": given}
            )
            assert [one["type"] for one in first] == ["subscribed", "snapshot"]
            assert again[0]["resumed"] == [CANDLES]
            for one in first + again:
                if one["type"] in ("snapshot", "candle"):
                    believer.believe(one)
            assert "snapshot" not in [one["type"] for one in again]
            return believer

    believer = asyncio.run(run())
    assert len([end for end in believer.ends if end[2] == "closed"]) == 5
