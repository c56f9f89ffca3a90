"""The platform without Dagster, in a data directory of its own: what a run does with candles, put together as it does.

Not here: who measures it (``contestants``).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from mdp.config.reference import Reference, load_reference
from mdp.config.services import exchange_settings, host_of
from mdp.config.settings import Settings, load_settings
from mdp.domain.interval import Interval
from mdp.domain.market import Exchange, Market
from mdp.exchanges import open_source, quotas_of
from mdp.exchanges.archive_deferred import DeferredSource
from mdp.exchanges.archive_first import with_archive
from mdp.pipeline.batches import Batch, keep, parts_of
from mdp.pipeline.collect import Collecting, collect_candles
from mdp.pipeline.judge import judge_candles
from mdp.pipeline.resampling import resample_candles
from mdp.ports import CandleSource, CandleStore
from mdp.sources import open_spool, process_budgets, source_opener, utc_now
from mdp.storage import open_store
from mdp.storage.spool import FileSpool


@dataclass(frozen=True, slots=True)
class Platform:
    """Settings and what they stand for; unlimited, the shared budget counts a hundred times the real quotas."""

    settings: Settings
    store: CandleStore
    spool: FileSpool
    reference: Reference
    is_unlimited: bool = False

    @classmethod
    def of(cls, settings: Settings, *, is_unlimited: bool = False) -> Self:
        """Return the platform of these settings."""
        spool = open_spool(settings, utc_now)
        return cls(settings, open_store(settings), spool, load_reference(), is_unlimited)

    @classmethod
    @contextmanager
    def at(cls, url: str, *, archives: bool) -> Iterator[Self]:
        """Open a new data directory whose exchanges are at ``url``; it is deleted in the end."""
        with tempfile.TemporaryDirectory(prefix="mdp-bench-") as folder:
            binance = {
                "rest_url": f"{url}/binance",
                "archive_url": f"{url}/binance-archive",
                "archives": archives,
                "rate_share": 1.0,
            }
            settings = load_settings(data_dir=Path(folder), exchanges={"binance": binance})
            try:
                yield cls.of(settings, is_unlimited=True)
            finally:
                process_budgets(settings).close()

    def open_source(self, exchange: Exchange) -> CandleSource:
        """Return the source of an exchange, as the platform does."""
        if not self.is_unlimited:
            return source_opener(self.settings, utc_now, self.spool)(exchange)
        own = exchange_settings(self.settings, exchange)
        lifted = [replace(quota, amount=quota.amount * 100) for quota in quotas_of(exchange)]
        budget = process_budgets(self.settings).of(
            exchange, lifted, host=host_of(own), rate_share=1, symbol_shares={}, timeout_s=own.timeout_s
        )
        rest = DeferredSource(
            exchange, lambda: open_source(exchange, own, clock=utc_now, budget=budget, spool=self.spool), budget
        )
        return with_archive(rest, exchange, own, clock=utc_now, budget=budget)

    def collect_and_judge(self, market: Market, window: Interval, *, resample: bool = False) -> int:
        """Take a market's days through the layers, each durable before the next; return the accepted minutes."""
        parts = parts_of((market, day.start.date()) for day in window.days())
        how = Collecting(memory_mb=self.settings.memory_mb_per_market, spool=self.spool)
        self._keep(collect_candles(parts, self.open_source, utc_now, how=how))
        rows = self._keep(judge_candles(parts, self.store, self.reference, utc_now))
        if resample:
            self._keep(resample_candles(parts, self.store, utc_now))
        return rows

    def _keep(self, batches: Iterable[Batch]) -> int:
        rows = 0
        for batch in batches:
            keep(self.store, batch)
            rows += sum(day.rows for day in batch.days.values())
        return rows
