"""The fetch benchmarks: every contestant in turn, round after round, each in a process of its own.

Not here: who competes (``contestants``), the quota of several processes (``quota_share``).
"""

from __future__ import annotations

import json
import signal
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from mdp_tests.benchmarks.contestants import CONTESTANTS

ROUNDS = 5
NOW = "2025-03-01T00:00Z"
LATENCY_MS = 50
Costs = dict[str, float]


@contextmanager
def exchange(latency_ms: float) -> Iterator[str]:
    """Run the simulator without quotas; yield its address."""
    command = [sys.executable, "-m", "mdp_tests.benchmarks.exchange", NOW, str(latency_ms)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().rpartition(" ")[2].strip()
        finally:
            process.send_signal(signal.SIGTERM)


def compete(name: str, url: str) -> Costs:
    """Let one contestant run; return what it printed."""
    command = [sys.executable, "-m", "mdp_tests.benchmarks.contestants", name, url]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    costs: Costs = json.loads(done.stdout.splitlines()[-1])
    return costs


def measure(group: str, latency_ms: float, rounds: int = ROUNDS) -> dict[str, list[Costs]]:
    """Run every contestant of a group in turn, after one round that is not counted."""
    names = [name for name in CONTESTANTS if name.startswith(group)]
    found: dict[str, list[Costs]] = {name: [] for name in names}
    with exchange(latency_ms) as url:
        for number in range(rounds + 1):
            for name in names:
                costs = compete(name, url)
                if number:
                    found[name].append(costs)
    return found


def interpreter_s() -> float:
    """Wall time of an interpreter that does nothing."""
    code = "import time,psutil,os; print(time.time() - psutil.Process(os.getpid()).create_time())"
    started = [float(subprocess.check_output([sys.executable, "-c", code])) for _ in range(5)]
    return statistics.median(started)


def table(found: dict[str, list[Costs]]) -> str:
    """Draw the medians and the ratio of CPU a candle to the first contestant, round by round."""
    lines = [
        "| contestant | candles per CPU-s | CPU / floor | CPU-s per 500 k | wall s | process, wall s | RSS MB |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    floor = next(iter(found.values()))
    for name, costs in found.items():
        ratio = statistics.median(
            (own["cpu_s"] / own["candles"]) / (least["cpu_s"] / least["candles"])
            for own, least in zip(costs, floor, strict=True)
        )
        rate, wall, whole, rss = (
            statistics.median(values)
            for values in (
                [one["candles"] / one["cpu_s"] for one in costs],
                [one["wall_s"] for one in costs],
                [one["wall_since_start_s"] for one in costs],
                [one["rss_mb"] for one in costs],
            )
        )
        lines.append(
            f"| {name.partition(': ')[2]} | {rate:,.0f} | {ratio:.1f} | {500_000 / rate:.2f} | {wall:.2f} "
            f"| {whole:.2f} | {rss:.0f} |"
        )
    return "\n".join(lines)
