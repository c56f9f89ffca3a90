"""The bandwidth of backfills over real processes and a real line: measured where the bytes are sent."""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from mdp.bus.bandwidth import open_bandwidth
from mdp.config.settings import load_settings
from mdp.domain.interval import Interval
from mdp.domain.market import Exchange, Market
from mdp.domain.timeframe import Timeframe
from mdp.sources import live_source, source_opener, utc_now
from mdp_tests.support.simulator_control import exchange_urls
from mdp_tests.support.simulator_process import running_simulator

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

UNSENT = 0x5411
"""Linux's request for the bytes of a socket that nobody has acknowledged yet (SIOCOUTQ)."""

PROCESSES, SECONDS, MBIT, SHARE = 4, 12.0, 80.0, 0.5

CLIENT = """
import asyncio, sys
from mdp.bus.bandwidth import open_bandwidth
from mdp.config.settings import load_settings
from mdp.domain.market import Exchange
from mdp.exchanges.archive_downloads import Downloads
from mdp.exchanges.archive_reader import FILES_IN_FLIGHT

async def work(url):
    async with Downloads(Exchange.BINANCE, 10.0, bandwidth=open_bandwidth(load_settings(), Exchange.BINANCE)) as files:
        async def one():
            while True:
                await files.get_once(url)
        await asyncio.gather(*(one() for _ in range(FILES_IN_FLIGHT)))

asyncio.run(work(sys.argv[1]))
"""


@dataclass
class Files:
    """A server of files that knows how many bytes have arrived: sent, less what is not acknowledged."""

    body: bytes
    arrived: list[tuple[float, int]] = field(default_factory=list)
    _sent: dict[socket.socket, int] = field(default_factory=dict)
    _before: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def sample(self) -> None:
        with self._lock:
            total = self._before + sum(self._arrived_at(connection) for connection in self._sent)
            self.arrived.append((time.monotonic(), total))

    def _serve(self, connection: socket.socket) -> None:
        # little is on its way to a peer that is gone
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
        with self._lock:
            self._sent[connection] = 0
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(self.body)}\r\n\r\n".encode()
        try:
            with connection, suppress(OSError):
                while connection.recv(65_536):
                    self._send(connection, head)
                    self._send(connection, self.body)
        finally:
            with self._lock:
                self._before += self._sent.pop(connection)

    def _send(self, connection: socket.socket, body: bytes) -> None:
        left = memoryview(body)
        while left:
            count = connection.send(left[:65_536])
            left = left[count:]
            with self._lock:
                self._sent[connection] += count

    def _arrived_at(self, connection: socket.socket) -> int:
        with suppress(OSError):
            return self._sent[connection] - struct.unpack("i", fcntl.ioctl(connection, UNSENT, bytes(4)))[0]
        return self._sent[connection]


@contextmanager
def serving() -> Iterator[tuple[Files, str]]:
    files = Files(os.urandom(2_000_000))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=files.accept, args=(listener,), daemon=True).start()
        yield files, f"http://127.0.0.1:{listener.getsockname()[1]}/file.zip"
        listener.shutdown(socket.SHUT_RDWR)


def downloads(tmp_path, share):
    """Let processes download for a while; return bytes a second over all of it and the most in any ten seconds."""
    environment = {
        **os.environ,
        "MDP_DATA_DIR": str(tmp_path),
        "MDP_EXCHANGES__BANDWIDTH_MBIT": str(MBIT),
        "MDP_EXCHANGES__BINANCE__BANDWIDTH_SHARE": str(share),
    }
    with serving() as (files, url):
        clients = [subprocess.Popen([sys.executable, "-c", CLIENT, url], env=environment) for _ in range(PROCESSES)]
        try:
            while not files.arrived or files.arrived[-1][1] < 2 * len(files.body):  # all have begun
                files.sample()
                time.sleep(0.05)
                assert all(client.poll() is None for client in clients)
            files.arrived.clear()
            ends = time.monotonic() + SECONDS
            while time.monotonic() < ends:
                files.sample()
                time.sleep(0.05)
            assert all(client.poll() is None for client in clients)
        finally:
            for client in clients:
                client.kill()
                client.wait()
    return rates(files.arrived)


def rates(arrived):
    first, last = arrived[0], arrived[-1]
    stretches = [
        (later[1] - earlier[1]) / (later[0] - earlier[0])
        for earlier in arrived
        for later in arrived
        if 9.95 < later[0] - earlier[0] < 10.05
    ]
    return (last[1] - first[1]) / (last[0] - first[0]), max(stretches)


def test_four_processes_together_receive_what_the_share_of_the_line_carries_and_no_more(tmp_path):
    limit = MBIT * 1_000_000 / 8 * SHARE
    mean, most = downloads(tmp_path, SHARE)
    print(f"share {SHARE}: {mean / limit:.3f} of the limit, at most {most / limit:.3f} in any 10 s")
    assert most <= limit * 1.05
    assert mean >= limit * 0.85


MARKET = Market.parse("bybit:BTC-USDT")
WINDOW = Interval(datetime(2024, 12, 1, tzinfo=UTC), datetime(2024, 12, 1, 1, tzinfo=UTC))


async def took_s(source):
    began = time.monotonic()
    async with source:
        fetched = await source.fetch(MARKET, Timeframe.M1, WINDOW)
    assert len(fetched.rows) == 60
    return time.monotonic() - began


def test_a_line_that_backfills_filled_keeps_their_requests_waiting_and_not_those_of_live(tmp_path, monkeypatch):
    with running_simulator() as simulator:
        for name, value in exchange_urls(simulator.url).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("MDP_EXCHANGES__BANDWIDTH_MBIT", "8")
        settings = load_settings(data_dir=tmp_path)
        asyncio.run(took_s(live_source(settings, Exchange.BYBIT, utc_now)))  # loads CCXT
        open_bandwidth(settings, Exchange.OKX).charge(8_000_000)
        assert asyncio.run(took_s(live_source(settings, Exchange.BYBIT, utc_now))) < 4
        waited_s = asyncio.run(took_s(source_opener(settings, utc_now)(Exchange.BYBIT)))
        assert waited_s > 4
