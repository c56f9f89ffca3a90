"""The whole platform as Prometheus reads it: feeds, leases, backlog, budgets, and what all processes counted.

It is read from the bus, so that whoever is asked answers the same; a bus that is away is said, and is no error.
Not here: what one process of the service counts (``api.metrics``), serving it.
"""

from __future__ import annotations

import asyncio
import platform
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import version

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from mdp.bus.counted import Counted, read_counted
from mdp.bus.live import ValkeyLiveBus
from mdp.bus.metrics import BudgetCollector
from mdp.bus.report import BudgetReport, read_report
from mdp.config.settings import Settings
from mdp.counts import COUNTERS, LEVELS
from mdp.errors import BusUnavailable
from mdp.reading.feed_metrics import metrics_of_feeds
from mdp.reading.live_status import Facts, ask

PATIENCE_S = 3.0
"""Prometheus gives up after 10 s; a bus that does not answer within these is away."""


@dataclass(frozen=True, slots=True)
class Found:
    """What there is to tell.

    Attributes:
        settings: Of the environment.
        budgets: Which also say whether the bus answers.
        counted: By all processes; None: the bus does not answer.
        facts: Of live trading; None: it does not answer, or the mode is ``backtest``.
    """

    settings: Settings
    budgets: BudgetReport
    counted: Counted | None
    facts: Facts | None


async def find(settings: Settings, bus: ValkeyLiveBus | None) -> Found:
    """Read all of it at once, within a few seconds.

    Args:
        settings: Of the environment.
        bus: Open; None: nothing of live trading is told.
    """
    budgets, counted, facts = await asyncio.gather(
        asyncio.to_thread(read_report, settings), asyncio.to_thread(read_counted, settings), _facts(settings, bus)
    )
    return Found(settings, budgets, counted, facts)


async def _facts(settings: Settings, bus: ValkeyLiveBus | None) -> Facts | None:
    if bus is None or settings.mode != "live":
        return None
    try:
        async with asyncio.timeout(PATIENCE_S):
            return await ask(bus, settings)
    except (BusUnavailable, TimeoutError):
        return None


class PlatformCollector(Collector):
    """Tells what was found.

    Args:
        found: See :func:`find`.
    """

    def __init__(self, found: Found) -> None:
        self._found = found

    def collect(self) -> Iterable[Metric]:
        """Return all metrics; a counter without any value yet is told by its name, so that it can be looked up."""
        found = self._found
        yield InfoMetricFamily("mdp_build", "Version, environment.", value=_build(found.settings))
        yield from BudgetCollector(lambda: found.budgets).collect()
        yield from _of_counted(found.counted or Counted({}, {}))
        yield from _of_disk(found.settings)
        if found.settings.mode == "live":
            yield from metrics_of_feeds(found.settings, found.facts)


def platform_exposition(found: Found) -> str:
    """Return the metrics as Prometheus reads them."""
    registry = CollectorRegistry()
    registry.register(PlatformCollector(found))
    return generate_latest(registry).decode()


def _build(settings: Settings) -> dict[str, str]:
    return {"version": version("mdp"), "python": platform.python_version(), "env": settings.env}


def _of_counted(counted: Counted) -> Iterator[Metric]:
    families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {
        **{one.name: CounterMetricFamily(one.name, one.help, labels=one.labels) for one in COUNTERS.values()},
        **{one.name: GaugeMetricFamily(one.name, one.help, labels=one.labels) for one in LEVELS.values()},
    }
    for (name, *labels), value in sorted({**counted.counters, **counted.levels}.items()):
        families[name].add_metric(labels, value)
    yield from families.values()


def _of_disk(settings: Settings) -> Iterator[Metric]:
    try:
        use = shutil.disk_usage(settings.data_dir)
    except OSError:  # nothing was ever stored here
        return
    yield GaugeMetricFamily("mdp_disk_size_bytes", "Of the disk of the data directory.", value=use.total)
    yield GaugeMetricFamily("mdp_disk_free_bytes", "That we may still write there.", value=use.free)
