"""One market of a feed: its stream, what REST says of it, its buffers.

Not here: when REST is asked (``asking``), what it must say twice (``ledger``), filling the buffers at the beginning
(``seeding``), the process (``feed``).
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from math import inf

from mdp.domain.buffers import MarketBuffers
from mdp.domain.interval import Interval
from mdp.domain.live import CandleState
from mdp.domain.market import Market
from mdp.domain.timeframe import Timeframe
from mdp.errors import ExchangeError, InputError, RateLimited, RequestRejected
from mdp.live.asking import Pace, Reason, Watch, confirmation_start
from mdp.live.backoff import Backoff
from mdp.live.books import Books
from mdp.live.exchange_time import ExchangeTime
from mdp.live.ledger import Ledger
from mdp.live.means import Means, moment
from mdp.live.publishing import Publisher
from mdp.live.rest_minutes import MICROSECOND
from mdp.live.tenure import Tenure
from mdp.ports import Fetched, Streamed

_log = logging.getLogger(__name__)

REFUSED_AGAIN_S, REFUSED_LONGEST_S = 10.0, 600.0
"""A market that the exchange refuses is tried again after so many seconds, at first and in the end: it may be a mishap
of a moment, or a market that is gone."""

_MINUTE = Timeframe.M1.microseconds


class MarketFeed:
    """Everything of one market. Belongs to one event loop.

    Args:
        market: Which one.
        means: What it works with.
        tenure: Without it nothing is published.

    Attributes:
        is_seeded: Whether its buffers were filled.
        is_refused: Whether REST refuses the market.
        trouble: Why the stream does not work now; empty otherwise.
        rest_trouble: The same of REST.
    """

    def __init__(self, market: Market, means: Means, tenure: Tenure) -> None:
        self.market = market
        self.means = means
        self.buffers = MarketBuffers(market, means.live.buffer_size)
        self.publisher = Publisher(means.bus, self.buffers, tenure)
        self.ledger = Ledger(means.settle_us)
        self.books = Books(self.buffers, self.ledger, self.publisher)
        self.tally = self.books.tally
        self.watch = Watch()
        self.is_seeded = False
        self.is_refused = False
        self.trouble = ""
        self.rest_trouble = ""
        self._exchange_time = ExchangeTime()
        self._confirmed_from_us: int | None = None
        self._again_us = 0
        self._rest_after = 0.0
        self._rest_backoff = Backoff(0.5, 10.0, inf)
        self._stream_refusals = Backoff(REFUSED_AGAIN_S, REFUSED_LONGEST_S)
        self._rest_refusals = Backoff(REFUSED_AGAIN_S, REFUSED_LONGEST_S)
        self._kick = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop to which it belongs."""
        return self._loop

    @property
    def rest_wait_s(self) -> float:
        """Seconds until REST may be asked again after it failed."""
        return max(0.0, self._rest_after - time.monotonic())

    @property
    def pace(self) -> Pace:
        """How often REST is asked, at the present speed of the market's clock."""
        return Pace.at_speed(self.means.clock.speed, self.means.live.silence_s)

    def now_us(self) -> int:
        """Return the exchange's time, as well as it is known."""
        return self.means.now_us() + self._exchange_time.ahead_us

    async def stream(self) -> None:
        """Watch the stream, and again whenever it broke."""
        backoff = Backoff()
        while True:
            began = time.monotonic()
            self.watch.connecting(self.now_us())
            try:
                await self.means.stream.watch(self.market, self._hear)
                why: Exception | None = None
            except (ExchangeError, InputError) as error:
                why = error
            self.watch.disconnected()
            self._kick.set()
            await asyncio.sleep(self._pause_s(why, backoff, time.monotonic() - began))
            self.tally.reconnects += 1

    def _pause_s(self, why: Exception | None, backoff: Backoff, worked_s: float) -> float:
        """Say what broke, once, and how long to wait."""
        said = f"stream: {why or 'it ended'}"
        if isinstance(why, RequestRejected | InputError):
            self.trouble = said
            wait_s = self._stream_refusals.failed(worked_s)
            _log.error(
                "%s: refused, tried again in %.0f s; REST keeps the buffers alive; %s", self.market, wait_s, said
            )
            return wait_s
        if said != self.trouble:
            _log.warning("%s: %s; REST keeps the buffers alive", self.market, said)
        self.trouble = said
        wait_s = backoff.failed(worked_s)
        return max(wait_s, min(why.retry_after_s, 60.0)) if isinstance(why, RateLimited) else wait_s

    def _hear(self, streamed: Streamed) -> None:
        """The sink of the stream: runs in the instant in which a message was read."""
        ours = self.means.now_us()
        is_told = streamed.event_us != streamed.candle.received_us  # one exchange does not say when it sent
        self._exchange_time.heard(streamed.event_us, ours, open_us=streamed.candle.open_us, is_told=is_told)
        now = ours + self._exchange_time.ahead_us
        candle, tally = streamed.candle, self.tally
        tally.updates += 1
        if self.trouble:
            _log.info("%s: the stream gives updates again", self.market)
            self.trouble = ""
            self._stream_refusals.reset()
        self.watch.heard(candle, now)
        tally.lag_ms = (now - streamed.event_us) / 1000
        if candle.state is CandleState.CLOSED:
            tally.closed_lag_ms = (now - candle.open_us - _MINUTE) / 1000
        self.books.take(candle, now, event_us=streamed.event_us)

    async def ask(self) -> None:
        """Ask REST whenever it is due, without end."""
        while True:
            pause_s = min(0.25, max(0.02, 1 / self.means.clock.speed))
            with suppress(TimeoutError):
                await asyncio.wait_for(self._kick.wait(), pause_s)
            self._kick.clear()
            reason = self._due(self.now_us())
            if reason is not None:
                await self._ask_once(reason)

    def _due(self, now_us: int) -> Reason | None:
        if time.monotonic() < self._rest_after:
            return None
        reason = self.watch.due(now_us, self.pace)
        if reason is not None:
            return reason
        if 0 <= self._again_us - now_us <= self.pace.again_us:  # further off: the market's clock was set back
            return None
        slots = {*self._unconfirmed(now_us), *self.ledger.doubted()}
        return Reason.CONFIRM if any(self.ledger.ask_again_us(slot) <= now_us for slot in slots) else None

    def _unconfirmed(self, now_us: int) -> tuple[int, ...]:
        settled_us = now_us - self.means.settle_us - self.pace.again_us // 8  # clocks of two machines differ
        slots = self.buffers.unconfirmed(settled_us, since_us=self._confirmed_from_us)
        self._confirmed_from_us = slots[0] if slots else settled_us - settled_us % _MINUTE
        return slots

    async def _ask_once(self, reason: Reason) -> None:
        asked_us = self.now_us()
        self.watch.asked(asked_us)
        slots = tuple(sorted({*self._unconfirmed(asked_us), *self.ledger.doubted()}))
        last = self.means.live.confirm_last
        start = confirmation_start(slots, asked_us, self.means.settle_us, last, _MINUTE)
        fetched = await self.fetch(Timeframe.M1, start, asked_us + _MINUTE)
        if fetched is None:
            return
        now_us = self.now_us()
        self._again_us = now_us + self.pace.again_us
        newest = self.books.heed(fetched, start, asked_us - self.means.settle_us, now_us)
        self.books.say_refused()
        if reason is not Reason.CONFIRM and self.watch.is_dead(newest, now_us, self.pace):
            why = f"silent for {self.watch.silent_us(now_us) / 1e6:.1f} s of the market while REST went on"
            _log.warning("%s: the stream is %s; it is opened anew", self.market, why)
            await self.means.stream.drop(f"{self.market} {why}")

    async def fetch(self, timeframe: Timeframe, start_us: int, end_us: int) -> Fetched | None:
        """Ask REST; None where it gave nothing, which is told, and not asked again at once.

        Raises:
            InputError: the exchange offers no candles of that length.
        """
        try:
            window = Interval(moment(start_us), moment(end_us))
            fetched = await self.means.source.fetch(self.market, timeframe, window)
        except ExchangeError as error:
            self.tally.rest_failures += 1
            said = self.rest_trouble = f"REST: {error}"
            if isinstance(error, RequestRejected):
                self.is_refused = True
                wait_s = self._rest_refusals.failed(0.0)
                self._rest_after = time.monotonic() + wait_s
                _log.error("%s: refused, tried again in %.0f s; %s", self.market, wait_s, said)
                return None
            wait_s = self._rest_backoff.failed(0.0)
            if isinstance(error, RateLimited):
                wait_s = max(wait_s, min(error.retry_after_s, 60.0))
            self._rest_after = time.monotonic() + wait_s
            _log.warning("%s: %s; again in %.1f s", self.market, said, wait_s)
            return None
        self._rest_backoff.reset()
        self._rest_refusals.reset()
        self.is_refused, self.rest_trouble = False, ""
        self.tally.rest_requests += fetched.requests
        if fetched.clock_ahead is not None:
            self._exchange_time.measured(fetched.clock_ahead // MICROSECOND, self.means.clock.speed)
        return fetched
