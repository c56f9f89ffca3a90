"""Days that were asked for and not got: remembering them, leaving them out of what follows, saying so at the end.

Not here: asking (``fetching``), which layer of a run fails over them (``defs``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import polars as pl

from mdp.domain.candles import FAILED_FETCH_SCHEMA
from mdp.domain.interval import Interval
from mdp.domain.market import Market
from mdp.errors import Incomplete
from mdp.pipeline.batches import Batch, Write, days_of, parts_of
from mdp.pipeline.fetching import Missed
from mdp.ports import FAILED_FETCHES, FETCHES, CandleStore, Slice

_LISTED = 20
"""Stretches that a message lists; a table beside it has all of them."""


@dataclass(frozen=True, slots=True)
class FailedDays:
    """A stretch of days of one market whose latest attempt failed, all in the same way.

    Attributes:
        market: Whose days.
        window: Whole UTC days.
        error: Name of our error.
        message: What it said.
        retryable: Whether asking again later can help.
        attempts: How often they were tried then.
        failed_at: When, UTC; the latest of the days.
    """

    market: Market
    window: Interval
    error: str
    message: str
    retryable: bool
    attempts: int
    failed_at: datetime

    @property
    def days(self) -> int:
        """How many days."""
        return len(list(self.window.days()))

    def __str__(self) -> str:
        return f"{self.market} {self.window}"


class NotCollected(Incomplete):
    """Days could not be collected; what was collected is stored.

    Attributes:
        failures: The days, and why.
    """

    def __init__(self, failures: Sequence[FailedDays]) -> None:
        shown = {str(one): f"{one.message} ({_how_often(one.attempts)})" for one in failures[:_LISTED]}
        if len(failures) > _LISTED:
            shown[f"and {len(failures) - _LISTED} more stretches"] = "see the table"
        super().__init__(shown, retryable=any(one.retryable for one in failures))
        self.failures = tuple(failures)
        if self.retryable:
            self.add_note(
                "what to do: launch the missing partitions again, or `mdp backfill --missing`; what was collected is "
                "not asked for again"
            )
        if not all(one.retryable for one in failures):
            self.add_note("asking again will not help where the exchange refuses: remove the cause first")


@dataclass(slots=True)
class LeftOut:
    """Passes on what was collected and remembers the days that were not.

    Args:
        store: Where is written what was asked, got and missed.
        run_id: The run on whose behalf; its own failures count whatever the clock says.
    """

    store: CandleStore
    run_id: str = ""
    failures: list[FailedDays] = field(default_factory=list)

    def without(self, parts: Iterable[Slice]) -> Iterator[Slice]:
        """Yield the slices without the days whose latest attempt failed."""
        for part in parts:
            failed = days_failed(self.store, part, self.run_id)
            if not failed:
                yield part
                continue
            self.failures += failed
            missing = {day.start for one in failed for day in one.window.days()}
            left = [(part.market, day) for day, window in days_of(part) if window.start not in missing]
            yield from (Slice(one.market, part.timeframes, one.window) for one in parts_of(left))

    def require_none(self) -> None:
        """Say at the end what was left out.

        Raises:
            NotCollected: something was.
        """
        if self.failures:
            raise NotCollected(self.failures)


def days_failed(store: CandleStore, part: Slice, run_id: str = "") -> list[FailedDays]:
    """Return the days of a slice whose latest attempt failed, joined to stretches that failed in the same way.

    A day that was got before and could not be got again is among them: what is stored of it may be out of date.

    Args:
        store: Where the attempts are written.
        part: At the timeframe at which it is asked for.
        run_id: A run whose own failures count in any case. It writes one when it has given the day up, and after a
            clock was set back an old success only looks later. A step that is tried again because the store failed may
            get the day after all; that its run fails then is seen, and the next run makes it good.
    """
    failed = store.read(FAILED_FETCHES, part)
    if failed.is_empty():
        return []
    is_mine = pl.lit(bool(run_id)) & (pl.col("run_id") == run_id)
    in_order = failed.with_columns(is_mine.alias("is_mine")).sort("is_mine", "failed_at", maintain_order=True)
    last = in_order.unique("window_start", keep="last", maintain_order=True)
    fetched = store.read(FETCHES, part, columns=["window_start", "fetched_at"])
    got = fetched.group_by("window_start").agg(pl.col("fetched_at").max())
    is_last = pl.col("fetched_at").is_null() | (pl.col("failed_at") > pl.col("fetched_at"))
    left = last.join(got, on="window_start", how="left").filter(pl.col("is_mine") | is_last)
    return _stretches(part.market, left.sort("window_start"))


def batch_of_missed(missed: Missed, run_id: str) -> Batch:
    """Return the batch that remembers a slice that could not be had; it reports no day."""
    part, error = missed.ask.part, missed.error
    rows = pl.DataFrame(
        [
            (part.market.exchange.value, part.market.symbol_key, part.timeframes[0].value, window.start, window.end,
             type(error).__name__, str(error), error.retryable, missed.attempts, run_id, missed.failed_at)
            for _, window in days_of(part)
        ],
        schema=FAILED_FETCH_SCHEMA,
        orient="row",
    )  # fmt: skip
    return Batch(part, (Write(FAILED_FETCHES, part, rows, appends=True),), {})


def failures_of(missed: Iterable[Missed]) -> list[FailedDays]:
    """Return what could not be had: adjacent slices of a market that failed in the same way as one stretch."""
    found: list[FailedDays] = []
    for one in missed:
        part, error, last = one.ask.part, one.error, found[-1] if found else None
        now = FailedDays(
            part.market, part.window, type(error).__name__, str(error), error.retryable, one.attempts, one.failed_at
        )
        if last and (last.market, last.window.end, last.message) == (part.market, part.window.start, now.message):
            attempts, failed_at = max(last.attempts, now.attempts), max(last.failed_at, now.failed_at)
            joined = Interval(last.window.start, now.window.end)
            found[-1] = replace(last, window=joined, attempts=attempts, failed_at=failed_at)
        else:
            found.append(now)
    return found


def _stretches(market: Market, rows: pl.DataFrame) -> list[FailedDays]:
    found: list[FailedDays] = []
    for row in rows.iter_rows(named=True):
        why = {name: row[name] for name in ("error", "message", "retryable", "attempts")}
        window, last = Interval(row["window_start"], row["window_end"]), found[-1] if found else None
        if last and last.window.end == window.start and all(getattr(last, name) == why[name] for name in why):
            joined = Interval(last.window.start, window.end)
            found[-1] = FailedDays(market, joined, **why, failed_at=max(last.failed_at, row["failed_at"]))
        else:
            found.append(FailedDays(market, window, **why, failed_at=row["failed_at"]))
    return found


def _how_often(attempts: int) -> str:
    return {0: "not tried after that", 1: "tried once", 2: "tried twice"}.get(attempts, f"tried {attempts} times")
