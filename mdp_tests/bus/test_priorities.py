"""Live requests while the backfills of four other processes take all that an exchange allows."""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys

import pytest

from mdp.bus import open_budgets
from mdp.config.settings import load_settings
from mdp.domain.market import Exchange
from mdp.domain.quota import Priority, Quota

pytestmark = [pytest.mark.slow, pytest.mark.timeout(90)]

PROCESSES, ASKING, QUESTIONS = 4, 8, 30

SATURATE = """
import asyncio, sys
from pathlib import Path
from mdp.bus import open_budgets
from mdp.config.settings import load_settings
from mdp.domain.market import Exchange
from mdp.domain.quota import Quota

settings = load_settings(data_dir=Path(sys.argv[1]), bus={"egress": sys.argv[2]})

async def saturate(budget):
    waits = []
    async def one():
        while len(waits) < 100_000:
            leave = await budget.acquire({"weight": 1})
            waits.append(leave.waited_s)
            leave.answered()
            if len(waits) == 20:
                print("asking", flush=True)
    asking = [asyncio.create_task(one()) for _ in range(int(sys.argv[3]))]
    await asyncio.to_thread(sys.stdin.read)
    print(sorted(waits[20:])[len(waits[20:]) // 2], flush=True)
    for task in asking:
        task.cancel()
    await asyncio.gather(*asking, return_exceptions=True)
    await budget.close()

with open_budgets(settings) as budgets:
    quotas = [Quota("weight", 60, 1.0)]
    terms = {"host": "exchange.test", "rate_share": 1.0, "symbol_shares": {}, "timeout_s": 2.0}
    asyncio.run(saturate(budgets.of(Exchange.OKX, quotas, **terms)))
"""


async def live_waits(settings):
    """How long live requests waited that come one after another, now and then."""
    with open_budgets(settings) as budgets:
        budget = budgets.of(
            Exchange.OKX, [Quota("weight", 60, 1.0)], host="exchange.test", rate_share=1.0, symbol_shares={},
            timeout_s=2.0, priority=Priority.LIVE,
        )  # fmt: skip
        waits = []
        for _ in range(QUESTIONS):
            leave = await budget.acquire({"weight": 1})
            waits.append(leave.waited_s)
            leave.answered()
            await asyncio.sleep(0.1)
        await budget.close()
    return waits


def test_a_live_request_hardly_waits_while_backfills_of_four_processes_take_all_there_is(bus_dir):
    egress = f"priorities{os.getpid()}"
    command = [sys.executable, "-c", SATURATE, str(bus_dir), egress, str(ASKING)]
    backfills = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(PROCESSES)
    ]
    try:
        assert [process.stdout.readline() for process in backfills] == ["asking\n"] * PROCESSES
        live = asyncio.run(live_waits(load_settings(data_dir=bus_dir, bus={"egress": egress})))
        backfilled = statistics.median(float(process.communicate("", timeout=20)[0]) for process in backfills)
    finally:
        for process in backfills:
            process.kill()
            process.communicate()
    print(
        f"live waited {statistics.median(live) * 1e3:.0f} ms (most {max(live) * 1e3:.0f}), "
        f"a request of a backfill {backfilled * 1e3:.0f} ms, medians"
    )
    assert backfilled > 0.2, "or nobody had to wait"
    assert statistics.median(live) < backfilled / 2
    assert sorted(live)[int(len(live) * 0.9)] < backfilled
