"""How live trading is: is every market's buffer fresh, do feeds and the live run work, what waits to be stored.

Not here: what a feed tells of itself (``live.health``), acting on it (``defs``), showing it (``cli``, ``api``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from mdp.bus.live import ValkeyLiveBus
from mdp.config.settings import Settings
from mdp.domain.interval import format_time
from mdp.domain.market import Market
from mdp.domain.timeframe import EPOCH
from mdp.live.health import FeedHealth, MarketHealth, read_feeds, told_under
from mdp.ports.live import Backlog
from mdp.reading.buffers import to_start

MINUTE_US = 60_000_000

LATE_AFTER_US = 2 * MINUTE_US
"""A quiet market's forming minute may be late by some updates; one that lacks two minutes is not quiet."""

NOT_STORED_AFTER_S = 180.0
"""What waits for longer than this, and three times ``persist_every_s``, waits in vain."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the bus says, at one time.

    Attributes:
        holders: Who holds each lease, ``feed/binance`` … and ``live``; None: nobody.
        feeds: What each feed told last, by exchange; those that do not run are not among them.
        unreadable: What could not be read of what was told.
        backlog: What waits to be stored.
    """

    holders: Mapping[str, str | None]
    feeds: Mapping[str, FeedHealth]
    unreadable: tuple[str, ...]
    backlog: Backlog


@dataclass(frozen=True, slots=True)
class MarketStatus:
    """One market: what its feed says of it, how far behind the market's time it is, and what is wrong."""

    market: str
    health: MarketHealth | None
    behind_s: float | None
    problem: str

    @property
    def is_late(self) -> bool:
        """Tell whether nobody should trade on its buffers now."""
        return bool(self.problem)


async def ask(bus: ValkeyLiveBus, settings: Settings) -> Facts:
    """Ask the bus for all of it.

    Args:
        bus: Open.
        settings: Whose markets.

    Raises:
        BusUnavailable: it cannot be reached.
    """
    exchanges = list(dict.fromkeys(Market.parse(text).exchange.value for text in settings.markets))
    names = [*map(told_under, exchanges), "live"]
    holders = {name: await bus.holder_of(name) for name in names}
    feeds, unreadable = read_feeds(await bus.told("feed/"))
    return Facts(holders, feeds, tuple(unreadable), await bus.backlog())


def judge(markets: Sequence[str], facts: Facts) -> list[MarketStatus]:
    """Say of each market whether it is late, and why, in the order of the settings."""
    found = []
    for text in markets:
        market = Market.parse(text)
        feed = facts.feeds.get(market.exchange.value)
        health = next((one for one in feed.markets if one.market == text), None) if feed else None
        if feed is None:
            found.append(MarketStatus(text, None, None, f"no feed: {to_start(market)}"))
        elif health is None:
            found.append(MarketStatus(text, None, None, "its feed does not know it: it was started with other markets"))
        else:
            found.append(_judge_health(text, feed, health))
    return found


def _judge_health(text: str, feed: FeedHealth, health: MarketHealth) -> MarketStatus:
    if health.newest_us is None:
        return MarketStatus(text, health, None, f"{health.state}: nothing came yet")
    behind_us = feed.market_us - health.newest_us - MINUTE_US
    problem = ""
    if health.state == "refused":
        problem = f"refused: {health.detail}"
    elif behind_us > LATE_AFTER_US:
        problem = f"late by {behind_us / 1e6:.0f} s"
    return MarketStatus(text, health, max(0.0, behind_us / 1e6), problem)


def problems_of(settings: Settings, markets: Sequence[MarketStatus], facts: Facts) -> list[str]:
    """List what is wrong, in words: late markets, and what is not stored."""
    found = [f"{one.market}: {one.problem}" for one in markets if one.is_late]
    found += facts.unreadable
    backlog, feeds = facts.backlog, facts.feeds.values()
    if backlog.oldest_us is not None and feeds:
        now_us = max(feed.market_us for feed in feeds)
        waited_s = (now_us - backlog.oldest_us) / 1e6
        what = f"{backlog.entries:,} minutes wait to be stored, the oldest for {waited_s:.0f} s"
        patience_s = max(NOT_STORED_AFTER_S, 3 * settings.live.persist_every_s)
        if waited_s > patience_s and facts.holders["live"] is None:
            found.append(f"{what}, and no live run stores them: turn on live_sensor in Dagster's UI")
        elif waited_s > 10 * patience_s:
            found.append(f"{what}, although a live run is there: its log in Dagster's UI says why")
    return found


def feed_problems(exchange: str, markets: Sequence[str], facts: Facts) -> list[str]:
    """List what is wrong with the feed of one exchange: it holds no lease, or one of its markets is late.

    Args:
        exchange: Such as ``binance``.
        markets: Of all exchanges, as the settings name them.
        facts: What the bus says.
    """
    found = [] if facts.holders.get(told_under(exchange)) else [f"{exchange}: nobody holds the lease of its feed"]
    found += [one for one in facts.unreadable if exchange in one]
    own = [text for text in markets if Market.parse(text).exchange.value == exchange]
    return found + [f"{one.market}: {one.problem}" for one in judge(own, facts) if one.is_late]


def as_document(markets: Sequence[MarketStatus], facts: Facts, problems: Sequence[str]) -> dict[str, Any]:
    """Return all of it for machines."""
    return {
        "healthy": not problems,
        "problems": list(problems),
        "live_run": facts.holders["live"],
        "backlog": {"entries": facts.backlog.entries, "oldest": time_text(facts.backlog.oldest_us) or None},
        "feeds": [
            {
                "exchange": name.removeprefix("feed/"),
                "holder": holder,
                "health": msgspec.to_builtins(facts.feeds.get(name.removeprefix("feed/"))),
            }
            for name, holder in facts.holders.items()
            if name != "live"
        ],
        "markets": [
            {"market": one.market, "late": one.is_late, "problem": one.problem or None, "behind_s": one.behind_s}
            for one in markets
        ],
    }


def time_text(microseconds: int | None) -> str:
    """Return a time to the second; empty for None."""
    if microseconds is None:
        return ""
    moment = EPOCH + EPOCH.resolution * microseconds
    return format_time(moment.replace(microsecond=0))
