"""Ask the exchanges: slices in, raw rows and the evidence of having asked out.

Not here: whether a row is good (``judge``), how an exchange is asked (``exchanges``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import polars as pl

from mdp.domain.candles import FETCH_SCHEMA, RAW_SCHEMA, TIME, digest
from mdp.domain.dvol import HOUR, hours_needed
from mdp.domain.interval import Interval
from mdp.domain.market import Exchange
from mdp.domain.timeframe import Timeframe
from mdp.errors import ExchangeError
from mdp.pipeline.batches import Batch, Write, days_of, floor_to_day, report_rows
from mdp.ports import FETCHES, RAW_DVOL, RAW_OHLCV, CandleSource, Clock, Fetched, Slice, Table

OpenSource = Callable[[Exchange], CandleSource]
"""Makes the source of an exchange, not yet connected."""


def collect_candles(parts: Iterable[Slice], open_source: OpenSource, clock: Clock) -> Iterator[Batch]:
    """Ask for the 1m candles of each slice.

    Args:
        parts: Whole UTC days of spot markets, in the order they are to be asked.
        open_source: Gives the source of an exchange; each is opened once.
        clock: Stamps the evidence.

    Yields:
        One batch for each slice, as soon as it is complete: its raw rows, then the evidence.

    Raises:
        ExchangeError: a slice could not be asked. It is raised after the slices of all other exchanges were yielded,
            so that one exchange that is down never holds up another; its notes say what every failed exchange said and
            which slices are missing.
    """
    for part, fetched in _fetch_all(parts, open_source, Timeframe.M1, lambda window: window):
        rows = fetched.rows.with_columns(floor_to_day("open_time", part.window).alias("window_start"))
        yield _batch(part, RAW_OHLCV, rows.select(RAW_SCHEMA.names()), fetched, clock)


def collect_dvol(
    parts: Iterable[Slice], open_source: OpenSource, clock: Clock, *, max_age_minutes: int
) -> Iterator[Batch]:
    """Ask for the hours of the volatility index from which the minutes of each slice can be made.

    A day needs hours of the day before; each day keeps its own copy, so that it can be made again alone.

    Args:
        parts: Whole UTC days of volatility indices at 1h.
        open_source: Gives the source of an exchange.
        clock: Stamps the evidence.
        max_age_minutes: How far before a day its first hour may have closed.

    Yields:
        One batch for each slice.

    Raises:
        ExchangeError: as for :func:`collect_candles`.
    """

    def needed(window: Interval) -> Interval:
        return hours_needed(window, max_age_minutes)

    for part, fetched in _fetch_all(parts, open_source, HOUR, needed):
        days = []
        for _, window in days_of(part):
            hours = needed(window)
            is_outside = pl.lit(window.start == part.window.start) & (pl.col("open_time") < hours.start)
            is_outside |= pl.lit(window.end == part.window.end) & (pl.col("open_time") >= hours.end)
            is_mine = pl.col("open_time").is_between(hours.start, hours.end, closed="left") | is_outside
            days.append(
                fetched.rows.filter(is_mine).with_columns(pl.lit(window.start, dtype=TIME).alias("window_start"))
            )
        yield _batch(part, RAW_DVOL, pl.concat(days).select(RAW_SCHEMA.names()), fetched, clock)


def _fetch_all(
    parts: Iterable[Slice],
    open_source: OpenSource,
    timeframe: Timeframe,
    to_ask: Callable[[Interval], Interval],
) -> Iterator[tuple[Slice, Fetched]]:
    """Fetch slice by slice; an exchange that fails is left, the others go on, then the first failure is raised."""
    failures: dict[Exchange, ExchangeError] = {}
    missing: list[Slice] = []
    with _connected(open_source) as fetch:
        for part in parts:
            exchange = part.market.exchange
            if exchange not in failures:
                try:
                    fetched = fetch(part, timeframe, to_ask(part.window))
                except ExchangeError as error:
                    failures[exchange] = error
                else:
                    yield part, fetched
                    continue
            missing.append(part)
    if failures:
        raise _one_error(failures, missing)


def _one_error(failures: Mapping[Exchange, ExchangeError], missing: Iterable[Slice]) -> ExchangeError:
    """Say of each exchange that failed what it said and which days are missing; retryable if any of them is."""
    by_weight = sorted(failures.values(), key=lambda failure: failure.retryable, reverse=True)
    for failure in by_weight[1:]:
        by_weight[0].add_note(str(failure))
    by_weight[0].add_note("not collected: " + "; ".join(str(part) for part in missing))
    return by_weight[0]


@contextmanager
def _connected(open_source: OpenSource) -> Iterator[Callable[[Slice, Timeframe, Interval], Fetched]]:
    """Give a plain function that fetches, over sources that stay connected in one event loop of their own."""
    sources: dict[Exchange, CandleSource] = {}

    async def fetch(part: Slice, timeframe: Timeframe, window: Interval) -> Fetched:
        exchange = part.market.exchange
        if exchange not in sources:
            source = open_source(exchange)
            sources[exchange] = await source.__aenter__()
        return await sources[exchange].fetch(part.market, timeframe, window)

    async def close() -> None:
        for source in sources.values():
            await source.__aexit__(None, None, None)

    with asyncio.Runner() as runner:
        try:
            yield lambda part, timeframe, window: runner.run(fetch(part, timeframe, window))
        finally:
            runner.run(close())


def _batch(part: Slice, table: Table, rows: pl.DataFrame, fetched: Fetched, clock: Clock) -> Batch:
    """Sort the rows into the table's order and report each day."""
    rows = rows.sort("window_start", "open_time", maintain_order=True)
    by_day = {day: rows.filter(pl.col("window_start") == window.start) for day, window in days_of(part)}
    evidence = pl.DataFrame(
        [
            (part.market.exchange.value, part.market.symbol_key, part.timeframes[0].value, window.start, window.end,
             len(by_day[day]), digest(by_day[day]), fetched.requests, "rest", clock())
            for day, window in days_of(part)
        ],
        schema=FETCH_SCHEMA,
        orient="row",
    )  # fmt: skip
    return Batch(
        part=part,
        writes=(
            Write(table, part, rows),
            Write(FETCHES, part, evidence, appends=True),
        ),
        days={day: replace(report_rows(found), requests=fetched.requests) for day, found in by_day.items()},
    )
