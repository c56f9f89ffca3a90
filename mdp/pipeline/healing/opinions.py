"""Ask an exchange's own longer candles about gaps that nobody can explain, and keep what they say as evidence.

Not here: what they say (``domain.second_opinion``), what a gap makes of it (``domain.sightings``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from mdp.domain.candles import SIGHTING_SCHEMA
from mdp.domain.gaps import Cause, cut
from mdp.domain.interval import Interval, merge
from mdp.domain.market import Market
from mdp.domain.second_opinion import OPINION_LENGTH, Opinion, second_opinions
from mdp.domain.sightings import Sighting, rejected_last, sightings_of
from mdp.domain.timeframe import Timeframe
from mdp.errors import ExchangeError
from mdp.pipeline.batches import Batch, Write
from mdp.pipeline.gap_evidence import Asking, sighting_rows
from mdp.ports import GAP_SIGHTINGS, GAPS, OHLCV, CandleStore, Fetched, OpenSource, Slice


@dataclass(frozen=True, slots=True)
class _Question:
    """The gaps of one slice that are asked about, and the windows of longer candles over them."""

    part: Slice
    gaps: list[Interval]
    windows: list[Interval]


def opinions_on(
    parts: Iterable[Slice], store: CandleStore, open_source: OpenSource, silent: dict[Market, str]
) -> Iterator[Batch]:
    """Ask for a second opinion on every unexplained gap of some slices.

    Args:
        parts: Whole UTC days of spot markets at 1m that were just judged.
        store: Where gaps, minutes and evidence are.
        open_source: Gives the source of an exchange.
        silent: Filled with the markets whose exchange gave none, and why.

    Yields:
        One batch of evidence for each slice of which something is told that is not recorded yet; it reports no day.
    """
    for part in parts:
        unknown = store.read(GAPS, part).filter(cause=Cause.UNKNOWN.value)
        known = sightings_of(store.read(GAP_SIGHTINGS, part)) if len(unknown) else []
        gaps = merge(Interval(start, end) for start, end in unknown.select("start", "end").iter_rows())
        # where a row was given, however bad, nobody need say whether there was trading
        given = rejected_last(gaps, known)
        gaps = [piece.interval for piece in cut(gaps, given, lambda one: one) if not piece.spans]
        if not gaps:
            continue
        try:
            answers = asyncio.run(_ask(_Question(part, gaps, _windows(gaps)), open_source))
        except ExchangeError as error:
            silent[part.market] = str(error)
            continue
        rows = _told(part, gaps, answers, known, store)
        if len(rows):
            yield Batch(part, (Write(GAP_SIGHTINGS, part, rows, appends=True),), {})


def _windows(gaps: Iterable[Interval]) -> list[Interval]:
    """One window for each day that has gaps, from the first to the last: candles come by the thousand."""
    hulls: dict[object, Interval] = {}
    for gap in gaps:
        start, end = OPINION_LENGTH.floor(gap.start), OPINION_LENGTH.floor(gap.end - Timeframe.M1.duration)
        wide, day = Interval(start, end + OPINION_LENGTH.duration), gap.start.date()
        known = hulls.get(day, wide)
        hulls[day] = Interval(min(known.start, wide.start), max(known.end, wide.end))
    return merge(hulls.values())


async def _ask(question: _Question, open_source: OpenSource) -> list[Fetched]:
    async with open_source(question.part.market.exchange) as source:
        return [await source.fetch(question.part.market, OPINION_LENGTH, window) for window in question.windows]


def _told(
    part: Slice, gaps: Iterable[Interval], answers: list[Fetched], known: Sequence[Sighting], store: CandleStore
) -> pl.DataFrame:
    """What is told of each gap and was not told before, as rows of ``SIGHTING_SCHEMA``."""
    longer = pl.concat(one.rows for one in answers)
    asked_at = _asked_at(longer, known)
    if asked_at is None:
        return SIGHTING_SCHEMA.to_frame()
    asking = Asking("rest", sum(one.requests for one in answers), (), asked_at)
    new = _not_known(second_opinions(gaps, store.read(OHLCV, part), longer), known)
    return sighting_rows(
        part,
        ((Sighting(run, one.finding, asking.source, asked_at, one.detail), asking) for run, one in new),
    )


def _asked_at(longer: pl.DataFrame, known: Iterable[Sighting]) -> datetime | None:
    """When the second opinion was given: with the newest candle that came, else with the newest sighting."""
    newest = longer["fetched_at"].max()
    return newest if isinstance(newest, datetime) else max((one.fetched_at for one in known), default=None)


def _not_known(opinions: Sequence[Opinion], known: Iterable[Sighting]) -> Iterator[tuple[Interval, Opinion]]:
    """The parts of opinions of which the latest one on record does not say the same."""
    recorded = sorted((one for one in known if one.finding.is_opinion), key=lambda one: one.fetched_at)
    waiting = iter(opinions)
    runs: list[tuple[Interval, Opinion]] = []
    opinion: Opinion | None = None
    for piece in cut((one.interval for one in opinions), recorded, lambda one: one.interval):
        opinion = next(waiting) if piece.is_first or opinion is None else opinion
        last = piece.spans[-1] if piece.spans else None
        if last and (last.finding, last.detail) == (opinion.finding, opinion.detail):
            continue
        if runs and runs[-1][1] is opinion and runs[-1][0].end == piece.interval.start:
            runs[-1] = Interval(runs[-1][0].start, piece.interval.end), opinion
        else:
            runs.append((piece.interval, opinion))
    yield from runs
