"""OKX's bulk files: which of them a window needs, what their lines say.

A day or a month of OKX's is one of UTC+8: a UTC day needs two daily files, a UTC month its monthly file and a daily one
for its last eight hours. No checksum is published. What a file is about is told by its name alone, because the guide
names the time in an entry of the index in two ways (``dataTs``, ``dateTs``) and does not say in which zone it is read.
Source: OKX API guide "Get historical market data", 2026-07.
Not here: the index (``archive_index``), fetching files (``archive_downloads``), when they are asked
(``archive_first``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import polars as pl

from mdp.domain.interval import DAY, Interval, subtract
from mdp.domain.market import Exchange, Market
from mdp.domain.timeframe import EPOCH, Timeframe
from mdp.exchanges.archive_content import Layout, read_csv, refuse, to_answer
from mdp.exchanges.archive_files import BulkFile, Effort, Fetch
from mdp.exchanges.okx.archive_index import ArchiveIndex
from mdp.exchanges.okx.pager import MAX_ROWS
from mdp.exchanges.symbols import to_market_id

MOST_ASKED = 19
"""Days or months asked at once. The guide allows 20; if it reads ``begin`` in UTC, one more is touched."""

EAST = timedelta(hours=8)
_LATE = 2 * DAY

LAYOUT = Layout(
    Exchange.OKX,
    ("instrument_name", "open", "high", "low", "close", "vol", "vol_ccy", "vol_quote", "open_time", "confirm"),
    {
        "instrument_name": ("instrument_name", pl.String()),
        **{name: (name, pl.Float64()) for name in ("open", "high", "low", "close")},
        "vol": ("volume", pl.Float64()),
        "vol_quote": ("quote_volume", pl.Float64()),
        "open_time": ("open_time", pl.Int64()),
        "confirm": ("confirm", pl.Int64()),
    },
)
"""As published by third parties, 2026-05."""


class OkxArchive:
    """OKX's bulk files of minutes; see ``archive_files.Archive``.

    Args:
        index: Tells which files there are; what it listed once is not asked again.
    """

    exchange = Exchange.OKX
    page_slots = MAX_ROWS

    def __init__(self, index: ArchiveIndex) -> None:
        self._index = index
        self._paths: dict[str, str] = {}

    async def list_files(self, market: Market, days: Interval, now: datetime, effort: Effort) -> list[BulkFile]:
        """Return the files that the index lists of those that the days need."""
        needed = list_files(market, days, now)
        asked_until: dict[str, datetime] = {}
        for one in needed:
            is_asked = one.file.window.start < asked_until.get(one.kind, EPOCH)
            if not is_asked and one.file.path not in self._paths:
                span = _span(one, now)
                asked_until[one.kind] = span.end
                self._paths.update(await self._index.ask(market, one.kind, span, effort))
        return [replace(one.file, path=self._paths[one.file.path]) for one in needed if one.file.path in self._paths]

    async def files_instead(
        self,
        market: Market,  # noqa: ARG002
        missing: BulkFile,  # noqa: ARG002
        now: datetime,  # noqa: ARG002
        fetch: Fetch,  # noqa: ARG002 the index said it was there; whatever has happened to it, REST is there too
    ) -> list[BulkFile]:
        """Return none."""
        return []

    def parse_checksum(self, text: bytes, path: str) -> str:  # noqa: ARG002
        """Refuse: there is none to read."""
        raise refuse(self.exchange, path, "expected no checksum, for none is published")

    def parse_file(self, text: bytes, market: Market, path: str, received_at: datetime) -> pl.DataFrame:
        """Read what is inside a zip."""
        return parse_file(text, market, path, received_at)


@dataclass(frozen=True, slots=True)
class Needed:
    """A file that a window needs, and how the index calls its length: ``monthly`` or ``daily``."""

    kind: str
    file: BulkFile


def list_files(market: Market, days: Interval, now: datetime) -> list[Needed]:
    """Return the files that hold some whole UTC days, of those that ought to be published by now.

    A file is published two days after the day, or the last day of the month, that it is about.

    Args:
        market: Whose candles.
        days: Whole UTC days.
        now: Our time.

    Returns:
        Ascending by kind; their wanted parts do not overlap. The path of each is still its name alone: where it is,
        the index says.
    """
    months = [part for part in days.months() if part == _whole_month(part)]
    monthly = [_needed(market, "monthly", Interval(month.start - EAST, month.end - EAST), days) for month in months]
    monthly = [one for one in monthly if _is_due(one.file.window, now)]
    rest = subtract(days, [one.file.wanted for one in monthly])
    daily = [_needed(market, "daily", _east_day(part.start), part) for span in rest for part in _east_parts(span)]
    return [*monthly, *(one for one in daily if _is_due(one.file.window, now))]


def _needed(market: Market, kind: str, window: Interval, wanted: Interval) -> Needed:
    first = window.start + EAST
    spelled = f"{first:%Y-%m}" if kind == "monthly" else f"{first:%Y-%m-%d}"
    name = f"{to_market_id(market)}-candlesticks-{spelled}.zip"
    return Needed(kind, BulkFile(name, window, window.intersect(wanted)))


def _is_due(window: Interval, now: datetime) -> bool:
    return now >= window.end - DAY + _LATE


def _whole_month(part: Interval) -> Interval:
    start = part.start.replace(day=1)
    return next(Interval(start, start + 32 * DAY).months())


def _east_day(moment: datetime) -> Interval:
    start = Timeframe.D1.floor(moment + EAST) - EAST
    return Interval(start, start + DAY)


def _east_parts(window: Interval) -> Iterator[Interval]:
    """Yield the parts of a window that lie in one day of UTC+8 each."""
    for part in Interval(window.start + EAST, window.end + EAST).days():
        yield Interval(part.start - EAST, part.end - EAST)


def _span(first: Needed, now: datetime) -> Interval:
    """What to ask the index about for one file: as much after it as one question may, for it will be needed next."""
    start = end = first.file.window.start + EAST
    for _ in range(MOST_ASKED):
        end = _whole_month(Interval(end, end)).end if first.kind == "monthly" else end + DAY
    return Interval(start - EAST, max(first.file.window.end, min(end - EAST, now)))


def parse_file(text: bytes, market: Market, path: str, received_at: datetime) -> pl.DataFrame:
    """Turn the lines of a file into a table, in their order; nothing is filtered.

    Raises:
        PayloadError: not such a file, or not only of this market; names line and field.

    Shape:
        Result: ``frames.ANSWER_SCHEMA``. ``volume`` in base coin, ``quote_volume`` in quote coin, ``trades`` null.
        ``closed`` is the exchange's own flag, ``confirm``.
    """
    rows = read_csv(text, LAYOUT, path)
    market_id = to_market_id(market)
    strange = rows.filter(pl.col("instrument_name") != market_id)
    if len(strange):
        found = strange["instrument_name"][0]
        raise refuse(Exchange.OKX, path, f"field instrument_name: expected {market_id}, got {found!r}")
    return to_answer(rows, market, received_at, path, closed=rows["confirm"] == 1)
