"""The missing slots of judged days, as rows: gaps with their cause and history, and what is newly seen of them.

Not here: how causes and histories are told (``domain.gaps``, ``domain.sightings``), judging (``judge``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import NamedTuple

import polars as pl

from mdp.config.reference import Reference
from mdp.domain.candles import GAP_SCHEMA, SIGHTING_SCHEMA
from mdp.domain.gaps import explain, find_gaps
from mdp.domain.interval import DAY, Interval
from mdp.domain.sightings import Finding, SeenGap, Sighting, facts_of, new_sightings, sightings_of, with_history
from mdp.domain.timeframe import Timeframe
from mdp.ports import ARCHIVE_FILES, FETCHES, GAP_SIGHTINGS, CandleStore, Slice

APART = timedelta(hours=1)
"""How far apart two sightings count as two, where the settings do not say otherwise."""


class Seen(NamedTuple):
    """What is missing of a slice.

    Attributes:
        gaps: Of ``GAP_SCHEMA``; they tile exactly what is missing.
        sightings: Of ``SIGHTING_SCHEMA``: what was not recorded before.
    """

    gaps: pl.DataFrame
    sightings: pl.DataFrame


@dataclass(frozen=True, slots=True)
class Asking:
    """The latest time a day was asked for: when, of whom, and what it took.

    Attributes:
        source: ``rest``, ``archive`` or ``archive+rest``.
        requests: Answered by the API for the fetch the day was part of.
        files: Bulk files that were read, each with its checksum.
        fetched_at: UTC.
    """

    source: str
    requests: int
    files: tuple[str, ...]
    fetched_at: datetime


class GapEvidence:
    """What is known of the missing slots of one slice; nothing is read before a slot is missing.

    Args:
        store: Where the evidence of having asked and earlier sightings are.
        part: Whole UTC days of one market, at the timeframe at which they are asked.
        reference: Listings and outages.
        apart: How far apart two sightings count as two.
    """

    def __init__(self, store: CandleStore, part: Slice, reference: Reference, apart: timedelta) -> None:
        self._store = store
        self._part = part
        self._reference = reference
        self._apart = apart

    def see(self, open_times: pl.Series, timeframe: Timeframe, first_slot: datetime | None) -> Seen:
        """Find the missing slots of each day at one timeframe, with their causes and their history.

        Args:
            open_times: Slots that hold a candle.
            timeframe: Their grid.
            first_slot: First slot that can hold one; None: not established.
        """
        missing = [run for day in self._part.window.days() for run in find_gaps(open_times, timeframe, day)]
        if not missing:
            return Seen(GAP_SCHEMA.to_frame(), SIGHTING_SCHEMA.to_frame())
        recorded = self._recorded(timeframe)
        new = [*self._new(missing, timeframe, recorded)]
        known = [*recorded, *(Sighting(run, Finding.ABSENT, asking.source, asking.fetched_at) for run, asking in new)]
        gaps = explain(missing, [*self._reference.facts_of(self._part.market, first_slot), *facts_of(known)])
        return Seen(
            self._gap_rows(with_history(gaps, known, self._apart), timeframe),
            sighting_rows(Slice(self._part.market, (timeframe,), self._part.window), new),
        )

    def _recorded(self, timeframe: Timeframe) -> list[Sighting]:
        return sightings_of(self._store.read(GAP_SIGHTINGS, Slice(self._part.market, (timeframe,), self._part.window)))

    def _new(
        self, missing: Sequence[Interval], timeframe: Timeframe, recorded: Sequence[Sighting]
    ) -> Iterable[tuple[Interval, Asking]]:
        """What of the missing runs had closed when its day was asked for, and is not recorded yet."""
        seen_on: dict[datetime, list[Sighting]] = {}
        for one in recorded:
            seen_on.setdefault(Timeframe.D1.floor(one.interval.start), []).append(one)
        runs_of: dict[datetime, list[Interval]] = {}
        for run in missing:
            runs_of.setdefault(Timeframe.D1.floor(run.start), []).append(run)
        for day, runs in runs_of.items():
            if asking := self._askings.get(day):
                closed = Interval(min(day, asking.fetched_at), timeframe.floor(asking.fetched_at))
                witnessed = [part for run in runs if not (part := run.intersect(closed)).is_empty]
                for run in new_sightings(witnessed, asking.fetched_at, seen_on.get(day, []), self._apart):
                    yield run, asking

    @cached_property
    def _askings(self) -> dict[datetime, Asking]:
        """By the first instant of the day, the latest time it was asked for."""
        columns = ["window_start", "source", "requests", "fetched_at"]
        fetches = self._store.read(FETCHES, self._part, columns=columns).sort("fetched_at", maintain_order=True)
        times: dict[datetime, list[tuple[str, int, datetime]]] = {}
        for start, source, requests, fetched_at in fetches.select(columns).iter_rows():
            times.setdefault(start, []).append((source, requests, fetched_at))
        files = self._files
        found = {}
        for start, asked in times.items():
            source, requests, fetched_at = asked[-1]
            before = asked[-2][2] if len(asked) > 1 else None
            mine = tuple(
                name
                for window, name, read_at in files
                if window.contains(start) and read_at <= fetched_at and (before is None or read_at > before)
            )
            found[start] = Asking(source, requests, mine, fetched_at)
        return found

    @cached_property
    def _files(self) -> list[tuple[Interval, str, datetime]]:
        """The bulk files that were read for days of the slice: which days, path and checksum, when."""
        # the evidence of a file stands at its first day, up to a month before
        wide = Interval(self._part.window.start - 31 * DAY, self._part.window.end)
        columns = ["window_start", "window_end", "path", "sha256", "fetched_at"]
        rows = self._store.read(ARCHIVE_FILES, Slice(self._part.market, self._part.timeframes, wide), columns=columns)
        return [
            (Interval(start, end), f"{path} sha256:{sha256}", read_at)
            for start, end, path, sha256, read_at in rows.select(columns).iter_rows()
        ]

    def _gap_rows(self, gaps: Iterable[SeenGap], timeframe: Timeframe) -> pl.DataFrame:
        market, rows = self._part.market, []
        for one in gaps:
            interval, asking = one.gap.interval, self._askings.get(Timeframe.D1.floor(one.gap.interval.start))
            rows.append((
                market.exchange.value, market.symbol_key, timeframe.value, interval.start, interval.end,
                interval.slots(timeframe), one.gap.cause.value, one.source or (asking and asking.source),
                one.seen_at or (asking and asking.fetched_at), one.first_seen_at, one.sightings, one.is_permanent,
                one.gap.detail,
            ))  # fmt: skip
        return pl.DataFrame(rows, schema=GAP_SCHEMA, orient="row")


def sighting_rows(
    part: Slice,
    runs: Iterable[tuple[Interval, Asking]],
    finding: Finding = Finding.ABSENT,
    detail: str | None = None,
) -> pl.DataFrame:
    """Return what was seen of some runs of slots as rows of ``SIGHTING_SCHEMA``."""
    market, timeframe = part.market, part.timeframes[0]
    return pl.DataFrame(
        [
            (market.exchange.value, market.symbol_key, timeframe.value, run.start, run.end, run.slots(timeframe),
             finding.value, asking.source, asking.requests, list(asking.files), asking.fetched_at, detail)
            for run, asking in runs
        ],
        schema=SIGHTING_SCHEMA,
        orient="row",
    )  # fmt: skip
