"""Looks at the exchanges: does each answer from here, and does its clock agree with ours?

One small request each, and never past the budget that all processes share. Not here: what candles say.
"""

from __future__ import annotations

import asyncio
import time
from email.utils import parsedate_to_datetime

import httpx

from mdp.cli.doctor.findings import Finding, ill, odd, well
from mdp.config.services import exchange_settings, host_of, require_simulator
from mdp.config.settings import Settings
from mdp.domain.interval import Interval, format_time
from mdp.domain.market import Exchange, Market
from mdp.domain.timeframe import Timeframe
from mdp.errors import ConfigError, ExchangeError, ExchangeUnavailable, RateLimited, RequestRejected
from mdp.sources import live_source, market_clock, utc_now

ODD_S, ILL_S = 2.0, 5.0
"""How wrong the machine's clock may be: what counts as closed depends on it. An answer tells whole seconds."""


def look_at_exchange(settings: Settings, exchange: Exchange) -> list[Finding]:
    """Ask an exchange for its newest hour of one market."""
    markets = [market for market in map(Market.parse, settings.markets) if market.exchange is exchange]
    name = f"exchange {exchange.value}"
    if not markets:
        return [well(name, "nothing is collected of it")]
    try:
        require_simulator(settings, [exchange])
    except ConfigError as error:
        return [odd(name, f"the simulator: {error}", "start it: make up, or mdp simulate")]
    host = host_of(exchange_settings(settings, exchange))
    begun = time.monotonic()
    try:
        found = asyncio.run(_ask(settings, markets[0]))
    except (ExchangeError, ConfigError) as error:
        return [ill(name, f"{host}: {error}", _advice(error))]
    took_ms = (time.monotonic() - begun) * 1e3
    return [well(name, f"{host}: {found} candles of {markets[0]}, {took_ms:,.0f} ms")]


def look_at_clock(settings: Settings) -> list[Finding]:
    """Compare our clock with the time that an exchange's server writes on its answers."""
    seen = f"{format_time(utc_now().replace(microsecond=0))}, local zone {time.tzname[0]}"
    if settings.simulated:
        return [well("clock", f"{seen}; simulated exchanges have a clock of their own")]
    off_s = _offset(str(exchange_settings(settings, Market.parse(settings.markets[0]).exchange).rest_url))
    if off_s is None:
        return [odd("clock", seen, "no answer told the time, so nothing is known of it: look at the exchanges first")]
    seen = f"{seen}, {off_s:+.1f} s from the exchange"
    advice = "let the machine follow a time server: timedatectl set-ntp true"
    if abs(off_s) > ILL_S:
        return [ill("clock", seen, advice)]
    return [odd("clock", seen, advice) if abs(off_s) > ODD_S else well("clock", seen)]


def _offset(url: str) -> float | None:
    """Return our time less that of a server, in seconds; a question for the header alone uses no quota of its API."""
    try:
        begun = time.time()
        answer = httpx.head(url, timeout=5)
        told = parsedate_to_datetime(answer.headers["date"]).timestamp()
    except (httpx.HTTPError, KeyError, ValueError):
        return None
    return (begun + time.time()) / 2 - (told + 0.5)  # it is some part of a second later than it says


async def _ask(settings: Settings, market: Market) -> int:
    clock = market_clock(settings, market.exchange)
    length = Timeframe.H1 if market.is_volatility_index else Timeframe.M1
    end = length.floor(clock())
    async with live_source(settings, market.exchange, clock) as source:
        fetched = await source.fetch(market, length, Interval(end - 3 * length.duration, end))
    return fetched.rows.height


def _advice(error: Exception) -> str:
    if isinstance(error, ConfigError):
        return f"set {error.setting}"
    if isinstance(error, RateLimited):
        return "wait: `mdp budget` says how long; nobody here asks it meanwhile"
    if isinstance(error, RequestRejected):
        return (
            "this region may be refused: another address of the exchange (MDP_EXCHANGES__…__REST_URL), or another host"
        )
    if isinstance(error, ExchangeUnavailable):
        return "is the network there, and the exchange up? a proxy or firewall may stand between"
    return "keep the answer and compare it with docs/exchanges: it is not what was agreed"
