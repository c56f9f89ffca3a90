"""Ask an exchange's own longer candles about gaps that nobody can explain, and keep what they say as evidence.

Not here: what they say (``domain.second_opinion``), what a gap makes of it (``domain.sightings``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from mdp.domain.candles import SIGHTING_SCHEMA
from mdp.domain.gaps import Cause, cut
from mdp.domain.interval import Interval, merge
from mdp.domain.market import Market
from mdp.domain.second_opinion import OPINION_LENGTH, Opinion, second_opinions
from mdp.domain.sightings import Finding, Sighting, sightings_of
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
        gaps = [Interval(start, end) for start, end in unknown.select("start", "end").iter_rows()]
        if not gaps:
            continue
        try:
            answers = asyncio.run(_ask(_Question(part, gaps, _windows(gaps)), open_source))
        except ExchangeError as error:
            silent[part.market] = str(error)
            continue
        rows = _told(part, gaps, answers, store)
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


def _told(part: Slice, gaps: Iterable[Interval], answers: list[Fetched], store: CandleStore) -> pl.DataFrame:
    """What is told of each gap and was not told before, as rows of ``SIGHTING_SCHEMA``."""
    longer = pl.concat(one.rows for one in answers)
    minutes = store.read(OHLCV, part)
    known = sightings_of(store.read(GAP_SIGHTINGS, part))
    rows = [SIGHTING_SCHEMA.to_frame()]
    asked_at = _asked_at(longer, known)
    if asked_at is None:
        return rows[0]
    asking = Asking("rest", sum(one.requests for one in answers), (), asked_at)
    for gap in gaps:
        for opinion in second_opinions(gap, minutes, longer):
            new = [(run, asking) for run in _not_known(opinion, known)]
            rows.append(sighting_rows(part, new, opinion.finding, opinion.detail))
    return pl.concat(rows)


def _asked_at(longer: pl.DataFrame, known: Iterable[Sighting]) -> datetime | None:
    """When the second opinion was given: with the newest candle that came, else with the newest sighting."""
    newest = longer["fetched_at"].max()
    return newest if isinstance(newest, datetime) else max((one.fetched_at for one in known), default=None)


def _not_known(opinion: Opinion, known: Iterable[Sighting]) -> list[Interval]:
    """The parts of an opinion of which the latest one on record does not say the same."""
    opinions = sorted((one for one in known if one.finding is not Finding.ABSENT), key=lambda one: one.fetched_at)
    new = []
    for piece in cut([opinion.interval], opinions, lambda one: one.interval):
        last = piece.spans[-1] if piece.spans else None
        if last is None or (last.finding, last.detail) != (opinion.finding, opinion.detail):
            new.append(piece.interval)
    return merge(new)
