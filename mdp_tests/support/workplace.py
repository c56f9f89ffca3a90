"""A data directory of its own, and the commands of ``mdp`` run in it as processes, as people run them.

Not here: the simulator (``simulator_process``).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from mdp.cli.processes import dagster_environment
from mdp.config.settings import Settings, load_settings
from mdp.domain.digests import digest
from mdp.domain.interval import Interval
from mdp.domain.market import Market
from mdp.domain.timeframe import RESAMPLED, Timeframe
from mdp.ports import DVOL, GAPS, OHLCV, RAW_OHLCV, REJECTED_OHLCV, Slice
from mdp.storage import open_store
from mdp_tests.support.simulator_control import exchange_urls


@dataclass
class Workplace:
    """Where commands run: their data directory and what they find in the environment.

    Without ``simulator_url`` they look for the simulator that ``mdp up`` started there.
    """

    data_dir: Path
    simulator_url: str | None = None
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        urls = exchange_urls(self.simulator_url) if self.simulator_url else {}
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MDP_", "DAGSTER_"))}
        return {**inherited, "MDP_DATA_DIR": str(self.data_dir), **urls, **self.extra}

    @property
    def dagster_environment(self) -> dict[str, str]:
        return {**self.environment, **dagster_environment(self.settings)}

    @property
    def settings(self) -> Settings:
        return load_settings(data_dir=self.data_dir)

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "mdp.cli", *arguments]

    def run(self, *arguments: str, timeout_s: float = 300) -> subprocess.CompletedProcess[str]:
        """Run one command to its end."""
        return subprocess.run(
            self.command(*arguments),
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a command in a session of its own."""
        with (self.data_dir / f"{arguments[0]}.out").open("ab") as output:
            return subprocess.Popen(
                self.command(*arguments),
                env=self.environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
                # whoever runs the tests in the background has it ignored, and would pass that on
                preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
            )

    def digests(self, market: str, window: Interval) -> dict[str, str]:
        """What each table says of a market in a window."""
        store, one = open_store(self.settings), Market.parse(market)
        minutes = Slice(one, (Timeframe.M1,), window)
        tables = (DVOL, GAPS) if one.is_volatility_index else (RAW_OHLCV, OHLCV, REJECTED_OHLCV, GAPS)
        found = {table.name: digest(store.read(table, minutes)) for table in tables}
        return {**found, "resampled": digest(store.read(OHLCV, Slice(one, RESAMPLED, window)))}
