"""What is kept of an answer beside its rows: that it was asked, from where it came, which bulk files it was in.

Not here: asking (``fetching``), what could not be had (``failed_days``).
"""

from __future__ import annotations

from dataclasses import replace

import polars as pl

from mdp.domain.candles import ARCHIVE_FILE_SCHEMA, FETCH_SCHEMA
from mdp.domain.interval import DAY, Interval
from mdp.domain.timeframe import Timeframe
from mdp.pipeline.batches import Batch, Write, days_of, report_days, rows_by_day
from mdp.ports import ARCHIVE_FILES, FETCHES, ArchiveFile, Clock, Fetched, Slice, Table


def batch_of_fetched(part: Slice, table: Table, rows: pl.DataFrame, fetched: Fetched, clock: Clock) -> Batch:
    """Return the batch of one slice: its raw rows, its bulk files, then the evidence of having asked.

    Args:
        part: Whole UTC days of one market.
        table: Where the rows go.
        rows: Of ``RAW_SCHEMA``, each under its day in ``window_start``, in any order of days.
        fetched: What the rows came from.
        clock: Stamps the evidence.
    """
    rows = rows.sort("window_start", "open_time", maintain_order=True)
    reports = report_days(rows, "window_start", part)
    found = dict(rows_by_day(rows, "window_start", part))
    sources = {day: _source(found[day], fetched, part, window) for day, window in days_of(part)}
    evidence = pl.DataFrame(
        [
            (part.market.exchange.value, part.market.symbol_key, part.timeframes[0].value, window.start, window.end,
             reports[day].rows, reports[day].digest, fetched.requests, sources[day], clock())
            for day, window in days_of(part)
        ],
        schema=FETCH_SCHEMA,
        orient="row",
    )  # fmt: skip
    return Batch(
        part=part,
        writes=(
            Write(table, part, rows),
            Write(ARCHIVE_FILES, part, _files(part, fetched), appends=True),
            Write(FETCHES, part, evidence, appends=True),
        ),
        days={
            day: replace(
                reports[day],
                requests=fetched.requests,
                source=sources[day],
                retried=dict(fetched.retried),
                waited_s=fetched.waited_s,
                files=tuple(file for file in fetched.files if _overlap(file.window, window)),
            )
            for day, window in days_of(part)
        },
    )


def _source(rows: pl.DataFrame, fetched: Fetched, part: Slice, day: Interval) -> str:
    """``rest``, ``archive`` or ``archive+rest``: where the rows of a day came from, and who was asked for the others.

    Of what a file does not hold, the API is asked: where slots are missing and there were requests, it was.
    """
    found = set(rows["source"].unique().to_list())
    if rows["open_time"].n_unique() < day.slots(part.timeframes[0]):
        found |= {"archive"} if any(_overlap(file.window, day) for file in fetched.files) else set()
        found |= {"rest"} if fetched.requests or not found else set()
    return "+".join(sorted(found))


def _files(part: Slice, fetched: Fetched) -> pl.DataFrame:
    """Each file with the days of the slice that it is about."""
    market = part.market
    return pl.DataFrame(
        [
            (market.exchange.value, market.symbol_key, part.timeframes[0].value, days.start, days.end,
             file.path, file.sha256, file.is_verified, file.size, file.rows, file.fetched_at)
            for file in fetched.files
            for days in [_days(file, part.window)]
        ],
        schema=ARCHIVE_FILE_SCHEMA,
        orient="row",
    )  # fmt: skip


def _days(file: ArchiveFile, asked: Interval) -> Interval:
    """The asked days a file is about; one beside what was asked belongs to the nearest day."""
    first, last = Timeframe.D1.floor(file.window.start), Timeframe.D1.floor(file.window.end - Timeframe.M1.duration)
    start = min(max(first, asked.start), asked.end - DAY)
    return Interval(start, max(start, min(last, asked.end - DAY)) + DAY)


def _overlap(one: Interval, other: Interval) -> bool:
    return one.start < other.end and other.start < one.end
