"""Ask ahead: exchanges side by side in a thread of their own, while what came is judged and stored here.

Not here: what is asked and what becomes of it (``collect``), when to ask again (``rounds``).
"""

from __future__ import annotations

import asyncio
import contextvars
import queue
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime

from mdp.domain.interval import Interval
from mdp.domain.market import Exchange, Market
from mdp.domain.timeframe import Timeframe
from mdp.errors import ExchangeError, MdpError
from mdp.pipeline.rounds import Rounds, speaks_for_exchange, speaks_for_slice
from mdp.ports import CandleSource, Clock, Fetched, OpenSource, Slice

Sleep = Callable[[float], Awaitable[None]]
"""Waits for so many seconds."""

_BYTES_OF_A_ROW = 2_000
"""What a raw candle costs on its way: the answer it came in, its page, its slice, the copies made in storing it."""

_AWAKE_S = 0.2

_PATIENCE_S = 10
"""How long an interrupted thread may take to close its connections."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One slice, and what has to be asked for it."""

    part: Slice
    timeframe: Timeframe
    window: Interval


@dataclass(frozen=True, slots=True)
class Got:
    """What an exchange answered for one slice."""

    ask: Ask
    fetched: Fetched


@dataclass(frozen=True, slots=True)
class Missed:
    """A slice that could not be had.

    Attributes:
        ask: What was asked.
        error: Why not; of another slice where this one was not even tried after it.
        attempts: How often it was tried.
        failed_at: When it was given up or last tried, UTC.
    """

    ask: Ask
    error: MdpError
    attempts: int
    failed_at: datetime


@dataclass(slots=True)
class _Wanted:
    """A slice on its way: how often it was tried, why it is still missing, which requests failed until now."""

    ask: Ask
    attempts: int = 0
    error: MdpError | None = None
    failed_at: datetime | None = None
    failed: Counter[str] = field(default_factory=Counter)

    def got(self, fetched: Fetched) -> Got:
        """Say that it came, and what was repeated for it: what failed in earlier rounds was asked again as well."""
        return Got(self.ask, replace(fetched, retried=dict(self.failed + Counter(fetched.retried))))


@dataclass(slots=True)
class _Left:
    """What is not asked any more in this round, and why."""

    whole: MdpError | None = None
    markets: dict[Market, MdpError] = field(default_factory=dict)
    misreadings: dict[Market, int] = field(default_factory=dict)

    def why(self, market: Market) -> MdpError | None:
        return self.whole or self.markets.get(market)

    def note(self, market: Market, error: MdpError, rounds: Rounds) -> None:
        if speaks_for_exchange(error):
            self.whole = error
            return
        if speaks_for_slice(error):
            self.misreadings[market] = self.misreadings.get(market, 0) + 1
            if self.misreadings[market] < rounds.misreadings:
                return
        self.markets[market] = error


def slices_held(asks: Sequence[Ask], memory_mb: int) -> int:
    """Return how many slices of an exchange may be in memory: the one in work and, at least, one that is fetched."""
    largest = max((ask.window.slots(ask.timeframe) for ask in asks), default=1)
    return max(2, memory_mb * 1_000_000 // (max(1, largest) * _BYTES_OF_A_ROW))


def fetch_ahead(
    asks: Iterable[Ask],
    open_source: OpenSource,
    clock: Clock,
    *,
    rounds: Rounds,
    memory_mb: int,
    sleep: Sleep = asyncio.sleep,
) -> Iterator[Got | Missed]:
    """Ask for every slice; what an exchange does not give now is asked for again when the others were served.

    Take the next answer when the one before is dealt with: only then its place in memory is given to another slice.
    Leaving the iteration early, by whatever exception, cancels the requests under way and closes all connections.

    Args:
        asks: In the order in which those of one exchange shall be asked.
        open_source: Gives the source of an exchange; each is opened once.
        clock: Says when something failed.
        rounds: How often to ask again.
        memory_mb: What may be held of one exchange's slices at a time; two slices always may.
        sleep: Waits between rounds.

    Yields:
        Each slice once: those that came, as they come, then those that did not.
    """
    answers: queue.SimpleQueue[Got | Missed | BaseException | None] = queue.SimpleQueue()
    loop = asyncio.new_event_loop()
    crew = _Crew(open_source, clock, rounds, sleep, answers.put)
    by_exchange = _by_exchange(asks, memory_mb)

    def run() -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                runner.run(crew.work(by_exchange))
        except asyncio.CancelledError:
            pass
        except BaseException as error:  # raised again where it can be handled
            answers.put(error)
        finally:
            answers.put(None)

    thread = threading.Thread(target=contextvars.copy_context().run, args=(run,), name="fetching", daemon=True)
    thread.start()
    try:
        while (answer := _next(answers)) is not None:
            if isinstance(answer, BaseException):
                raise answer
            yield answer
            if isinstance(answer, Got):
                room = by_exchange[answer.ask.part.market.exchange].room
                _call(loop, room.release)
            del answer  # or it would be held until the next one comes
    finally:
        _call(loop, lambda: [task.cancel() for task in asyncio.all_tasks(loop)])
        thread.join(_PATIENCE_S)


def _next(answers: queue.SimpleQueue[Got | Missed | BaseException | None]) -> Got | Missed | BaseException | None:
    """Wait, awake often enough for an interrupt: a signal that another thread received does not wake this one."""
    while True:
        with suppress(queue.Empty):
            return answers.get(timeout=_AWAKE_S)


@dataclass(slots=True)
class _Share:
    """What is wanted of one exchange, and the room for what it gives."""

    wanted: list[_Wanted]
    room: asyncio.Semaphore


def _by_exchange(asks: Iterable[Ask], memory_mb: int) -> dict[Exchange, _Share]:
    grouped: dict[Exchange, list[Ask]] = {}
    for ask in asks:
        grouped.setdefault(ask.part.market.exchange, []).append(ask)
    return {
        exchange: _Share([_Wanted(ask) for ask in group], asyncio.Semaphore(slices_held(group, memory_mb)))
        for exchange, group in grouped.items()
    }


def _call(loop: asyncio.AbstractEventLoop, callback: Callable[[], object]) -> None:
    with suppress(RuntimeError):  # the loop is closed: there is nothing left to tell it
        loop.call_soon_threadsafe(callback)


@dataclass(slots=True)
class _Crew:
    """Asks all exchanges in one event loop."""

    open_source: OpenSource
    clock: Clock
    rounds: Rounds
    sleep: Sleep
    deliver: Callable[[Got | Missed], object]
    opened: AsyncExitStack = field(default_factory=AsyncExitStack)
    sources: dict[Exchange, CandleSource] = field(default_factory=dict)

    async def work(self, shares: dict[Exchange, _Share]) -> None:
        missing = {exchange: share.wanted for exchange, share in shares.items()}
        async with self.opened:
            for number in range(self.rounds.more + 1):
                try:
                    async with asyncio.TaskGroup() as group:
                        for exchange, wanted in missing.items():
                            group.create_task(self._serve(exchange, wanted, shares[exchange].room, is_again=number > 0))
                except BaseExceptionGroup as failures:
                    raise failures.exceptions[0] from None
                missing = {exchange: again for exchange, wanted in missing.items() if (again := self._again(wanted))}
                if not missing:
                    break
        for share in shares.values():
            for one in share.wanted:
                if one.error is not None:
                    self.deliver(Missed(one.ask, one.error, one.attempts, one.failed_at or self.clock()))

    def _again(self, wanted: list[_Wanted]) -> list[_Wanted]:
        return [one for one in wanted if one.error is not None and not self.rounds.gives_up(one.error)]

    async def _serve(
        self, exchange: Exchange, wanted: list[_Wanted], room: asyncio.Semaphore, *, is_again: bool
    ) -> None:
        """Ask for slice after slice; a market, or an exchange, that fails is left until the next round."""
        if is_again:
            await self.sleep(max(self.rounds.wait_after_s(one.error) for one in wanted if one.error is not None))
        left = _Left()
        for one in wanted:
            market = one.ask.part.market
            if (why := left.why(market)) is not None:
                one.error, one.failed_at = why, self.clock()
                continue
            await room.acquire()
            if (error := await self._fetch(exchange, one)) is not None:
                room.release()
                left.note(market, error, self.rounds)
            else:
                left.misreadings.pop(market, None)

    async def _fetch(self, exchange: Exchange, one: _Wanted) -> MdpError | None:
        one.attempts += 1
        try:
            source = await self._source(exchange)
            fetched = await source.fetch(one.ask.part.market, one.ask.timeframe, one.ask.window)
        except MdpError as error:
            one.error, one.failed_at = error, self.clock()
            if isinstance(error, ExchangeError):
                one.failed.update(error.failed)
        else:
            one.error = None
            self.deliver(one.got(fetched))
        return one.error

    async def _source(self, exchange: Exchange) -> CandleSource:
        if exchange not in self.sources:
            self.sources[exchange] = await self.opened.enter_async_context(self.open_source(exchange))
        return self.sources[exchange]
