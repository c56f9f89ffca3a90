"""How soon the last of 200 clients has a candle that just closed, while five of them never read.

A publisher writes to a real bus as feeds do: nine markets close at once, again and again. One worker of the real
service serves 195 WebSocket clients in a process of their own, which note when each message came, and five that
subscribe to everything and never read. ``… streams publish|listen`` are those processes.
Not here: buffers (``serving``).
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil

from mdp.bus.live import open_live_bus
from mdp.cli.processes import free_port
from mdp.config.settings import load_settings
from mdp.domain.live import CandleState, Change, LiveCandle
from mdp.domain.market import MARKETS, Market
from mdp.domain.timeframe import Timeframe
from mdp_tests.support.workplace import Workplace

CLIENTS, SILENT = 200, 5
ROUNDS, PAUSE_S = 120, 0.4
SPOT = [market for market in MARKETS if not market.is_volatility_index]
START_US = 1_735_689_600_000_000
MINUTE_US = 60_000_000


def topics_of(number: int) -> list[str]:
    """What a client hears: one market at 1m; every fourth two timeframes more; every twentieth all markets."""
    market = SPOT[number % len(SPOT)]
    place = f"candles.{market.exchange}.{market.symbol_key}"
    if number % 20 == 0:
        return ["candles.*.*.1m"]
    return [f"{place}.1m", *([f"{place}.5m", f"{place}.15m"] if number % 4 == 0 else [])]


def candle(minute: int, timeframe: Timeframe, state: CandleState, said_at: float) -> LiveCandle:
    """A candle that says in its volume when it was published."""
    open_us = (START_US + minute * MINUTE_US) // timeframe.microseconds * timeframe.microseconds
    return LiveCandle(open_us, 1.0, 1.0, 1.0, 1.0, said_at, 1.0, 1, 1, state, "stream", open_us)


async def publish() -> None:
    """Fill all buffers, say so, then close a minute of all nine markets at once, again and again."""
    async with open_live_bus(load_settings()) as bus:
        for exchange in {market.exchange for market in SPOT}:
            await bus.lease(f"feed/{exchange.value}", "benchmark", for_s=600)
        full = {
            timeframe: [
                candle(-number * timeframe.microseconds // MINUTE_US, timeframe, CandleState.CONFIRMED, 0.0)
                for number in range(100, 0, -1)
            ]
            for timeframe in Timeframe
        }
        for market in SPOT:
            await bus.rewrite(market, full)
        print("full", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        for minute in range(ROUNDS):
            await asyncio.sleep(PAUSE_S)
            await asyncio.gather(*(_close(bus, market, minute) for market in SPOT))
        await asyncio.sleep(1)


async def _close(bus: Any, market: Market, minute: int) -> None:
    at = time.monotonic()
    longer = [Change(one, candle(minute, one, CandleState.FORMING, at)) for one in Timeframe if one is not Timeframe.M1]
    await bus.publish(market, [Change(Timeframe.M1, candle(minute, Timeframe.M1, CandleState.CLOSED, at)), *longer])
    await bus.publish(market, [Change(Timeframe.M1, candle(minute + 1, Timeframe.M1, CandleState.FORMING, at))])


class Listener(asyncio.Protocol):
    """A client that does nothing but note when each message came, and answer pings."""

    def __init__(self, number: int) -> None:
        self.topics = topics_of(number)
        self.heard: list[tuple[float, bytes]] = []
        self._rest = b""
        self._is_open = False

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.write(handshake())

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        self._rest += data
        if not self._is_open:
            head, found, self._rest = self._rest.partition(b"\r\n\r\n")
            assert found, "the answer to the handshake came in pieces"
            assert head.startswith(b"HTTP/1.1 101"), head
            self._is_open = True
            self._transport.write(masked(0x81, subscription(self.topics)))
        for kind, payload in self._frames():
            if kind == 0x89:
                self._transport.write(masked(0x8A, payload))
            elif payload.startswith(b'{"type":"candle"'):
                self.heard.append((now, payload))

    def _frames(self) -> Iterator[tuple[int, bytes]]:
        data = self._rest
        while len(data) >= 2:
            size, start = data[1], 2
            if size >= 126:
                start = 4 if size == 126 else 10
                size = int.from_bytes(data[2:start], "big")
            if len(data) < start + size:
                break
            yield data[0], data[start : start + size]
            data = data[start + size :]
        self._rest = data


def handshake() -> bytes:
    """Ask for a WebSocket."""
    return (
        b"GET /api/v1/stream HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )


def masked(kind: int, payload: bytes) -> bytes:
    """Put a client's message into a frame; a mask of zeros changes nothing."""
    size = bytes((0x80 | len(payload),)) if len(payload) < 126 else b"\xfe" + len(payload).to_bytes(2, "big")
    return bytes((kind,)) + size + b"\0\0\0\0" + payload


def subscription(topics: list[str]) -> bytes:
    """Ask for topics."""
    return json.dumps({"op": "subscribe", "topics": topics}).encode()


async def listen(port: int) -> None:
    """Connect, say so, listen until told to end, print what came."""
    loop = asyncio.get_running_loop()
    listeners = [Listener(number) for number in range(CLIENTS - SILENT)]
    for one in listeners:
        await loop.create_connection(lambda one=one: one, "127.0.0.1", port)
    await asyncio.sleep(2)
    print("listening", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    print(json.dumps(_delays(listeners)))


def _delays(listeners: list[Listener]) -> dict[str, Any]:
    """Return, for each close, how long after its publishing each client had it; milliseconds."""
    closes: dict[tuple[str, str], list[float]] = defaultdict(list)
    expected: dict[str, int] = defaultdict(int)
    lost = 0
    for one in listeners:
        last: dict[str, int] = {}
        topics = set()
        for at, text in one.heard:
            said = json.loads(text)
            topic = said["topic"]
            topics.add(topic)
            lost += said["seq"] - last.get(topic, said["seq"] - 1 - said.get("skipped", 0)) - 1 - said.get("skipped", 0)
            last[topic] = said["seq"]
            if said["state"] == "closed":
                closes[topic, said["open_time"]].append((at - said["volume"]) * 1e3)
        for topic in topics:
            expected[topic] += 1
    incomplete = sum(len(delays) != expected[topic] for (topic, _), delays in closes.items())
    every = [delay for delays in closes.values() for delay in delays]
    return {"closes": len(closes), "incomplete": incomplete, "lost": lost, "every": every,
            "last": [max(delays) for delays in closes.values()]}  # fmt: skip


def silent_clients(port: int) -> list[socket.socket]:
    """Connect clients that ask for everything and never read."""
    found = []
    for _ in range(SILENT):
        one = socket.socket()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        one.connect(("127.0.0.1", port))
        one.sendall(handshake())
        time.sleep(0.1)
        one.sendall(masked(0x81, subscription(["candles.*.*.*", "buffers.*.*.*"])))
        found.append(one)
    return found


def measure() -> dict[str, Any]:
    """Run everything once."""
    with tempfile.TemporaryDirectory(prefix="mdp-streams-") as folder, ExitStack() as opened:
        place = Workplace(Path(folder), extra={"MDP_API__SLOW_CLIENT_S": "600", "MDP_API__ACCESS_LOG": "off"})
        module = [sys.executable, "-m", "mdp_tests.benchmarks.streams"]
        publisher = opened.enter_context(_child([*module, "publish"], place, "full"))
        port = free_port(0)
        service = place.start("serve", "--port", str(port))
        opened.callback(_stop, service)
        _wait_for_buffers(port)
        worker = max(psutil.Process(service.pid).children(), key=lambda child: child.memory_info().rss)
        listening = opened.enter_context(_child([*module, "listen", str(port)], place, "listening"))
        for one in silent_clients(port):
            opened.enter_context(one)
        publisher.stdin.write("\n")
        publisher.stdin.flush()
        cpu, sizes, began = sum(worker.cpu_times()[:2]), [], time.monotonic()
        while publisher.poll() is None:
            time.sleep(1)
            sizes.append(worker.memory_info().rss / 1e6)
        share = (sum(worker.cpu_times()[:2]) - cpu) / (time.monotonic() - began)
        told, _ = listening.communicate("\n", timeout=60)
        metrics = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text
    counted = {
        line.split()[0]: float(line.split()[1]) for line in metrics.splitlines() if line.startswith("mdp_stream")
    }
    return {**json.loads(told), "rss_mb": sizes, "cpu_share": share, "metrics": counted}


def _child(command: list[str], place: Workplace, word: str) -> subprocess.Popen[str]:
    """Start a process and wait for its word."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, env=place.environment, stdin=pipe, stdout=pipe, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == word
    return process


def _stop(service: subprocess.Popen[bytes]) -> None:
    service.send_signal(signal.SIGTERM)
    service.wait(30)


def _wait_for_buffers(port: int) -> None:
    for _ in range(600):
        try:
            found = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=5, trust_env=False).text
            if f"mdp_buffers {len(SPOT) * len(Timeframe)}.0" in found:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise TimeoutError("the service did not read the buffers")


def run() -> dict[str, Any]:
    """Measure and print."""
    found = measure()
    last, every, sizes = np.array(found["last"]), np.array(found["every"]), found["rss_mb"]
    print(
        f"\n{CLIENTS} clients, {SILENT} of them never read; {found['closes']} closes, nine at once; "
        f"load {os.getloadavg()[0]:.1f}"
    )
    print("| from publishing to the client, ms | p50 | p95 | p99 | worst |\n|---|---:|---:|---:|---:|")
    for name, delays in (("every client", every), ("the last client of each close", last)):
        shown = " | ".join(f"{value:.1f}" for value in (*np.percentile(delays, (50, 95, 99)), delays.max()))
        print(f"| {name} | {shown} |")
    middle = len(sizes) // 2
    print(
        f"\nclosed candles that did not reach a client: {found['incomplete']}, numbers lost: {found['lost']}; worker: "
        f"{sizes[0]:.0f} MB after a second, {sizes[middle]:.0f} halfway, {sizes[-1]:.0f} at the end, "
        f"{found['cpu_share']:.0%} of a core"
    )
    return {key: value for key, value in found.items() if key != "every"}


if __name__ == "__main__":
    if sys.argv[1:2] == ["publish"]:
        asyncio.run(publish())
    elif sys.argv[1:2] == ["listen"]:
        asyncio.run(listen(int(sys.argv[2])))
    else:
        run()
