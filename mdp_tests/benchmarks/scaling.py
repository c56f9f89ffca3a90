"""How much faster a backfill is on more hosts, until the exchange's quota is the limit.

Hosts are network namespaces, each with a worker of one place; they share this machine's cores and its disk. So that
waiting is the work, and not the cores, the exchanges answer late. Not here: the deployment (``support.fleet``), that
nothing is lost when a host dies (``deploy.test_hosts``).
"""

from __future__ import annotations

import os
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from mdp_tests.support.fleet import Fleet, running_fleet

LATENCY_MS, DAYS = 2_000, 10
MARKETS = tuple(
    f"{exchange}:{base}-USDT" for exchange in ("binance", "bybit", "okx") for base in ("BTC", "ETH", "SOL")
)[:8]
IN_FLIGHT = {"BINANCE": "2", "BYBIT": "2", "OKX": "16"}
"""So that each run waits for about as long: OKX answers with a tenth of the candles."""

QUOTA_LATENCY_MS, QUOTA_DAYS, SETTLING_S, MEASURED_S, OKX_A_MINUTE = 50, 180, 15.0, 60.0, 600
"""A page of OKX holds 300 minutes: two markets of 180 days are 1,728 pages, which take three minutes."""

PATIENCE_S = 600.0


@dataclass(frozen=True, slots=True)
class Measured:
    """One backfill.

    Attributes:
        workers: Hosts, each with one worker.
        seconds: From the start of the first run to the end of the last.
        cores: Of this machine that were busy meanwhile, whoever's work it was.
        refused: Answers with 429 or 418.
    """

    workers: int
    seconds: float
    cores: float
    refused: int


def run() -> dict[str, Any]:
    """Measure and print both tables."""
    print(
        f"\nScaling: {len(MARKETS)} runs of {DAYS} days, {LATENCY_MS} ms latency, {os.cpu_count()} cores for all hosts"
    )
    print("| hosts | first start to last end | speed-up | cores busy | refused |\n|---:|---:|---:|---:|---:|")
    found: list[Measured] = []
    for workers in (1, 2, 4):
        one = speed_with(workers)
        found.append(one)
        factor = found[0].seconds / one.seconds
        print(f"| {workers} | {one.seconds:.0f} s | {factor:.2f} | {one.cores:.1f} | {one.refused} |", flush=True)
    quota = share_of_quota()
    print(
        f"\nOKX with its quota, 2 hosts, {QUOTA_LATENCY_MS} ms: {quota['answered']} pages in {MEASURED_S:.0f} s, "
        f"{quota['share']:.1%} of the quota, {quota['refused']} refused, asked from {quota['addresses']} address"
    )
    return {"speed_up": [asdict(one) for one in found], "quota": quota}


def speed_with(workers: int) -> Measured:
    """Run one backfill on so many hosts."""
    names = [f"worker{number}" for number in range(1, workers + 1)]
    # one more than there are hosts: one always waits in the workers' queue, and an exchange may take all hosts
    extra = {"MDP_WORKERS": "1", "MDP_DAGSTER__RUNS_AT_ONCE": str(workers + 1)}
    extra |= {f"MDP_EXCHANGES__{name}__PAGES_IN_FLIGHT": pages for name, pages in IN_FLIGHT.items()}
    with tempfile.TemporaryDirectory(prefix="mdp-scaling-") as folder:
        latency = ("--latency-ms", str(LATENCY_MS))
        with running_fleet(Path(folder), names, extra=extra, simulator=latency) as fleet:
            backfill = _launch(fleet, names, MARKETS, DAYS)
            before, began = _busy_s(), time.monotonic()
            fleet.wait_until("the backfill", lambda: fleet.backfill_status(backfill) != "REQUESTED", PATIENCE_S)
            cores = (_busy_s() - before) / (time.monotonic() - began)
            assert fleet.statuses() == {"SUCCESS": len(MARKETS)}, fleet.tell()
            ((seconds,),) = fleet.sql("SELECT max(end_time) - min(start_time) FROM runs")
            return Measured(workers, float(seconds), cores, _refused(_asked(fleet)))


def share_of_quota() -> dict[str, Any]:
    """Let two hosts ask one exchange for as much as they may."""
    extra = {"MDP_WORKERS": "1", "MDP_DAGSTER__RUNS_AT_ONCE": "3", "MDP_EXCHANGES__OKX__RATE_SHARE": "1"}
    with tempfile.TemporaryDirectory(prefix="mdp-scaling-") as folder:
        latency = ("--latency-ms", str(QUOTA_LATENCY_MS))
        with running_fleet(Path(folder), ["one", "two"], extra=extra, simulator=latency) as fleet:
            _launch(fleet, ["one", "two"], ("okx:BTC-USDT", "okx:ETH-USDT"), QUOTA_DAYS)
            fleet.wait_until("pages", lambda: len(_asked(fleet)) > OKX_A_MINUTE / 10, PATIENCE_S)
            time.sleep(SETTLING_S + MEASURED_S)
            until = time.time()
            asked = _asked(fleet)
            assert fleet.statuses()["STARTED"] == 2, f"nothing was left to ask for: {fleet.tell()}"
    answered = [
        one for one in asked
        if until - MEASURED_S <= one["at_s"] < until and one["status"] == 200 and "candles" in one["path"]
    ]  # fmt: skip
    return {
        "answered": len(answered),
        "share": len(answered) / (OKX_A_MINUTE * MEASURED_S / 60),
        "refused": _refused(asked),
        "addresses": len({one["client"].rpartition(":")[0] for one in asked}),
    }


def _launch(fleet: Fleet, names: list[str], markets: tuple[str, ...], days: int) -> str:
    """Start workers and a backfill, and wait until its first runs are at work on all of them."""
    for name in names:
        fleet.start_worker(name)
    first = datetime(2025, 2, 1, tzinfo=UTC).date()
    keys = [f"{first + timedelta(number)}|{market}" for number in range(days) for market in markets]
    backfill = fleet.launch(keys, ("raw_ohlcv",))
    fleet.wait_until("runs", lambda: fleet.statuses()["STARTED"] >= min(len(names), len(markets)), 150)
    return backfill


def _asked(fleet: Fleet) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = fleet.on_control(lambda control: control.requests())
    return found


def _refused(asked: list[dict[str, Any]]) -> int:
    counts = Counter(one["status"] for one in asked)
    return counts[429] + counts[418]


def _busy_s() -> float:
    """Return the seconds that all cores together have worked since the machine started."""
    words = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()[1:]
    user, nice, system, _idle, _waiting, *interrupts = (int(word) for word in words)
    return (user + nice + system + sum(interrupts[:2])) / os.sysconf("SC_CLK_TCK")
