"""A source that asks an exchange's bulk files before its REST API: a year is twelve files instead of 526 pages.

Only whole UTC days of minutes, and only what is published. Whatever a file cannot give, is in doubt about, or leaves
out is asked of REST, with a line in the log; the archive alone never fails a fetch. Rows say where they came from.
A slot is told by a file only where one of its rows obeys the rules; a row that does not stays, for the judge to keep,
and REST is asked for another.
Not here: which files there are and what is in them (each exchange's ``archive``), REST (its ``source``).
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Self

import numpy as np
import polars as pl

from mdp.config.exchange_sections import ExchangeSettings
from mdp.domain.candles import TIME
from mdp.domain.gaps import find_gaps
from mdp.domain.interval import DAY, Interval, merge, subtract
from mdp.domain.market import Exchange, Market
from mdp.domain.rules import RULES, Asked
from mdp.domain.timeframe import Timeframe
from mdp.errors import ConfigError, ExchangeError
from mdp.exchanges.archive_downloads import WAITS, Downloads
from mdp.exchanges.archive_files import Archive, Effort
from mdp.exchanges.archive_reader import ArchiveReader, Taken
from mdp.exchanges.asking import RetryWaits
from mdp.exchanges.frames import ANSWER_SCHEMA
from mdp.ports import Bandwidth, Budget, CandleSource, Clock, Fetched

_MINUTE = Timeframe.M1
_MICROSECOND = timedelta(microseconds=1)

_NOT_SAID = ("source", "fetched_at")
"""Columns that say where a row came from, not what it says."""

_log = logging.getLogger(__name__)


def with_archive(
    source: CandleSource,
    exchange: Exchange,
    settings: ExchangeSettings,
    *,
    clock: Clock,
    budget: Budget | None = None,
    waits: RetryWaits = WAITS,
    bandwidth: Bandwidth | None = None,
) -> CandleSource:
    """Return a source that asks the archive of an exchange first and ``source`` for all else.

    Args:
        source: REST; entered and left together with what is returned.
        exchange: Which one.
        settings: ``archive_url`` says where its files are; None, or ``archives`` off: ``source`` itself is returned,
            as it is for an exchange that publishes no candles.
        clock: Our own UTC time, by which is judged what has been published.
        budget: Gives leave for the one question that goes to the API, OKX's index; None: a spacing of our own.
        waits: How long to wait between attempts to fetch a file.
        bandwidth: What may be received of files; None: no limit.

    Raises:
        ConfigError: OKX's ``rest_url`` is not set.
    """
    if not settings.archives or settings.archive_url is None:
        return source
    downloads = Downloads(exchange, settings.timeout_s, waits, bandwidth)
    archive = _open_archive(exchange, settings, downloads, budget)
    if archive is None:
        return source
    return ArchiveFirst(source, ArchiveReader(archive, downloads, settings.archive_url, clock))


def _open_archive(
    exchange: Exchange, settings: ExchangeSettings, downloads: Downloads, budget: Budget | None
) -> Archive | None:
    if exchange is Exchange.BINANCE:
        from mdp.exchanges.binance.archive import BinanceArchive

        return BinanceArchive()
    if exchange is Exchange.OKX:
        from mdp.exchanges.okx.archive import OkxArchive
        from mdp.exchanges.okx.archive_index import ArchiveIndex

        if settings.rest_url is None:
            raise ConfigError("MDP_EXCHANGES__OKX__REST_URL", got=None, expected="the address of the exchange")
        return OkxArchive(ArchiveIndex(settings.rest_url, downloads, settings.rate_share, budget))
    return None


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is left for REST.

    Attributes:
        stretches: What is asked: all that no file is about, and around the slots of which files tell nothing.
        settled: What files have told already, so that REST is not listened to.
    """

    stretches: list[Interval]
    settled: list[Interval]


class ArchiveFirst:
    """Files first, REST for the rest; see ``ports.CandleSource`` for what it promises.

    Args:
        source: REST.
        reader: The files.
    """

    def __init__(self, source: CandleSource, reader: ArchiveReader) -> None:
        self.exchange = source.exchange
        self._source = source
        self._reader = reader

    async def __aenter__(self) -> Self:
        await self._source.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._reader.close()
        finally:
            await self._source.__aexit__(kind, error, trace)

    async def fetch(self, market: Market, timeframe: Timeframe, window: Interval) -> Fetched:
        """Take every candle that opens inside ``window`` from files, and what these do not give from REST.

        Raises:
            InputError: as REST does.
            ExchangeError: REST could not be asked what no file gave; nothing partial is returned.
        """
        days = whole_days(window)
        if timeframe is not _MINUTE or market.exchange is not self.exchange or days.is_empty:
            return await self._source.fetch(market, timeframe, window)
        effort = Effort()
        taken = await self._reader.take(market, days, effort)
        plan = _plan(window, taken, self._reader.page_slots)
        answers: list[Fetched] = []
        try:
            for stretch in plan.stretches:
                answers.append(await self._source.fetch(market, timeframe, stretch))
        except ExchangeError as error:
            error.failed = _repeats(effort, answers) + Counter(error.failed)
            raise
        if taken:
            _log.info("%s %s: %d files, %d stretches of REST", market, window, len(taken), len(plan.stretches))
        return _put_together(taken, answers, plan, effort)


def whole_days(window: Interval) -> Interval:
    """Return the whole UTC days of a window; empty where there are none."""
    first = Timeframe.D1.floor(window.start + DAY - _MICROSECOND)
    return Interval(first, max(first, Timeframe.D1.floor(window.end)))


def _plan(window: Interval, taken: Sequence[Taken], page_slots: int) -> _Plan:
    holes = [hole for one in taken for hole in untold_slots(one)]
    uncovered = subtract(window, [one.wanted for one in taken])
    settled = [part for one in taken for part in subtract(one.wanted, holes)]
    return _Plan(merge([*uncovered, *asked_together(holes, page_slots)]), merge(settled))


def untold_slots(taken: Taken) -> list[Interval]:
    """Return the runs of slots of which a file has no good row: none at all, or only such as the judge will reject."""
    asked = Asked(taken.wanted, _MINUTE)
    is_good = pl.all_horizontal(rule(asked).fill_null(value=False) for rule in RULES.values())
    return find_gaps(taken.rows.filter(is_good)["open_time"], _MINUTE, taken.wanted)


def asked_together(holes: Iterable[Interval], page_slots: int) -> list[Interval]:
    """Join ascending holes that fit into one page of REST together: a request costs the same for one slot and for all.

    Examples:
        >>> from mdp.domain.interval import parse_time
        >>> hole = Interval(parse_time("2025-01-01T05:00Z"), parse_time("2025-01-01T06:00Z"))
        >>> other = Interval(parse_time("2025-01-01T09:00Z"), parse_time("2025-01-01T09:01Z"))
        >>> [str(part) for part in asked_together([hole, other], page_slots=300)]
        ['[2025-01-01T05:00:00Z, 2025-01-01T09:01:00Z)']
    """
    joined: list[Interval] = []
    for hole in holes:
        if joined and hole.end - joined[-1].start <= page_slots * _MINUTE.duration:
            joined[-1] = Interval(joined[-1].start, hole.end)
        else:
            joined.append(hole)
    return joined


def _put_together(taken: Sequence[Taken], answers: Sequence[Fetched], plan: _Plan, effort: Effort) -> Fetched:
    """Files and REST, in the order of ``open_time``; REST only where no file has told already, and nothing twice."""
    files = [one.rows for one in taken]
    frames = files + [_without_echoes(_without(answer.rows, plan.settled), files) for answer in answers]
    return Fetched(
        rows=_in_order(frames),
        requests=effort.requests + sum(answer.requests for answer in answers),
        retried=dict(_repeats(effort, answers)),
        waited_s=effort.waited_s + sum(answer.waited_s for answer in answers),
        files=tuple(one.file for one in taken),
    )


def _repeats(effort: Effort, answers: Sequence[Fetched]) -> Counter[str]:
    return sum((Counter(answer.retried) for answer in answers), +effort.retried)


def _without(rows: pl.DataFrame, settled: Sequence[Interval]) -> pl.DataFrame:
    if not settled or rows.is_empty():
        return rows
    starts, ends = (
        pl.Series([getattr(one, bound) for one in settled], dtype=TIME).to_physical().to_numpy()
        for bound in ("start", "end")
    )
    times = rows["open_time"].to_physical().to_numpy()
    place = np.searchsorted(starts, times, side="right") - 1
    is_settled = (place >= 0) & (times < ends[place])
    return rows.filter(pl.Series(~is_settled)) if is_settled.any() else rows


def _without_echoes(rows: pl.DataFrame, files: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Leave out rows of REST that say word for word what a row of a file says: one that the judge will reject."""
    if not files or rows.is_empty():
        return rows
    is_near = pl.col("open_time").is_in(rows["open_time"].implode())
    same = pl.concat([file.filter(is_near) for file in files])
    said = [name for name in rows.columns if name not in _NOT_SAID]
    return rows.join(same, on=said, how="anti", nulls_equal=True, maintain_order="left") if len(same) else rows


def _in_order(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Put frames together; sorting half a million rows that are in order already takes longer than reading them."""
    rows = pl.concat(frames, rechunk=False) if frames else pl.DataFrame(schema=ANSWER_SCHEMA)
    if not rows["open_time"].is_sorted():
        rows = rows.sort("open_time", maintain_order=True)
    return rows.rechunk()
