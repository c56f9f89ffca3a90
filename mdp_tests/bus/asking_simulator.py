"""A process that asks a simulated exchange as fast as it may: ``python -m mdp_tests.bus.asking_simulator``.

Not here: what is expected of it (``test_against_simulator``).
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter

import httpx

from mdp.bus import open_budgets
from mdp.config.settings import load_settings
from mdp.domain.market import Exchange
from mdp.domain.quota import Quota, Usage

ANSWER_S = 0.05
EXCHANGES = {
    Exchange.BINANCE: (
        [Quota("weight", 6_000, 60, is_calendar=True), Quota("raw", 300_000, 300)],
        {"weight": 2.0, "raw": 1.0},
        "/binance/api/v3/klines?symbol=BTCUSDT&interval=1m&startTime=1735516800000&limit=1",
    ),
    Exchange.OKX: (
        [Quota("market/history-candles", 20, 2)],
        {"market/history-candles": 1.0},
        "/okx/api/v5/market/history-candles?instId=BTC-USDT&bar=1m&limit=1&after=1735516800000",
    ),
}


async def ask(url: str, data_dir: str, exchange: Exchange, seconds: float) -> Counter[str]:
    quotas, costs, path = EXCHANGES[exchange]
    counted: Counter[str] = Counter()
    until = time.monotonic() + seconds
    with open_budgets(load_settings(data_dir=data_dir)) as budgets:
        budget = budgets.of(exchange, quotas, host="exchange.test", rate_share=1.0, symbol_shares={}, timeout_s=5)
        async with httpx.AsyncClient(base_url=url) as client:

            async def one() -> None:
                while time.monotonic() < until:
                    leave = await budget.acquire(costs)
                    used = None
                    try:
                        await asyncio.sleep(ANSWER_S / 2)
                        answer = await client.get(path)
                        await asyncio.sleep(ANSWER_S / 2)
                        is_good = answer.status_code == 200 and b'"50011"' not in answer.content[:40]
                        counted["answered" if is_good else "refused"] += 1
                        used = answer.headers.get("x-mbx-used-weight-1m")
                    finally:
                        leave.answered(Usage("weight", used=float(used)) if used else None)

            await asyncio.gather(*(one() for _ in range(6)))
        await budget.close()
    return counted


if __name__ == "__main__":
    found = asyncio.run(ask(sys.argv[1], sys.argv[2], Exchange(sys.argv[3]), float(sys.argv[4])))
    sys.stdout.write(json.dumps(found))
