"""Who watches what: one watcher for each market of an exchange's stream.

Not here: the connection (``stream_wire``), who is concerned by which message (``stream``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from mdp.domain.live import LiveCandle
from mdp.domain.market import Market
from mdp.errors import ExchangeUnavailable
from mdp.ports import Sink, Streamed


class Watcher:
    """Somebody who watches a market, from its subscription until something breaks.

    Args:
        market: Which.
        market_id: The exchange's spelling.
        sink: Takes every update.
    """

    def __init__(self, market: Market, market_id: str, sink: Sink) -> None:
        loop = asyncio.get_running_loop()
        self.market = market
        self.market_id = market_id
        self.is_accepted = False
        self._sink = sink
        self._loop = loop
        self._broken: asyncio.Future[None] = loop.create_future()
        self._deadline: asyncio.TimerHandle | None = None

    async def wait(self) -> None:
        """Wait until it breaks, and raise why."""
        await self._broken

    def expect_answer(self, within_s: float) -> None:
        """Fail if the subscription is not accepted in time; asked again, the new time counts."""
        self._stop_waiting()
        if not self.is_accepted:
            self._deadline = self._loop.call_later(within_s, self._give_up, within_s)

    def accept(self) -> None:
        """Take note that the subscription stands."""
        self.is_accepted = True
        self._stop_waiting()

    def give(self, candles: Collection[LiveCandle], event_us: int) -> None:
        """Hand updates on; they prove the subscription too."""
        if not self.is_accepted:
            self.accept()
        if not self._broken.done():
            for candle in candles:
                self._sink(Streamed(self.market, candle, event_us))

    def fail(self, error: Exception) -> None:
        """Break it; only the first reason counts."""
        self._stop_waiting()
        if not self._broken.done():
            self._broken.set_exception(error)

    def leave(self) -> None:
        """Forget it: nobody waits any more."""
        self._stop_waiting()
        if not self._broken.cancel() and not self._broken.cancelled():
            self._broken.exception()  # looked at, so that asyncio does not complain that nobody did

    def _give_up(self, within_s: float) -> None:
        what = f"the subscription of {self.market.symbol_key} was not answered in {within_s:g} s"
        self.fail(ExchangeUnavailable(self.market.exchange.value, what))

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
