"""Everything that can be told of a platform at work, made here; for tests of metrics, the dashboard and the rules.

Not here: a real bus (``integration``).
"""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from mdp.api.measures import Measures
from mdp.api.metrics import exposition, registry_of
from mdp.api.mirror import Mirror
from mdp.bus.counted import Counted
from mdp.bus.report import BudgetReport, ExchangeUse, QuotaUse
from mdp.counts import COUNTERS, LEVELS
from mdp.live.health import FeedHealth, MarketHealth
from mdp.ports.live import Backlog
from mdp.reading.live_status import Facts
from mdp.reading.metrics import Found, platform_exposition

NOW_US = 1_763_880_000_000_000


def health(market="binance:BTC-USDT", **more):
    known = {
        "newest_us": NOW_US - 90_000_000,
        "update_age_s": 0.4,
        "closed_lag_ms": 250.0,
        "lag_ms": -20.0,
        "updates": 7,
    }
    return MarketHealth(market, **{"state": "streaming", **known, **more})


def feed(*markets, exchange="binance"):
    return FeedHealth(exchange, "holder", 1, "host", NOW_US, NOW_US, False, markets, 120.5, 3.25, 1)


def facts(*feeds, entries=0, oldest_us=None, live="run"):
    holders = {"live": live, **{f"feed/{one.exchange}": "holder" for one in feeds}}
    return Facts(
        {**{f"feed/{name}": None for name in ("binance", "bybit", "okx", "deribit")}, **holders},
        {one.exchange: one for one in feeds}, (), Backlog(entries, oldest_us),
    )  # fmt: skip


def budgets():
    quota = QuotaUse("weight", 6000, 60, "local-dev", 3000, 30, 30, {}, 0, 0)
    return BudgetReport("embedded", True, "", [ExchangeUse("binance", "here", 9, 1, 0.5, 0, 0, "", [quota], [])])


def counted():
    one_of_each = {(name, *(f"a_{label}" for label in one.labels)): 1.5 for name, one in COUNTERS.items()}
    return Counted(one_of_each, {(name, *(f"a_{label}" for label in one.labels)): 0.5 for name, one in LEVELS.items()})


def all_of_it(settings):
    """The answer of /metrics of a service that heard of everything, as text."""
    measures = Measures()
    measures.count("GET", "/x", 200, 0.001)
    found = Found(settings, budgets(), counted(), facts(feed(health()), entries=3, oldest_us=NOW_US - 5_000_000))
    return platform_exposition(found) + exposition(registry_of(measures, Mirror(settings, None), "1.0")).decode()


def samples(text):
    """Every sample of an answer, by name and labels."""
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
