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

from mdp.config.exchange_sections import ExchangeSettings
from mdp.domain.interval import Interval
from mdp.domain.market import Exchange, Market
from mdp.domain.quota import Usage
from mdp.domain.timeframe import Timeframe
from mdp.errors import ExchangeError, InputError
from mdp.exchanges.asking import Asker, Question, Tally
from mdp.exchanges.clocks import ExchangeClock
from mdp.exchanges.frames import Asked, join_pages
from mdp.exchanges.means import Means
from mdp.exchanges.symbols import to_market_id
from mdp.exchanges.tiling import Page, ceil_to_slot, confirming_pages, join_answers
from mdp.exchanges.verdicts import Answer, Outcome
from mdp.ports import Fetched

_FUTURE_ASKED = timedelta(minutes=10)
"""How far past the exchange's time we ask: its clock may have come from a cache."""

_MOST_CONFIRMED = 4
"""How often slots that stay empty are asked again while each answer brings rows that the one before withheld."""


class Client(Protocol):
    """One exchange's requests."""

    async def send(self, endpoint: str, parameters: Mapping[str, str | int]) -> Outcome:
        """Send one request; raises ``ExchangeUnavailable`` where nothing came back."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...


class Terms(Protocol):
    """What an exchange's requests cost: its module ``quota``."""

    def costs(self, endpoint: str) -> Mapping[str, float]:
        """Return what a request costs: name of a quota to an amount of it."""
        ...

    def read_usage(self, answer: Answer) -> Usage | None:
        """Read what an answer reports of a quota."""
        ...


@dataclass(slots=True)
class Run:
    """One call of ``fetch`` on its way.

    Attributes:
        market: Whose candles.
        timeframe: Their length.
        offset: The exchange's time, less ours.
        settle: How long after its close a candle counts as finished.
        tally: Counts what it takes.
    """

    market: Market
    timeframe: Timeframe
    settle: timedelta
    offset: timedelta = timedelta()
    tally: Tally = field(default_factory=Tally)

    def asked(self, answer: Answer) -> Asked:
        """Say what an answer answers, and what had closed when it came."""
        return Asked(self.market, self.timeframe, answer.received_at, self.settled_before(answer.received_at))

    def settled_before(self, moment: datetime) -> datetime:
        """Return up to when candles had settled on the exchange at a moment of ours."""
        return moment + self.offset - self.settle


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

    def __init__(self, client: Client, terms: Terms, settings: ExchangeSettings, means: Means) -> None:
        self._client = client
        self._terms = terms
        self._clock = means.clock
        self._budget = means.budget
        self._spool = means.spool
        self._settle = timedelta(seconds=settings.settle_s)
        self._pages_in_flight = settings.pages_in_flight
        self._asker = Asker(
            self.exchange,
            means.budget,
            terms.read_usage,
            settings,
            means.waits,
            means.refusals_last_s,
            bandwidth=means.bandwidth,
        )
        time_question = self.question(self.time_endpoint, {}, None)
        self._exchange_clock = ExchangeClock(self._asker, means.clock, time_question, self.parse_time)
        self._answering: set[tuple[Market, Timeframe]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._client.close()
        finally:
            await self._budget.close()

    async def fetch(self, market: Market, timeframe: Timeframe, window: Interval) -> Fetched:
        """Ask for every candle that opens inside ``window``; see ``ports.CandleSource.fetch``.

        Slots that lie more than minutes after the exchange's own time are not asked for.

        Raises:
            InputError: a market of another exchange, or a timeframe this one does not offer.
            ExchangeError: the whole window could not be asked; nothing partial is returned.
        """
        self._require_offered(market, timeframe)
        run = Run(market, timeframe, self._settle)
        try:
            run.offset = await self._exchange_clock.offset(run.tally)
            now = self._clock() + run.offset
            reachable = Interval(window.start, max(window.start, min(window.end, now + _FUTURE_ASKED)))
            frames = await self._read_all(self.pages(reachable, timeframe, now), run)
        except ExchangeError as error:
            error.failed = dict(run.tally.failed)
            raise
        tally = run.tally
        return Fetched(join_pages(frames), tally.answered, dict(tally.failed), tally.waited_s, clock_ahead=run.offset)

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

    def question(self, endpoint: str, parameters: Mapping[str, str | int], market: Market | None) -> Question:
        """Return a request with what it costs."""
        return Question(lambda: self._client.send(endpoint, parameters), self._terms.costs(endpoint), market)

    async def read_page(self, page: Page, run: Run) -> pl.DataFrame:
        """Ask for one page. An exchange that answers it in several parts overrides this."""
        question = self.question(page.endpoint, self.parameters(run.market, run.timeframe, page), run.market)
        return await self._asker.ask(question, lambda answer: self.parse(answer.body, run.asked(answer)), run.tally)

    async def _read_confirmed(self, page: Page, run: Run) -> pl.DataFrame:
        first = await self.read_page(page, run)
        self._answering.add((run.market, run.timeframe))
        settled_before = run.settled_before(self._clock())
        rows = first
        for _ in range(_MOST_CONFIRMED):
            doubtful = confirming_pages(page, rows["open_time"], run.timeframe, settled_before)
            if not doubtful:
                break
            joined = join_answers(rows, [await self.read_page(part, run) for part in doubtful])
            if joined["open_time"].n_unique() == rows["open_time"].n_unique():
                break
            rows = joined
        return rows

    async def _read_spooled(self, page: Page, run: Run) -> pl.DataFrame:
        """Take a page from the spool, or ask for it and keep it there if it cannot change any more."""
        if self._spool is None:
            return await self._read_confirmed(page, run)
        kept = self._spool.load(run.market, run.timeframe, page.window)
        if kept is not None:
            return kept
        settled_before = run.settled_before(self._clock())
        rows = await self._read_confirmed(page, run)
        if ceil_to_slot(page.window.end, run.timeframe) <= settled_before and rows["closed"].all():
            self._spool.keep(run.market, run.timeframe, page.window, rows)
        return rows

    async def _read_all(self, pages: Sequence[Page], run: Run) -> list[pl.DataFrame]:
        """Read the pages, one alone until the market has answered: a refusal then comes once."""
        left = iter(enumerate(pages))
        frames: dict[int, pl.DataFrame] = {}

        async def read_some(*, until_answered: bool) -> None:
            while not (until_answered and (run.market, run.timeframe) in self._answering):
                index, page = next(left, (None, None))
                if index is None or page is None:
                    return
                frames[index] = await self._read_spooled(page, run)

        await read_some(until_answered=True)
        try:
            async with asyncio.TaskGroup() as group:
                # No more tasks than pages in flight, however long the window is.
                for _ in range(min(self._pages_in_flight, len(pages) - len(frames))):
                    group.create_task(read_some(until_answered=False))
        except BaseExceptionGroup as failures:
            # The first failure cancelled the other pages. Callers handle one error, with the cause it came with.
            first = failures.exceptions[0]
            raise first from first.__cause__
        return [frames[index] for index in range(len(pages))]

    def _require_offered(self, market: Market, timeframe: Timeframe) -> None:
        if market.exchange is not self.exchange:
            raise InputError("market", got=str(market), expected=f"a market of {self.exchange.value}")
        to_market_id(market)
        if timeframe not in self.timeframes:
            offered = ", ".join(known.value for known in Timeframe if known in self.timeframes)
            raise InputError(
                "timeframe", got=timeframe.value, expected=f"one that {self.exchange.value} offers: {offered}"
            )
