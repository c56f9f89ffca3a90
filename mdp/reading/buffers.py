"""Live buffers for people and strategies: ``mdp.buffer`` and ``mdp.follow``.

Reading starts no server and no feed. Not here: the buffers of the past (``backtest_range``), what a message means
(``following``).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Coroutine, Iterator, Sequence
from contextlib import aclosing, suppress
from typing import Any, TypeVar

from mdp.bus.buffer_reading import read_buffer
from mdp.bus.live import open_live_reader
from mdp.config.settings import Settings, load_settings
from mdp.domain.market import Market
from mdp.errors import ConfigError, SliceMissing
from mdp.reading.arguments import parse_market, parse_markets, parse_timeframe
from mdp.reading.candle_buffer import CandleBuffer
from mdp.reading.following import Key, Update, updates

Answer = TypeVar("Answer")


def buffer(market: str, timeframe: str, *, settings: Settings | None = None) -> CandleBuffer:
    """Return the live buffer of a market: its last closed candles and the forming one.

    Args:
        market: For example ``binance:BTC-USDT`` or ``deribit:BTC-DVOL``.
        timeframe: ``1m``, ``5m``, ``15m``, ``1h``, ``4h`` or ``1d``.
        settings: Instead of those of the environment.

    Raises:
        InputError: the market or timeframe is wrong.
        ConfigError: the mode is ``backtest``.
        BusUnavailable: nobody runs the bus, or it does not answer; says what to start.
        SliceMissing: no feed ever wrote this buffer; says what to start.

    Examples:
        ``mdp.buffer("binance:BTC-USDT", "1m").frame()``
    """
    settings = settings or load_settings()
    whose, length = parse_market(market, settings), parse_timeframe(timeframe)
    require_live(settings)
    found = read_buffer(settings, whose, length)
    if found is None:
        raise SliceMissing(f"{whose} {length}: no feed has written this buffer yet; {to_start(whose)}")
    return CandleBuffer.of(found)


def follow(
    markets: str | Sequence[str] | None = None,
    timeframes: str | Sequence[str] = "1m",
    *,
    settings: Settings | None = None,
) -> Iterator[Update]:
    """Follow live candles: the newest of each buffer first, then every change as it comes, until it is closed.

    Messages that were lost are noticed by their numbers: the buffer is read again, and what changed meanwhile is given.
    Every end state of a candle comes, or ``missed`` says which do not, after an absence longer than the buffer; of the
    states between two, some may not come. While the bus is away, buffers are given
    once as stale, and so are those that no feed keeps any more; they come back by themselves. Every change is given in
    turn: who takes longer for one than the next takes to come, falls behind; ``candle.received_us`` tells by how much.

    Args:
        markets: None: all of the environment.
        timeframes: One or more.
        settings: Instead of those of the environment.

    Raises:
        InputError: a market or timeframe is wrong.
        ConfigError: the mode is ``backtest``.
        BusUnavailable: nobody runs the bus at the beginning; says what to start.

    Examples:
        ``for update in mdp.follow(["binance:BTC-USDT"]): print(update.candle.close, update.buffer.frame())``
    """
    settings = settings or load_settings()
    lengths = [parse_timeframe(text) for text in ([timeframes] if isinstance(timeframes, str) else timeframes)]
    wanted = parse_markets([markets] if isinstance(markets, str) else markets, settings)
    require_live(settings)
    read_buffer(settings, wanted[0], lengths[0])  # whether anybody runs the bus
    return _follow(settings, [(market, length) for market in wanted for length in dict.fromkeys(lengths)])


def require_live(settings: Settings) -> None:
    """Refuse to look for live buffers where no feed may run.

    Raises:
        ConfigError: the mode is ``backtest``.
    """
    if settings.mode != "live":
        expected = (
            "live: in a backtest no feed runs and there is no live buffer; "
            "mdp.backtest(…).buffer(…) gives the buffer of any past instant"
        )
        raise ConfigError("MDP_MODE", got=settings.mode, expected=expected)


def to_start(market: Market) -> str:
    """Say how the feed of a market is started."""
    return f"start `mdp feed {market.exchange}`, or turn on live_sensor in Dagster's UI (`mdp up`)"


def _follow(settings: Settings, wanted: Sequence[Key]) -> Iterator[Update]:
    """Run the asynchronous side in a thread of its own: a notebook has an event loop already, and it is busy."""
    loop = _Loop()
    try:
        found = _updates(settings, wanted)
        try:
            while True:
                yield loop.run(_next(found))
        finally:
            loop.run(_close(found))
    finally:
        loop.close()


async def _updates(settings: Settings, wanted: Sequence[Key]) -> AsyncGenerator[Update, None]:
    async with open_live_reader(settings) as bus, aclosing(updates(bus, wanted)) as found:
        async for update in found:
            yield update


async def _next(found: AsyncGenerator[Update, None]) -> Update:
    return await anext(found)


async def _close(found: AsyncGenerator[Update, None]) -> None:
    await found.aclose()


class _Loop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="mdp-follow", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        """Wait for what a coroutine gives; whoever is interrupted while waiting has cancelled it."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            with suppress(BaseException):
                self._settle()
            raise

    def _settle(self) -> None:
        """Let what was cancelled end."""
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0), self._loop).result(5)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()
