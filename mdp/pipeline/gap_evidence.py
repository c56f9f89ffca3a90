"""The missing slots of judged days, as rows: gaps with their cause and history, and what is newly seen of them.

Not here: how causes and histories are told (``domain.gaps``, ``domain.sightings``), judging (``judge``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import NamedTuple, TypeVar

import polars as pl

from mdp.config.reference import Reference
from mdp.domain.candles import GAP_SCHEMA, SIGHTING_SCHEMA
from mdp.domain.gaps import cut, explain, find_gaps
from mdp.domain.interval import DAY, Interval, merge
from mdp.domain.sightings import (
    Finding,
    SeenGap,
    Sighting,
    facts_of,
    new_rejections,
    new_sightings,
    sightings_of,
    with_history,
)
from mdp.domain.timeframe import EPOCH, Timeframe
from mdp.ports import ARCHIVE_FILES, FETCHES, GAP_SIGHTINGS, CandleStore, Slice

Item = TypeVar("Item")

APART = timedelta(days=1)
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
    """The latest time a day was asked for and answered: when, of whom, and what it took.

    An answer without a request and without a file came from what an earlier asking had left behind: it says nothing
    new, and the asking is an earlier one.

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

    @property
    def is_witness(self) -> bool:
        """Tell whether anybody was asked."""
        return bool(self.requests or self.files)


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

    def see(
        self, open_times: pl.Series, timeframe: Timeframe, first_slot: datetime | None, rejected: pl.DataFrame
    ) -> Seen:
        """Find the missing slots of each day at one timeframe, with their causes and their history.

        Args:
            open_times: Slots that hold a candle.
            timeframe: Their grid.
            first_slot: First slot that can hold one; None: not established.
            rejected: Rows that broke a rule: a slot of theirs that holds no candle was given, and is not absent.

        Shape:
            ``rejected``: of ``REJECTED_SCHEMA``; those of other timeframes count for nothing.
        """
        missing = [run for day in self._part.window.days() for run in find_gaps(open_times, timeframe, day)]
        if not missing:
            return Seen(GAP_SCHEMA.to_frame(), SIGHTING_SCHEMA.to_frame())
        recorded = self._recorded(timeframe)
        new = [*self._new(missing, timeframe, recorded, _rules_broken(rejected, timeframe))]
        known = [*recorded, *(sighting for sighting, _ in new)]
        gaps = explain(missing, [*self._reference.facts_of(self._part.market, first_slot), *facts_of(known)])
        return Seen(
            self._gap_rows(_joined(with_history(gaps, known, self._apart), self._apart), timeframe),
            sighting_rows(Slice(self._part.market, (timeframe,), self._part.window), new),
        )

    def _recorded(self, timeframe: Timeframe) -> list[Sighting]:
        return sightings_of(self._store.read(GAP_SIGHTINGS, Slice(self._part.market, (timeframe,), self._part.window)))

    def _new(
        self,
        missing: Sequence[Interval],
        timeframe: Timeframe,
        recorded: Sequence[Sighting],
        broken: Sequence[tuple[Interval, str]],
    ) -> Iterable[tuple[Sighting, Asking]]:
        """What of the missing runs had closed when its day was asked for, and is not recorded yet."""
        seen_on = _by_day((one.interval.start, one) for one in recorded)
        broken_on = _by_day((one[0].start, one) for one in broken)
        for day, runs in _by_day((run.start, run) for run in missing).items():
            asking = self._askings.get(day)
            if asking is None or not asking.is_witness:
                continue
            until = timeframe.floor(asking.fetched_at)
            closed = Interval(min(day, until), until)
            witnessed = [part for run in runs if not (part := run.intersect(closed)).is_empty]
            pieces = [*cut(witnessed, broken_on.get(day, []), lambda one: one[0])]
            known = seen_on.get(day, [])
            absent = merge(piece.interval for piece in pieces if not piece.spans)
            for run in new_sightings(absent, asking.fetched_at, known, self._apart):
                yield Sighting(run, Finding.ABSENT, asking.source, asking.fetched_at), asking
            for rules in dict.fromkeys(piece.spans[0][1] for piece in pieces if piece.spans):
                given = merge(piece.interval for piece in pieces if piece.spans and piece.spans[0][1] == rules)
                for run in new_rejections(given, rules, asking.fetched_at, known):
                    yield Sighting(run, Finding.REJECTED, asking.source, asking.fetched_at, rules), asking

    @cached_property
    def _askings(self) -> dict[datetime, Asking]:
        """By the first instant of the day, the latest time it was asked for and answered."""
        columns = ["window_start", "source", "requests", "fetched_at"]
        fetches = self._store.read(FETCHES, self._part, columns=columns).sort("fetched_at", maintain_order=True)
        times: dict[datetime, list[tuple[str, int, datetime]]] = {}
        for start, source, requests, fetched_at in fetches.select(columns).iter_rows():
            times.setdefault(start, []).append((source, requests, fetched_at))
        return {start: self._asking(start, asked) for start, asked in times.items()}

    def _asking(self, day: datetime, asked: Sequence[tuple[str, int, datetime]]) -> Asking:
        """The latest of the times a day was asked for that anybody answered; where nobody did, the latest."""
        before: datetime | None = None
        found: Asking | None = None
        for source, requests, fetched_at in asked:
            files = tuple(
                name
                for window, name, read_at in self._files
                if window.contains(day) and read_at <= fetched_at and (before is None or read_at > before)
            )
            one, before = Asking(source, requests, files, fetched_at), fetched_at
            found = one if found is None or one.is_witness or not found.is_witness else found
        assert found is not None  # a day is asked for at least once
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


def _joined(gaps: Iterable[SeenGap], apart: timedelta) -> list[SeenGap]:
    """Join gaps of one day that touch and were seen by the same witnesses, each within ``apart``.

    A feed sees an outage minute by minute: it is one gap all the same, and not one for each minute.
    """
    joined: list[SeenGap] = []
    for one in gaps:
        last = joined[-1] if joined else None
        if last is None or not _goes_on(last, one, apart):
            joined.append(one)
            continue
        whole = Interval(last.gap.interval.start, one.gap.interval.end)
        first_seen = [seen.first_seen_at for seen in (last, one) if seen.first_seen_at]
        last_seen = [seen.seen_at for seen in (last, one) if seen.seen_at]
        joined[-1] = replace(
            last, gap=replace(last.gap, interval=whole), first_seen_at=min(first_seen), seen_at=max(last_seen)
        )
    return joined


def _goes_on(last: SeenGap, one: SeenGap, apart: timedelta) -> bool:
    start = one.gap.interval.start
    if last.gap.interval.end != start or not (start - EPOCH) % DAY:
        return False
    told = [(gap.gap.cause, gap.gap.detail, gap.sightings, gap.source, gap.is_disputed) for gap in (last, one)]
    if told[0] != told[1] or not (last.first_seen_at and last.seen_at and one.first_seen_at and one.seen_at):
        return False
    return abs(one.first_seen_at - last.first_seen_at) < apart and abs(one.seen_at - last.seen_at) < apart


def sighting_rows(part: Slice, new: Iterable[tuple[Sighting, Asking]]) -> pl.DataFrame:
    """Return what was seen of some runs of slots as rows of ``SIGHTING_SCHEMA``."""
    market, timeframe = part.market, part.timeframes[0]
    return pl.DataFrame(
        [
            (market.exchange.value, market.symbol_key, timeframe.value, one.interval.start, one.interval.end,
             one.interval.slots(timeframe), one.finding.value, one.source, asking.requests, list(asking.files),
             one.fetched_at, one.detail)
            for one, asking in new
        ],
        schema=SIGHTING_SCHEMA,
        orient="row",
    )  # fmt: skip


def _by_day(timed: Iterable[tuple[datetime, Item]]) -> dict[datetime, list[Item]]:
    days: dict[datetime, list[Item]] = {}
    for moment, item in timed:
        days.setdefault(Timeframe.D1.floor(moment), []).append(item)
    return days


def _rules_broken(rejected: pl.DataFrame, timeframe: Timeframe) -> list[tuple[Interval, str]]:
    """The slots of rejected rows, ascending, each once, with the rules that were broken there."""
    mine = rejected.filter((pl.col("timeframe") == timeframe.value) & pl.col("open_time").is_not_null())
    rules: dict[datetime, set[str]] = {}
    for open_time, broken in mine.select("open_time", "failed_rules").iter_rows():
        if timeframe.is_on_grid(open_time):
            rules.setdefault(open_time, set()).update(broken)
    return [
        (Interval(slot, slot + timeframe.duration), f"given, and rejected: {', '.join(sorted(names))}")
        for slot, names in sorted(rules.items())
    ]
