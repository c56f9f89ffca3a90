"""Live trading as Prometheus reads it: each exchange's feed, each market, what waits for storage.

Not here: asking for it (``live_status``), everything else (``metrics``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from mdp.config.settings import Settings
from mdp.domain.market import Market
from mdp.live.health import FeedHealth, MarketHealth, State, told_under
from mdp.reading.live_status import Facts, judge

STATES: tuple[State, ...] = ("seeding", "streaming", "polling", "refused")


class _OfMarket(NamedTuple):
    name: str
    help: str
    value: Callable[[MarketHealth], float | None]
    grows: bool = False


_SINCE = " Since its feed began."

_MARKETS = (
    _OfMarket("mdp_feed_update_age_seconds", "Since the stream gave anything.", lambda one: one.update_age_s),
    _OfMarket("mdp_feed_close_lag_seconds", "From a minute's close until it was known here.",
              lambda one: _seconds(one.closed_lag_ms)),
    _OfMarket("mdp_feed_update_lag_seconds", "From the exchange's sending to our hearing; below 0, a clock is wrong.",
              lambda one: _seconds(one.lag_ms)),
    _OfMarket("mdp_feed_unconfirmed_candles", "Minutes of the buffer that REST has yet to confirm.",
              lambda one: one.unconfirmed),
    _OfMarket("mdp_feed_pending_entries", "Closed minutes that wait for the bus.", lambda one: one.pending_entries),
    _OfMarket("mdp_feed_updates", "Messages of the stream." + _SINCE, lambda one: one.updates, grows=True),
    _OfMarket("mdp_feed_reconnects", "Times the stream was opened again." + _SINCE, lambda one: one.reconnects,
              grows=True),
    _OfMarket("mdp_feed_silences", "Times it was closed because REST knew more." + _SINCE, lambda one: one.silences,
              grows=True),
    _OfMarket("mdp_feed_corrections", "Finished minutes that were given other values." + _SINCE,
              lambda one: one.corrections, grows=True),
    _OfMarket("mdp_feed_absent_candles", "Minutes that the exchange does not have." + _SINCE, lambda one: one.absent,
              grows=True),
    _OfMarket("mdp_feed_rejected_candles", "Minutes that break a rule." + _SINCE, lambda one: one.rejected, grows=True),
    _OfMarket("mdp_feed_rest_requests", "Requests that were answered." + _SINCE, lambda one: one.rest_requests,
              grows=True),
    _OfMarket("mdp_feed_rest_failures", "Fetches that failed." + _SINCE, lambda one: one.rest_failures, grows=True),
    _OfMarket("mdp_feed_lost_entries", "Closed minutes given up because the bus was away." + _SINCE,
              lambda one: one.lost_entries, grows=True),
    _OfMarket("mdp_feed_inconsistent", "Longer candles that were not what their minutes are." + _SINCE,
              lambda one: one.inconsistent, grows=True),
)  # fmt: skip


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1_000


def metrics_of_feeds(settings: Settings, facts: Facts | None) -> Iterator[Metric]:
    """Return the metrics of live trading.

    Args:
        settings: Which markets there should be: of these, a feed that does not run is told as 0.
        facts: What the bus says; None: nothing, for it does not answer.
    """
    exchanges = list(dict.fromkeys(Market.parse(text).exchange.value for text in settings.markets))
    feeds = {} if facts is None else facts.feeds
    holders = {} if facts is None else facts.holders
    yield from _of_feeds(exchanges, feeds, holders, is_known=facts is not None)
    yield from _of_markets([one for feed in feeds.values() for one in feed.markets])
    yield from _of_lateness(settings, facts)
    yield from _of_backlog(facts)


def _of_feeds(
    exchanges: list[str], feeds: Mapping[str, FeedHealth], holders: Mapping[str, str | None], *, is_known: bool
) -> Iterator[Metric]:
    up = GaugeMetricFamily("mdp_feed_up", "Whether the feed runs and tells of itself.", labels=["exchange"])
    held = GaugeMetricFamily("mdp_feed_lease_held", "Whether somebody may write its buffers.", labels=["exchange"])
    for exchange in exchanges if is_known else ():
        up.add_metric([exchange], float(exchange in feeds))
        held.add_metric([exchange], float(holders.get(told_under(exchange)) is not None))
    memory = GaugeMetricFamily("mdp_feed_resident_memory_bytes", "Memory of the feed.", labels=["exchange"])
    cpu = CounterMetricFamily("mdp_feed_cpu_seconds", "CPU that the feed used." + _SINCE, labels=["exchange"])
    losses = CounterMetricFamily("mdp_feed_bus_losses", "Times the bus was away." + _SINCE, labels=["exchange"])
    began = GaugeMetricFamily("mdp_feed_start_time_seconds", "When the feed began.", labels=["exchange"])
    for exchange, feed in feeds.items():
        memory.add_metric([exchange], feed.rss_mb * 1e6)
        cpu.add_metric([exchange], feed.cpu_s)
        losses.add_metric([exchange], feed.bus_losses)
        began.add_metric([exchange], feed.started_us / 1e6)
    yield from (up, held, memory, cpu, losses, began)


def _of_markets(markets: list[MarketHealth]) -> Iterator[Metric]:
    state = GaugeMetricFamily("mdp_feed_state", "1 for what a market lives from now.", labels=["market", "state"])
    for one in markets:
        for name in STATES:
            state.add_metric([one.market, name], float(one.state == name))
    yield state
    for what in _MARKETS:
        made = CounterMetricFamily if what.grows else GaugeMetricFamily
        family = made(what.name, what.help, labels=["market"])
        for one in markets:
            value = what.value(one)
            if value is not None:
                family.add_metric([one.market], value)
        yield family


def _of_lateness(settings: Settings, facts: Facts | None) -> Iterator[Metric]:
    late = GaugeMetricFamily("mdp_market_late", "Whether nobody should trade on its buffers now.", labels=["market"])
    behind = GaugeMetricFamily("mdp_market_behind_seconds", "From its newest minute to now.", labels=["market"])
    for one in [] if facts is None else judge(settings.markets, facts):
        late.add_metric([one.market], float(one.is_late))
        if one.behind_s is not None:
            behind.add_metric([one.market], one.behind_s)
    yield from (late, behind)


def _of_backlog(facts: Facts | None) -> Iterator[Metric]:
    """Return what waits; where the bus does not say it, only the names: 0 would be an invention."""
    run = GaugeMetricFamily("mdp_live_run_up", "Whether a live run stores.", labels=[])
    entries = GaugeMetricFamily("mdp_live_backlog_entries", "Closed minutes not stored yet.", labels=[])
    age = GaugeMetricFamily("mdp_live_backlog_age_seconds", "How long the oldest of them waits.", labels=[])
    if facts is not None:
        now_us = max((feed.market_us for feed in facts.feeds.values()), default=None)
        oldest_us = facts.backlog.oldest_us
        run.add_metric([], float(facts.holders["live"] is not None))
        entries.add_metric([], facts.backlog.entries)
        if oldest_us is None:
            age.add_metric([], 0.0)
        elif now_us is not None:  # in the market's time, which only feeds know
            age.add_metric([], max(0.0, (now_us - oldest_us) / 1e6))
    yield from (run, entries, age)
