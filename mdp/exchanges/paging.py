"""A source of candles made of pages: asked side by side, confirmed where short, put together once.

Not here: what is particular to one exchange (its ``client``, ``parse``, ``pager`` and ``source``).
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import TracebackType
from typing import Protocol, Self

import polars as pl

from mdp.config.sections import ExchangeSettings
from mdp.domain.interval import Interval
from mdp.domain.market import Exchange, Market
from mdp.domain.timeframe import Timeframe
from mdp.errors import InputError
from mdp.exchanges.asking import Asker, RetryWaits, Tally
from mdp.exchanges.frames import Asked, join_pages
from mdp.exchanges.pace import Pace
from mdp.exchanges.symbols import to_market_id
from mdp.exchanges.tiling import Page, confirming_pages, join_answers
from mdp.exchanges.verdicts import Answer, Outcome
from mdp.ports import Clock, Fetched

_CLOCK_KEPT = timedelta(minutes=10)
"""How long the difference between the two clocks is trusted: ours may be set in the meantime."""

_FUTURE_ASKED = timedelta(minutes=10)
"""How far past the exchange's time we ask: its clock may have come from a cache."""


class Client(Protocol):
    """One exchange's requests.

    Attributes:
        pace: Where each of them waits for its turn.
    """

    pace: Pace

    async def send(self, endpoint: str, parameters: Mapping[str, str | int]) -> Outcome:
        """Send one request; raises ``ExchangeUnavailable`` where nothing came back."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...


@dataclass(slots=True)
class Run:
    """One call of ``fetch`` on its way.

    Attributes:
        market: Whose candles.
        timeframe: Their length.
        offset: The exchange's time, less ours.
        settle: How long after its close a candle counts as finished.
        tally: Counts the requests that were answered.
    """

    market: Market
    timeframe: Timeframe
    offset: timedelta
    settle: timedelta
    tally: Tally = field(default_factory=Tally)

    def asked(self, answer: Answer) -> Asked:
        """Say what an answer answers, and what had closed when it came."""
        return Asked(self.market, self.timeframe, answer.received_at, answer.received_at + self.offset - self.settle)


class PagedSource(ABC):
    """What the four exchanges have in common; see ``ports.CandleSource`` for what it promises.

    Attributes:
        exchange: Which one.
        timeframes: Those it offers and we can name.
        time_endpoint: Where its clock is read.
    """

    exchange: Exchange
    timeframes: frozenset[Timeframe]
    time_endpoint: str

    def __init__(self, client: Client, settings: ExchangeSettings, clock: Clock, waits: RetryWaits) -> None:
        self._client = client
        self._clock = clock
        self._settle = timedelta(seconds=settings.settle_s)
        self._pages_in_flight = settings.pages_in_flight
        self._asker = Asker(client.pace, settings.attempts, waits)
        self._offset = timedelta()
        self._offset_at: datetime | None = None
        self._offset_lock = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.close()

    async def fetch(self, market: Market, timeframe: Timeframe, window: Interval) -> Fetched:
        """Ask for every candle that opens inside ``window``; see ``ports.CandleSource.fetch``.

        Slots that lie more than minutes after the exchange's own time are not asked for.

        Raises:
            InputError: a market of another exchange, or a timeframe this one does not offer.
            ExchangeError: the whole window could not be asked; nothing partial is returned.
        """
        self._require_offered(market, timeframe)
        run = Run(market, timeframe, await self._clock_offset(), self._settle)
        now = self._clock() + run.offset
        reachable = Interval(window.start, max(window.start, min(window.end, now + _FUTURE_ASKED)))
        frames = await self._read_all(self.pages(reachable, timeframe, now), run)
        return Fetched(join_pages(frames), run.tally.answered)

    @abstractmethod
    def pages(self, window: Interval, timeframe: Timeframe, now: datetime) -> list[Page]:
        """Return the pages that tile a window, by the exchange's time."""

    @abstractmethod
    def parameters(self, market: Market, timeframe: Timeframe, page: Page) -> dict[str, str | int]:
        """Return what to send for a page, in the exchange's own words."""

    @abstractmethod
    def parse(self, body: str, asked: Asked) -> pl.DataFrame:
        """Turn the body of a page into a table of ``ANSWER_SCHEMA``."""

    @abstractmethod
    def parse_time(self, body: str) -> datetime:
        """Read the exchange's clock."""

    async def read_page(self, page: Page, run: Run) -> pl.DataFrame:
        """Ask for one page. An exchange that answers it in several parts overrides this."""
        parameters = self.parameters(run.market, run.timeframe, page)
        return await self._asker.ask(
            lambda: self._client.send(page.endpoint, parameters),
            lambda answer: self.parse(answer.body, run.asked(answer)),
            run.tally,
        )

    async def _read_confirmed(self, page: Page, run: Run) -> pl.DataFrame:
        first = await self.read_page(page, run)
        settled_before = self._clock() + run.offset - run.settle
        doubtful = confirming_pages(page, first["open_time"], run.timeframe, settled_before)
        if not doubtful:
            return first
        return join_answers(first, [await self.read_page(part, run) for part in doubtful])

    async def _read_all(self, pages: Sequence[Page], run: Run) -> list[pl.DataFrame]:
        turnstile = asyncio.Semaphore(self._pages_in_flight)

        async def read(page: Page) -> pl.DataFrame:
            async with turnstile:
                return await self._read_confirmed(page, run)

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(read(page)) for page in pages]
        except BaseExceptionGroup as failures:
            # The first failure cancelled the other pages. Callers handle one error, with the cause it came with.
            first = failures.exceptions[0]
            raise first from first.__cause__
        return [task.result() for task in tasks]

    async def _clock_offset(self) -> timedelta:
        async with self._offset_lock:
            now = self._clock()
            if self._offset_at is None or abs(now - self._offset_at) > _CLOCK_KEPT:
                self._offset = await self._measure_offset()
                self._offset_at = now
            return self._offset

    async def _measure_offset(self) -> timedelta:
        sent_at = self._clock()

        async def send() -> Outcome:
            nonlocal sent_at
            sent_at = self._clock()
            return await self._client.send(self.time_endpoint, {})

        def read(answer: Answer) -> timedelta:
            # The exchange read its clock somewhere between our two readings: in the middle, as far as we can tell.
            return self.parse_time(answer.body) - (sent_at + (answer.received_at - sent_at) / 2)

        return await self._asker.ask(send, read)

    def _require_offered(self, market: Market, timeframe: Timeframe) -> None:
        if market.exchange is not self.exchange:
            raise InputError("market", got=str(market), expected=f"a market of {self.exchange.value}")
        to_market_id(market)
        if timeframe not in self.timeframes:
            offered = ", ".join(known.value for known in Timeframe if known in self.timeframes)
            raise InputError(
                "timeframe", got=timeframe.value, expected=f"one that {self.exchange.value} offers: {offered}"
            )
