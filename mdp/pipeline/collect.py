"""Ask the exchanges: slices in, raw rows and the evidence of having asked out.

Not here: which candles a volatility index needs (``volatility``), whether a row is good (``judge``), how an exchange is
asked (``exchanges``), asking ahead (``fetching``).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import polars as pl

from mdp.domain.candles import RAW_SCHEMA
from mdp.domain.market import Exchange
from mdp.domain.timeframe import Timeframe
from mdp.pipeline.batches import Batch, floor_to_day
from mdp.pipeline.counting import count_collected, count_missed
from mdp.pipeline.evidence import batch_of_fetched
from mdp.pipeline.failed_days import NotCollected, batch_of_missed, failures_of
from mdp.pipeline.fetching import Ask, Got, Missed, Sleep, fetch_ahead
from mdp.pipeline.rounds import Rounds
from mdp.ports import RAW_OHLCV, Clock, Fetched, OpenSource, PageSpool, Slice, Table

__all__ = ["Answers", "Collecting", "Tallies", "Tally", "collect_asks", "collect_candles"]


@dataclass(frozen=True, slots=True)
class Collecting:
    """How slices are asked for.

    Attributes:
        rounds: How often what an exchange did not give is asked for again, after the others were served.
        memory_mb: What may be held of one market's candles at a time.
        spool: Where the sources keep answered pages, to be forgotten once their slice is stored; None without one.
        sleep: Waits between rounds.
    """

    rounds: Rounds = field(default_factory=Rounds)
    memory_mb: int = 256
    spool: PageSpool | None = None
    sleep: Sleep = asyncio.sleep


@dataclass(slots=True)
class Tally:
    """What asking one exchange came to in one step.

    Attributes:
        slices: That came.
        missed: That did not.
        requests: That the exchange's API answered.
        retried: Why requests were repeated, and how often.
        waited_s: Seconds its requests waited for the budget, added up.
        files: Bulk files from which rows came.
    """

    slices: int = 0
    missed: int = 0
    requests: int = 0
    retried: Counter[str] = field(default_factory=Counter)
    waited_s: float = 0.0
    files: int = 0

    def add(self, fetched: Fetched) -> None:
        """Count what one slice took."""
        self.slices += 1
        self.requests += fetched.requests
        self.retried.update(fetched.retried)
        self.waited_s += fetched.waited_s
        self.files += len(fetched.files)


Tallies = dict[Exchange, Tally]


def collect_candles(
    parts: Iterable[Slice],
    open_source: OpenSource,
    clock: Clock,
    *,
    how: Collecting = Collecting(),
    run_id: str = "",
    tallies: Tallies | None = None,
) -> Iterator[Batch]:
    """Ask for the 1m candles of each slice.

    Args:
        parts: Whole UTC days of spot markets, in the order in which those of one exchange are asked.
        open_source: Gives the source of an exchange; each is opened once.
        clock: Stamps the evidence.
        how: How they are asked.
        run_id: Written beside what could not be had.
        tallies: Filled with what it took, by exchange.

    Yields:
        One batch for each slice, as soon as it is complete: its raw rows, then the evidence. Make each durable before
        taking the next. Slices that could not be had come last, as batches that say why and report no day.

    Raises:
        NotCollected: after everything else was yielded, slices could not be had.
    """
    asks = [Ask(part, Timeframe.M1, part.window) for part in parts]

    def rows(ask: Ask, fetched: Fetched) -> pl.DataFrame:
        return fetched.rows.with_columns(floor_to_day("open_time", ask.part.window).alias("window_start"))

    into = Answers(RAW_OHLCV, rows, clock, run_id, {} if tallies is None else tallies)
    yield from collect_asks(asks, open_source, how, into)


@dataclass(frozen=True, slots=True)
class Answers:
    """What answers become, and what is remembered of them.

    Attributes:
        table: Where their rows belong.
        rows: Gives each row the day it was asked for (``window_start``).
        clock: Stamps the evidence.
        run_id: Written beside what could not be had.
        tallies: Filled with what it took, by exchange.
    """

    table: Table
    rows: Callable[[Ask, Fetched], pl.DataFrame]
    clock: Clock
    run_id: str
    tallies: Tallies

    def batch(self, got: Got) -> Batch:
        """Return what is to be stored of an answer."""
        self._tally(got.ask).add(got.fetched)
        count_collected(got.ask.part.market, got.fetched)
        rows = self.rows(got.ask, got.fetched).select(RAW_SCHEMA.names())
        return batch_of_fetched(got.ask.part, self.table, rows, got.fetched, self.clock)

    def missed(self, missed: Missed) -> Batch:
        """Return what is to be remembered of a slice that could not be had."""
        self._tally(missed.ask).missed += 1
        count_missed(missed.ask.part.market, missed.error)
        return batch_of_missed(missed, self.run_id)

    def _tally(self, ask: Ask) -> Tally:
        return self.tallies.setdefault(ask.part.market.exchange, Tally())


def collect_asks(asks: list[Ask], open_source: OpenSource, how: Collecting, into: Answers) -> Iterator[Batch]:
    """Ask for the candles of some slices.

    Args:
        asks: In the order in which those of one exchange are asked.
        open_source: Gives the source of an exchange; each is opened once.
        how: How they are asked.
        into: What their answers become.

    Yields:
        Batches, as :func:`collect_candles` does.

    Raises:
        NotCollected: as for :func:`collect_candles`.
    """
    missed = []
    answers = fetch_ahead(asks, open_source, into.clock, rounds=how.rounds, memory_mb=how.memory_mb, sleep=how.sleep)
    try:
        for answer in answers:
            if isinstance(answer, Missed):
                missed.append(answer)
                yield into.missed(answer)
            else:
                ask = answer.ask
                batch = into.batch(answer)
                del answer
                yield batch
                del batch
                _forget_pages(how.spool, ask)  # the slice is durable now, or this line would not be reached
    finally:
        answers.close()  # type: ignore[attr-defined]  # a generator
    if missed:
        raise NotCollected(failures_of(missed))


def _forget_pages(spool: PageSpool | None, ask: Ask) -> None:
    if spool is not None:
        spool.discard(ask.part.market, ask.timeframe, ask.window)
