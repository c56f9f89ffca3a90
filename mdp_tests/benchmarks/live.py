"""From an exchange's close to a buffer that another process reads: how long, and what the feeds take for it.

Everything is as in production but for the exchanges: the simulator, one feed for each exchange, the bus, and a process
that subscribes and reads the ring when it hears of a closed minute. The moment of the close is computed, by the clock
that all processes of a machine share. ``python -m mdp_tests.benchmarks.live read MINUTES`` is that process;
``listen`` is one that hears an exchange itself, for comparison.
Not here: faults (``mdp_tests.soak``).
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import numpy as np
import psutil
import uvloop

from mdp.bus import open_live_reader
from mdp.config.settings import load_settings
from mdp.domain.live import CandleState
from mdp.domain.market import SPOT_EXCHANGES, SPOT_MARKETS, Exchange, Market
from mdp.domain.timeframe import Timeframe
from mdp.ports import LiveBus, MarketClock
from mdp.sources import market_clock
from mdp_tests.support.simulator_process import running_simulator
from mdp_tests.support.workplace import Workplace

NOW = "2025-01-06T00:00:30Z"
HOURS, SPEED = 10.0, 60.0
CPU_S = 120.0
SETTLING_MINUTES = 3
"""The first minutes do not count: feeds are filling their buffers."""

FILLING_S = 8.0
"""Real seconds that feeds are given to fill their buffers."""

QUANTILES = (50, 95, 99, 100)


@contextmanager
def feeds_at_work(speed: float, *, scenario: str | None = None) -> Iterator[tuple[Workplace, dict[Exchange, int]]]:
    """A simulator and the feeds of the spot exchanges, until the block ends; yields where, and their process ids."""
    arguments = ["--now", NOW, "--speed", str(speed), *(["--scenario", scenario] if scenario else [])]
    with tempfile.TemporaryDirectory(prefix="mdp-live-") as folder, running_simulator(*arguments) as simulator:
        place = Workplace(Path(folder), simulator.url)
        running = {exchange: place.start("feed", exchange.value) for exchange in SPOT_EXCHANGES}
        try:
            yield place, {exchange: process.pid for exchange, process in running.items()}
        finally:
            for process in running.values():
                process.send_signal(signal.SIGTERM)
            for process in running.values():
                process.wait(30)


def measure_latency(hours: float, speed: float) -> dict[str, Any]:
    """Let the feeds run for some simulated hours and read every close; milliseconds."""
    minutes = round(hours * 60)
    with feeds_at_work(speed) as (place, pids):
        began = {exchange: _cpu_s(pid) for exchange, pid in pids.items()}
        at = time.monotonic()
        time.sleep(FILLING_S)
        module = [sys.executable, "-m", "mdp_tests.benchmarks.live"]
        listener = subprocess.Popen([*module, "listen", str(minutes)], env=place.environment, stdout=subprocess.PIPE)
        reader = subprocess.run(
            [*module, "read", str(minutes)],
            env=place.environment, stdout=subprocess.PIPE, check=True, timeout=(minutes + 10) * 60 / speed + 120,
        )  # fmt: skip
        pushed, _ = listener.communicate(timeout=600 / speed + 30)
        passed_s = time.monotonic() - at
        shares = {exchange.value: (_cpu_s(pid) - began[exchange]) / passed_s for exchange, pid in pids.items()}
    found: dict[str, Any] = json.loads(reader.stdout)
    return {**found, "pushed_ms": json.loads(pushed), "hours": hours, "speed": speed, "feed_cpu_share": shares}


def measure_cpu(seconds: float) -> dict[str, Any]:
    """CPU of each feed at real-time rates as a share of a core, after its buffers were filled."""
    with feeds_at_work(1.0) as (_, pids):
        time.sleep(30)
        began, at = {exchange: _cpu_s(pid) for exchange, pid in pids.items()}, time.monotonic()
        time.sleep(seconds)
        passed_s = time.monotonic() - at
        return {
            exchange.value: {
                "cpu_share": (_cpu_s(pid) - began[exchange]) / passed_s,
                "rss_mb": psutil.Process(pid).memory_info().rss / 1e6,
            }
            for exchange, pid in pids.items()
        }


def _cpu_s(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


class _Reader:
    """Hears of closed minutes and reads their buffers; milliseconds after the close."""

    def __init__(self, bus: LiveBus, clock: MarketClock, from_us: int, until_us: int) -> None:
        self._bus, self._clock, self._from_us, self._until_us = bus, clock, from_us, until_us
        self.heard: dict[tuple[str, str], float] = {}
        self.read: dict[tuple[str, str], float] = {}
        self._reading: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        async for message in self._bus.subscribe("candles.*.1m"):
            at_us = _us(self._clock())
            said = msgspec.json.decode(message.body)
            if at_us > self._until_us + 2_000_000:
                break
            open_us = _us(datetime.fromisoformat(said["open_time"]))
            key = (f"{said['exchange']}:{said['symbol']}", said["open_time"])
            in_time = self._from_us <= open_us < self._until_us - 60_000_000
            if said["state"] == CandleState.FORMING or not in_time or key in self.heard:
                continue
            self.heard[key] = self._late_ms(at_us, open_us)
            task = asyncio.create_task(self._read(key, open_us))
            self._reading.add(task)
            task.add_done_callback(self._reading.discard)
        await asyncio.gather(*self._reading)

    async def _read(self, key: tuple[str, str], open_us: int) -> None:
        buffer = await self._bus.buffer(Market.parse(key[0]), Timeframe.M1)
        self.read[key] = self._late_ms(_us(self._clock()), open_us)
        assert buffer is not None
        assert any(one.open_us == open_us and one.state is not CandleState.FORMING for one in buffer.candles)

    def _late_ms(self, at_us: int, open_us: int) -> float:
        return (at_us - open_us - 60_000_000) / 1_000 / self._clock.speed


async def _read(minutes: int) -> dict[str, Any]:
    settings = load_settings()
    clock = market_clock(settings)
    from_us = (_us(clock()) // 60_000_000 + 1 + SETTLING_MINUTES) * 60_000_000
    until_us = from_us + minutes * 60_000_000
    async with open_live_reader(settings) as bus:
        reader = _Reader(bus, clock, from_us, until_us)
        await reader.run()
    return {
        "closes": len(reader.read),
        "expected": len(SPOT_MARKETS) * (minutes - 1),
        "read_ms": _quantiles(list(reader.read.values())),
        "heard_ms": _quantiles(list(reader.heard.values())),
    }


async def _listen(minutes: int) -> dict[str, float]:
    """Listen to the last market that one exchange pushes, with nothing else to do."""
    clock = market_clock(load_settings())
    late: list[float] = []
    url = f"{os.environ['MDP_EXCHANGES__BINANCE__WS_URL']}/ws"
    async with aiohttp.ClientSession() as session, session.ws_connect(url) as socket:
        await socket.send_json({"method": "SUBSCRIBE", "params": ["solusdt@kline_1m"], "id": 1})
        async for message in socket:
            at_us = _us(clock())
            kline = json.loads(message.data).get("k")
            if kline and kline["x"]:
                late.append((at_us - kline["t"] * 1_000 - 60_000_000) / 1_000 / clock.speed)
            if len(late) == minutes:
                break
    return _quantiles(late)


def _quantiles(values: list[float]) -> dict[str, float]:
    return (
        {f"p{q}" if q < 100 else "max": round(float(np.percentile(values, q)), 2) for q in QUANTILES} if values else {}
    )


def _us(moment: Any) -> int:
    return round(moment.timestamp() * 1e6)


def run(hours: float = HOURS, speed: float = SPEED) -> dict[str, Any]:
    """Measure both and print the tables."""
    print(f"load {os.getloadavg()[0]:.1f}", flush=True)
    found = measure_latency(hours, speed)
    print(f"{found['closes']:,} of {found['expected']:,} closes in {hours:g} simulated hours at {speed:g}x")
    print("| ms | p50 | p95 | p99 | max |\n|---|---:|---:|---:|---:|")
    for name in ("pushed_ms", "heard_ms", "read_ms"):
        print(f"| {name} | " + " | ".join(f"{value:.2f}" for value in found[name].values()) + " |")
    print("feeds' CPU at that speed:", {name: f"{share:.1%}" for name, share in found["feed_cpu_share"].items()})
    cpu = measure_cpu(CPU_S)
    print("at real-time rates:", {name: f"{one['cpu_share']:.2%}, {one['rss_mb']:.0f} MB" for name, one in cpu.items()})
    return {"latency": found, "real_time": cpu}


if __name__ == "__main__":
    if sys.argv[1] in ("read", "listen"):
        print(json.dumps(uvloop.run({"read": _read, "listen": _listen}[sys.argv[1]](int(sys.argv[2])))))
    else:
        run(float(sys.argv[1]), float(sys.argv[2]))
