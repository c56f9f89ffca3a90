"""The budgets as Prometheus metrics.

Not here: reading them from the bus (``report``), serving them over HTTP.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from mdp.bus.report import BudgetReport, ExchangeUse
from mdp.domain.quota import Priority


def _names(uses: list[ExchangeUse]) -> list[str]:
    return ["egress", "exchange", "host"] if any(use.host for use in uses) else ["egress", "exchange"]


def _place(use: ExchangeUse, names: list[str]) -> list[str]:
    return [use.egress, use.exchange, use.host][: len(names)]


COUNTED: list[tuple[str, str, Callable[[ExchangeUse], float]]] = [
    ("mdp_budget_requests", "Requests that were given leave.", lambda use: use.requests),
    ("mdp_budget_waits", "Requests that had to wait for leave.", lambda use: use.waits),
    ("mdp_budget_waited_seconds", "Seconds that requests waited for leave.", lambda use: use.waited_s),
    ("mdp_budget_limited", "Times that the exchange refused and everybody was held.", lambda use: use.limited),
]
"""What only grows: name, help, where it is found."""


class BudgetCollector(Collector):
    """Collects the metrics at the moment they are asked for.

    Args:
        read: Reads the report, such as ``partial(read_report, settings)``.
    """

    def __init__(self, read: Callable[[], BudgetReport]) -> None:
        self._read = read

    def collect(self) -> Iterable[Metric]:
        """Return all metrics; those of exchanges only where the bus answers."""
        report = self._read()
        yield GaugeMetricFamily(
            "mdp_bus_up", "Whether the bus answers; 0 also while nobody asks.", value=float(report.is_running)
        )
        names = _names(report.exchanges)
        for name, text, value in COUNTED:
            counter = CounterMetricFamily(name, text, labels=names)
            for use in report.exchanges:
                counter.add_metric(_place(use, names), value(use))
            yield counter
        yield from _of_exchanges(report.exchanges)
        yield from _of_quotas(report.exchanges)


def _of_exchanges(uses: list[ExchangeUse]) -> Iterator[Metric]:
    names = _names(uses)
    cooling = GaugeMetricFamily("mdp_budget_cool_down_seconds", "Seconds until anybody may ask.", labels=names)
    waiting = GaugeMetricFamily("mdp_budget_waiting", "Requests that wait.", labels=[*names, "priority"])
    processes = GaugeMetricFamily("mdp_budget_processes", "Processes that ask.", labels=names)
    for use in uses:
        address = _place(use, names)
        cooling.add_metric(address, use.cool_down_s)
        processes.add_metric(address, len(use.processes))
        for priority in Priority:
            waiting.add_metric([*address, priority.value], use.waiting(priority))
    yield from (cooling, waiting, processes)


def _of_quotas(uses: list[ExchangeUse]) -> Iterator[Metric]:
    names = _names(uses)
    by_quota = [*names, "quota"]
    limit = GaugeMetricFamily("mdp_budget_quota", "The exchange's limit in a window.", labels=by_quota)
    used = GaugeMetricFamily("mdp_budget_used", "What all environments use of it now.", labels=by_quota)
    others = GaugeMetricFamily("mdp_budget_others", "What somebody else at this address uses of it.", labels=by_quota)
    share = GaugeMetricFamily("mdp_budget_share", "What an environment may use of it.", labels=[*by_quota, "env"])
    ours = GaugeMetricFamily("mdp_budget_used_by_env", "What an environment uses of it now.", labels=[*by_quota, "env"])
    for use in uses:
        for quota in {one.quota: one for one in use.quotas}.values():
            labels = [*_place(use, names), quota.quota]
            limit.add_metric(labels, quota.amount)
            used.add_metric(labels, quota.used)
            others.add_metric(labels, quota.others)
        for quota in use.quotas:
            labels = [*_place(use, names), quota.quota, quota.env]
            share.add_metric(labels, quota.share)
            ours.add_metric(labels, quota.used_by_env)
    yield from (limit, used, others, share, ours)


def exposition(report: BudgetReport) -> str:
    """Return the metrics of a report as Prometheus reads them."""
    registry = CollectorRegistry()
    registry.register(BudgetCollector(lambda: report))
    return generate_latest(registry).decode()
