"""How much of an exchange's quota several processes use together, and whether any of them is ever refused.

Each process backfills its own days by REST into one lake, through the platform without Dagster, in one data directory
and so on one bus; the simulator enforces the real quotas over a line of 50 ms. Its own log says what came of it.
``python -m mdp_tests.benchmarks.quota_share backfill EXCHANGE MARKET FIRST_DAY`` is one of the processes.
Not here: the work of asking (``contestants``).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, date, datetime
from itertools import count
from typing import Any

import httpx

from mdp.domain.interval import DAY, Interval
from mdp.domain.market import Exchange, Market
from mdp_tests.support.simulator_process import running_simulator

FIRST_YEAR = 2021
SETTLING_S, MEASURED_S, LATENCY_MS = 25.0, 60.0, 50


@dataclass(frozen=True, slots=True)
class Race:
    """One exchange, who asks it, and how often it may be asked for candles in a minute."""

    exchange: Exchange
    symbols: tuple[str, ...]
    requests_a_minute: int
    endpoint: str


RACES = (
    Race(Exchange.BINANCE, ("BTC-USDT", "ETH-USDT", "SOL-USDT", "BTC-USDT"), 3_000, "/api/v3/klines"),
    Race(Exchange.OKX, ("BTC-USDT", "ETH-USDT"), 600, "/api/v5/market/history-candles"),
)


def backfill(exchange: str, market: str, first_day: str) -> None:
    """Collect and judge year after year until told to stop."""
    from mdp.config.settings import load_settings
    from mdp_tests.benchmarks.platform import Platform

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    platform = Platform.of(load_settings())
    one = Market.parse(f"{exchange}:{market}")
    start = datetime.combine(date.fromisoformat(first_day), datetime.min.time(), UTC)
    try:
        for number in count():
            window = Interval(start + 364 * DAY * number, start + 364 * DAY * (number + 1))
            platform.collect_and_judge(one, window)
    except KeyboardInterrupt:
        pass


def run(race: Race) -> str:
    """Let the processes of a race run; return a line of the table."""
    latency = ("--latency-ms", str(LATENCY_MS))
    with tempfile.TemporaryDirectory(prefix="mdp-quota-") as folder, running_simulator(*latency) as simulator:
        name = race.exchange.name
        environment = {
            **os.environ,
            "MDP_DATA_DIR": folder,
            f"MDP_EXCHANGES__{name}__REST_URL": f"{simulator.url}/{race.exchange}",
            f"MDP_EXCHANGES__{name}__ARCHIVES": "false",
            f"MDP_EXCHANGES__{name}__RATE_SHARE": "1",
        }
        module = [sys.executable, "-m", "mdp_tests.benchmarks.quota_share", "backfill", race.exchange.value]
        processes = [
            subprocess.Popen([*module, symbol, f"{FIRST_YEAR + number}-01-01"], env=environment)
            for number, symbol in enumerate(race.symbols)
        ]
        try:
            time.sleep(SETTLING_S + MEASURED_S)
            until = time.time()
            query = {"exchange": race.exchange.value}
            log = httpx.get(f"{simulator.url}/control/requests", params=query, timeout=60).json()
        finally:
            for process in processes:
                process.send_signal(signal.SIGTERM)
            for process in processes:
                process.wait(60)
    return _line(race, until, log)


def _line(race: Race, until: float, log: dict[str, Any]) -> str:
    asked = [one for one in log["requests"] if until - MEASURED_S <= one["at_s"] < until]
    candles = [one for one in asked if one["path"].endswith(race.endpoint) and one["status"] == 200]
    refused = Counter(one["status"] for one in log["requests"] if one["status"] != 200)
    share = len(candles) / (race.requests_a_minute * MEASURED_S / 60)
    clients = len({one["client"] for one in asked})
    return (
        f"| {race.exchange.value} {race.endpoint.rpartition('/')[2]} | {len(race.symbols)} | {len(candles):,} "
        f"| {share:.1%} | {sum(refused.values())} | {clients} |"
    )


def run_all() -> list[str]:
    """Run all races and print their table."""
    print("| quota | processes | answered in a minute | of the quota | refused, ever | connections |")
    print("|---|---:|---:|---:|---:|---:|")
    lines = []
    for race in RACES:
        lines.append(run(race))
        print(lines[-1], flush=True)
    return lines


if __name__ == "__main__":
    backfill(*sys.argv[2:])
