"""``mdp live``: is every market's buffer fresh, do feeds and the live run work, what waits to be stored.

Not here: asking and judging (``reading.live_status``), acting on it (``defs``).
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence

import msgspec
from rich.table import Table

from mdp.bus.live import open_live_reader
from mdp.cli.output import print_table
from mdp.config.settings import Settings, load_settings
from mdp.domain.market import Exchange
from mdp.errors import InputError
from mdp.reading.buffers import require_live
from mdp.reading.live_status import (
    Facts,
    MarketStatus,
    as_document,
    ask,
    feed_problems,
    judge,
    problems_of,
    time_text,
)


def show_status(*, as_json: bool) -> int:
    """Show how live trading is; return the exit code.

    Raises:
        ConfigError: the mode is ``backtest``.
        BusUnavailable: nobody runs the bus; says what to start.
    """
    settings = load_settings()
    require_live(settings)
    facts = asyncio.run(_ask(settings))
    markets = judge(settings.markets, facts)
    problems = problems_of(settings, markets, facts)
    if as_json:
        body = as_document(markets, facts, problems)
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(body), indent=2) + b"\n")
    else:
        _show(markets, facts, problems)
    return 1 if problems else 0


def require_feed(exchange: str) -> int:
    """Say what is wrong with the feed of one exchange; return the exit code, 0 where nothing is.

    Raises:
        ConfigError: the mode is ``backtest``.
        InputError: no such exchange, or the settings name no market of it.
        BusUnavailable: nobody runs the bus; says what to start.
    """
    settings = load_settings()
    require_live(settings)
    own = dict.fromkeys(text.partition(":")[0] for text in settings.markets)
    if exchange not in own:
        expected = f"one of {', '.join(one.value for one in Exchange if one.value in own)}, which MDP_MARKETS names"
        raise InputError("--require", got=exchange, expected=expected)
    problems = feed_problems(exchange, settings.markets, asyncio.run(_ask(settings)))
    for problem in problems:
        sys.stdout.write(f"PROBLEM {problem}\n")
    return 1 if problems else 0


async def _ask(settings: Settings) -> Facts:
    async with open_live_reader(settings) as bus:
        return await ask(bus, settings)


def _show(markets: Sequence[MarketStatus], facts: Facts, problems: Sequence[str]) -> None:
    print_table(_feeds_table(facts))
    sys.stdout.write("\n")
    print_table(_markets_table(markets))
    run = facts.holders["live"]
    oldest = facts.backlog.oldest_us
    since = f", the oldest since {time_text(oldest)}" if oldest is not None else ""
    sys.stdout.write(f"\nlive run: {run or 'none'}; {facts.backlog.entries:,} minutes wait to be stored{since}\n")
    for problem in problems:
        sys.stdout.write(f"PROBLEM {problem}\n")


def _feeds_table(facts: Facts) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("feed", "holder", "since"):
        table.add_column(name, no_wrap=True)
    for name in ("market's time", "memory", "cpu", "bus lost"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, holder in facts.holders.items():
        exchange = name.removeprefix("feed/")
        feed = facts.feeds.get(exchange)
        if feed is not None:
            age_s = max(1.0, time.time() - feed.started_us / 1e6)
            table.add_row(
                exchange, feed.holder, time_text(feed.started_us), time_text(feed.market_us), f"{feed.rss_mb:.0f} MB",
                f"{feed.cpu_s / age_s:.1%}", str(feed.bus_losses),
            )  # fmt: skip
        elif name != "live":
            table.add_row(exchange, holder or "does not run", *[""] * 5)
    return table


def _markets_table(markets: Sequence[MarketStatus]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("market", "state", "newest", "confirmed until"):
        table.add_column(name, no_wrap=True)
    for name in ("behind", "close lag", "reconnects", "corrected", "absent", "inconsistent"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in markets:
        health = one.health
        if health is None:
            table.add_row(one.market, "none", *[""] * 8)
            continue
        lag = "" if health.closed_lag_ms is None else f"{health.closed_lag_ms:.0f} ms"
        table.add_row(
            one.market, health.state, time_text(health.newest_us), time_text(health.confirmed_until_us),
            "" if one.behind_s is None else f"{one.behind_s:.0f} s", lag,
            *(f"{count:,}" for count in (health.reconnects, health.corrections, health.absent, health.inconsistent)),
            style="red" if one.is_late else "",
        )  # fmt: skip
    return table
