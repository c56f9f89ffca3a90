"""A process that asks a made-up exchange as fast as it may, and writes down when: ``python -m mdp_tests.bus.asking``.

Not here: what is expected of it (``test_server``).
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from pathlib import Path

from mdp.bus import open_budgets
from mdp.config.settings import load_settings
from mdp.domain.market import Exchange
from mdp.domain.quota import Quota

QUOTA = Quota("requests", 40, 2.0)
TIMEOUT_S = 1.0
ANSWER_S = 0.02


async def ask(data_dir: Path, seconds: float) -> None:
    with open_budgets(load_settings(data_dir=data_dir)) as budgets:
        budget = budgets.of(
            Exchange.OKX, [QUOTA], host="exchange.test", rate_share=1.0, symbol_shares={}, timeout_s=TIMEOUT_S
        )
        until = time.monotonic() + seconds

        async def one() -> None:
            while time.monotonic() < until:
                leave = await budget.acquire({QUOTA.name: 1})
                sys.stdout.write(f"{time.monotonic()}\n")  # all processes of a machine share this clock
                sys.stdout.flush()
                await asyncio.sleep(ANSWER_S)
                leave.answered()

        asking = [asyncio.create_task(one()) for _ in range(4)]
        await asyncio.wait(asking, timeout=seconds)
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        await budget.close()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    asyncio.run(ask(Path(sys.argv[1]), float(sys.argv[2])))
