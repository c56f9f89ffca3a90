"""``mdp feed``: one exchange's feed, put together as the settings say.

Not here: the feed (``live``), who starts it when nobody types (``live.starting``).
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
from contextlib import AsyncExitStack

from mdp.bus.counted import bring_counts
from mdp.config.services import exchange_settings, require_simulator
from mdp.config.settings import Settings, load_settings
from mdp.domain.market import Exchange, Market
from mdp.errors import ConfigError, InputError
from mdp.logs import configure_logs


def run_feed(exchange: str, *, while_wanted: bool, waits: bool) -> None:
    """Run the feed of an exchange until it is stopped.

    Args:
        exchange: Its name.
        while_wanted: End when nobody wants it any more.
        waits: Wait for a feed that runs already to end, instead of refusing.

    Raises:
        InputError: no such exchange, or none of its markets is collected.
        ConfigError: the settings say that no feed may run, or not where the exchange is.
        LeaseHeld: another feed of the exchange runs.
        BusUnavailable: the bus cannot be reached.
        ExchangeUnavailable: the simulator does not answer.
    """
    settings = load_settings()
    if settings.mode != "live":
        raise ConfigError("MDP_MODE", got=settings.mode, expected="live; in backtest no feed may run")
    if exchange not in list(Exchange):
        raise InputError("exchange", got=exchange, expected=f"one of {', '.join(Exchange)}")
    one = Exchange(exchange)
    markets = tuple(market for market in map(Market.parse, settings.markets) if market.exchange is one)
    if not markets:
        raise InputError("exchange", got=exchange, expected=f"one whose markets MDP_MARKETS names: {settings.markets}")
    require_simulator(settings, [one])
    configure_logs(settings, feed=exchange)
    bring_counts(settings)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_feed(settings, one, markets, while_wanted=while_wanted, waits=waits))


def _loop_factory() -> type[asyncio.AbstractEventLoop] | None:
    """Return the quicker event loop where there is one: not on Windows."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.Loop


async def _feed(
    settings: Settings, exchange: Exchange, markets: tuple[Market, ...], *, while_wanted: bool, waits: bool
) -> None:
    # when needed: CCXT takes a second
    from mdp.bus import open_live_bus
    from mdp.exchanges import open_stream
    from mdp.live.feed import Feed
    from mdp.live.means import Means
    from mdp.sources import live_source, market_clock
    from mdp.storage import open_store

    own = exchange_settings(settings, exchange)
    clock = await asyncio.to_thread(market_clock, settings, exchange)
    holder = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
    async with AsyncExitStack() as opened:
        bus = await opened.enter_async_context(open_live_bus(settings))
        source = await opened.enter_async_context(live_source(settings, exchange, clock))
        stream = await opened.enter_async_context(open_stream(exchange, own, clock=clock))
        store = open_store(settings)
        means = Means(exchange, markets, settings.live, own.settle_s, clock, source, stream, bus, store)
        feed = Feed(means, holder, while_wanted=while_wanted)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, feed.stop, signal.Signals(number).name)
        await feed.run(waits=waits)
