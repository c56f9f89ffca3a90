"""What the service counts, as Prometheus reads it. Each worker tells of itself and says which one it is.

Not here: counting (``measures``), the exposition of budgets (``bus.metrics``).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from mdp.api.measures import BOUNDS_S, Measures
from mdp.api.mirror import Mirror

_BOUNDS = (*(str(bound) for bound in BOUNDS_S), "+Inf")


class ServiceCollector(Collector):
    """Collects the metrics at the moment they are asked for.

    Args:
        measures: What was counted.
        mirror: The buffers.
        version: Of the package.
    """

    def __init__(self, measures: Measures, mirror: Mirror, version: str) -> None:
        self._measures, self._mirror, self._version = measures, mirror, version

    def collect(self) -> Iterable[Metric]:
        """Return all metrics."""
        worker = str(os.getpid())
        about = InfoMetricFamily("mdp_service", "Version and worker.")
        about.add_metric([], {"version": self._version, "worker": worker})
        yield about
        yield self._durations()
        yield from self._of_streams()
        yield from self._of_mirror()

    def _durations(self) -> Metric:
        found = HistogramMetricFamily(
            "mdp_http_request_duration_seconds",
            "Requests and how long they took.",
            labels=["method", "route", "status"],
        )
        for (method, route, status), tally in sorted(self._measures.requests.items()):
            buckets = list(zip(_BOUNDS, accumulate(tally.counts), strict=True))
            found.add_metric([method, route, str(status)], buckets, tally.seconds)
        return found

    def _of_streams(self) -> Iterator[Metric]:
        counts = self._measures
        yield GaugeMetricFamily("mdp_streams_open", "Subscribers that are connected now.", value=counts.streams_open)
        for name, text, value in (
            ("mdp_streams_opened", "Subscribers that ever connected.", counts.streams_opened),
            ("mdp_streams_cut", "Subscribers cut off because they did not read.", counts.streams_cut),
            ("mdp_stream_messages_sent", "Messages that were sent.", counts.messages_sent),
            ("mdp_stream_messages_conflated", "Messages that a later one replaced.", counts.messages_conflated),
        ):
            yield CounterMetricFamily(name, text, value=value)

    def _of_mirror(self) -> Iterator[Metric]:
        mirror = self._mirror
        heard_s = mirror.heard_s()
        age_s = float("nan") if heard_s is None else heard_s
        held = len(mirror.wanted) - len(mirror.missing)
        for name, text, value in (
            ("mdp_bus_connected", "Whether this worker hears the bus.", float(mirror.is_connected)),
            ("mdp_buffers", "Buffers in this worker's memory.", held),
            ("mdp_buffers_stale", "Of them, those that nobody keeps now.", len(mirror.stale)),
            ("mdp_buffers_heard_seconds", "Since anything changed; NaN: never.", age_s),
        ):
            yield GaugeMetricFamily(name, text, value=value)
        yield CounterMetricFamily("mdp_buffer_updates", "Changes of buffers that were heard.", value=mirror.updates)
        yield CounterMetricFamily("mdp_mirror_failures", "Times that mirroring broke off.", value=mirror.failures)


def registry_of(measures: Measures, mirror: Mirror, version: str) -> CollectorRegistry:
    """Return a registry of the service's metrics and those of its process."""
    registry = CollectorRegistry()
    registry.register(ServiceCollector(measures, mirror, version))
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    return registry


def exposition(registry: CollectorRegistry) -> bytes:
    """Return the metrics as Prometheus reads them."""
    return generate_latest(registry)
