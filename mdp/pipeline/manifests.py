"""What a snapshot says of itself: its manifest, the description of each part, and the identity of the whole.

A manifest is JSON, versioned by ``format``; fields are only ever added. Not here: making, reading and comparing
snapshots (``snapshots``), carrying them elsewhere (``exported``).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Literal, TypeVar

import msgspec
import polars as pl

from mdp.domain.candles import TIME
from mdp.domain.digests import digest
from mdp.domain.gaps import Cause
from mdp.domain.interval import DAY, Interval
from mdp.domain.market import Market
from mdp.domain.timeframe import Timeframe
from mdp.errors import OutdatedStore, StoreCorrupt
from mdp.pipeline.arrow_digest import arrow_sha256
from mdp.ports import DVOL, GAPS, OHLCV, Slice, Table

FORMAT = 1

HELD: tuple[Table, ...] = (GAPS, OHLCV, DVOL)
"""The tables that a snapshot can hold, in the order in which they are taken: gaps are written before candles."""

Read = Callable[[Table, Slice], pl.DataFrame]
"""Gives the rows of one table, market and timeframe."""

Form = TypeVar("Form")

_IDENTIFYING = (
    "table", "market", "timeframe", "rows", "first", "last", "digest", "sources", "expected", "missing",
)  # fmt: skip
"""Fields of a part that its snapshot's identity rests on; listed, so that a field that is added changes none."""

Wanted = tuple[Table, Slice]
"""One table, market and timeframe, and the window of it."""


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One table, market and timeframe of a snapshot.

    Attributes:
        table: ``ohlcv``, ``dvol`` or ``gaps``.
        market: Such as ``binance:BTC-USDT``.
        timeframe: Of the candles; ``1m`` for gaps.
        rows: How many.
        first: The first row's time, by which the table is cut: ``open_time``, ``start`` of gaps. None without rows.
        last: The last row's.
        digest: ``domain.digests.digest`` of the rows: what they say, whatever day they were collected on.
        sha256: Of the rows with all their columns, see :func:`arrow_digest.arrow_sha256`. It depends on when the rows
            were received and on the version of polars, so it is not part of the snapshot's identity.
        sources: Rows by where they came from: ``archive``, ``rest``, ``stream``, ``resampled``.
        expected: Slots of the timeframe inside the window; None for gaps.
        missing: Minutes inside the window without a candle, by cause; only where candles are minutes.
    """

    table: Literal["ohlcv", "dvol", "gaps"]
    market: str
    timeframe: Timeframe
    rows: int
    first: datetime | None
    last: datetime | None
    digest: str
    sha256: str
    sources: dict[str, int]
    expected: int | None
    missing: dict[str, int]

    def __post_init__(self) -> None:
        try:
            spelled = str(Market.parse(self.market))
        except ValueError as error:
            raise ValueError(f"market: {error}") from error
        if spelled != self.market:
            raise ValueError(f"market: expected {spelled}, got {self.market!r}")

    def __str__(self) -> str:
        return f"{self.table} {self.market} {self.timeframe}"


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a snapshot is.

    Attributes:
        format: Of the manifest.
        name: What it is called here; another machine may call it otherwise.
        note: What the person who made it said of it.
        created_at: When, UTC.
        mdp_version: By which version of this program.
        polars_version: By which version of polars, on which the bytes of an Arrow stream may depend.
        start: Of its window, included, UTC.
        end: Of its window, not included.
        versions: The version of each table it was taken from, in the store's own words.
        columns: The columns that each table had. One that was added since is null in all rows, and in no digest.
        parts: What it holds; a part without rows is held too, and empty.
        id: Its identity: :func:`identity` of window and parts. The same rows have the same on every machine, whenever
            they were received.
    """

    format: int
    name: str
    note: str
    created_at: datetime
    mdp_version: str
    polars_version: str
    start: datetime
    end: datetime
    versions: dict[str, str]
    columns: dict[str, tuple[str, ...]]
    parts: tuple[Part, ...]
    id: str

    def __post_init__(self) -> None:
        Interval(self.start, self.end)  # refuses bounds that are not UTC, or not in order
        if self.start.year < 2 or self.end.year > 9998:  # the days around it must be days
            raise ValueError(f"start, end: expected years from 2 to 9998, got {self.start} and {self.end}")
        _require_whole(list(map(str, self.parts)))
        for table in HELD:
            if any(part.table == table.name for part in self.parts):
                _require_columns(table, self.columns.get(table.name, ()))

    @property
    def window(self) -> Interval:
        """The range of time it is about."""
        return Interval(self.start, self.end)

    @property
    def rows(self) -> int:
        """How many rows it holds, gaps among them."""
        return sum(part.rows for part in self.parts)

    @property
    def wanted(self) -> list[Wanted]:
        """Which tables, markets and timeframes it holds, and the window of each."""
        tables = {table.name: table for table in HELD}
        return [
            wanted_of(tables[part.table], Market.parse(part.market), part.timeframe, self.window) for part in self.parts
        ]


def _require_whole(parts: Sequence[str]) -> None:
    for part in parts:
        if parts.count(part) > 1:
            raise ValueError(f"parts: {part} is there twice")
        if (gaps := f"gaps {part.split()[1]} 1m") not in parts:
            raise ValueError(f"parts: expected {gaps} beside {part}")


def _require_columns(table: Table, columns: Sequence[str]) -> None:
    """Refuse less than the table ever had, for columns are only ever added; later ones are known to a later version."""
    if not columns:
        raise ValueError(f"columns: expected those of {table.name}, got none")
    if missing := [name for name in table.schema_at(1) if name not in columns]:
        raise ValueError(f"columns: {table.name} without {', '.join(missing)}")
    if twice := [name for name, count in Counter(columns).items() if count > 1]:
        raise ValueError(f"columns: {table.name} with {', '.join(twice)} twice")


def wanted_parts(markets: Collection[Market], timeframes: Collection[Timeframe], window: Interval) -> list[Wanted]:
    """Return what a snapshot of some markets consists of: candles at the timeframes, the index at 1m, the gaps.

    Gaps are those of the whole days that the window touches: one that begins before it may reach into it.
    """
    found = [wanted_of(GAPS, market, Timeframe.M1, window) for market in markets]
    for market in markets:
        if market.is_volatility_index:
            found.append(wanted_of(DVOL, market, Timeframe.M1, window))
        else:
            found += [wanted_of(OHLCV, market, timeframe, window) for timeframe in sorted_by_length(timeframes)]
    return found


def wanted_of(table: Table, market: Market, timeframe: Timeframe, window: Interval) -> Wanted:
    """Return one of :func:`wanted_parts`."""
    return table, Slice(market, (timeframe,), whole_days(window) if table is GAPS else window)


def sorted_by_length(timeframes: Collection[Timeframe]) -> list[Timeframe]:
    """Return timeframes, each once, shortest first."""
    return sorted(set(timeframes), key=lambda timeframe: timeframe.seconds)


def whole_days(window: Interval) -> Interval:
    """Return the UTC days that a window touches."""
    last = window.end - timedelta(microseconds=1) if not window.is_empty else window.end
    return Interval(Timeframe.D1.floor(window.start), Timeframe.D1.floor(last) + DAY)


def describe(read: Read, wanted: Wanted, window: Interval, columns: Sequence[str]) -> Part:
    """Read and describe one part of a snapshot about ``window``, by the columns its table had."""
    table, part = wanted
    rows, (timeframe,) = read(table, part).select(columns), part.timeframes
    missing: dict[str, int] = {}
    if table is not GAPS and timeframe is Timeframe.M1:
        gaps = read(*wanted_of(GAPS, part.market, Timeframe.M1, window))
        missing = missing_by_cause(rows["open_time"], gaps, window)
    first, last = (rows[table.time_column][0], rows[table.time_column][-1]) if len(rows) else (None, None)
    return Part(
        table=table.name,  # type: ignore[arg-type]  # one of HELD
        market=str(part.market),
        timeframe=timeframe,
        rows=len(rows),
        first=first,
        last=last,
        digest=digest(rows),
        sha256=arrow_sha256(rows),
        sources=dict(sorted(rows["source"].fill_null("unknown").value_counts().iter_rows())),
        expected=None if table is GAPS else window.slots(timeframe),
        missing=missing,
    )


def missing_by_cause(open_times: pl.Series, gaps: pl.DataFrame, window: Interval) -> dict[str, int]:
    """Count the minutes of a window that have no candle, by why.

    Args:
        open_times: Of the minutes that are there.
        gaps: Rows of ``GAP_SCHEMA``; one where a candle is counts for nothing.
        window: Which minutes.

    Returns:
        By cause, ascending; what no gap explains is ``unfetched``.
    """
    first = Timeframe.M1.floor(window.start - timedelta(microseconds=1)) + Timeframe.M1.duration
    grid = pl.datetime_range(first, window.end, "1m", closed="left", eager=True).cast(TIME).alias("open_time")
    left = grid.to_frame().filter(~pl.col("open_time").is_in(open_times.implode()))
    known = gaps.select("start", "end", "cause").sort("start")
    found = left.join_asof(known, left_on="open_time", right_on="start", strategy="backward")
    is_known = (pl.col("open_time") < pl.col("end")).fill_null(value=False)
    causes = found.select(pl.when(is_known).then("cause").otherwise(pl.lit(Cause.UNFETCHED.value)).alias("cause"))
    return dict(sorted(causes["cause"].value_counts().iter_rows()))


def identity(window: Interval, parts: Sequence[Part]) -> str:
    """Return the digest over all that a snapshot says of its rows: 64 hexadecimal digits.

    What it is called, in which order its markets were named, when its rows were received and which version of polars
    wrote their bytes does not count.
    """
    said = [[getattr(part, field) for field in _IDENTIFYING] for part in sorted(parts, key=str)]
    whole = {"start": window.start, "end": window.end, "parts": said}
    return hashlib.sha256(msgspec.json.encode(whole, order="sorted")).hexdigest()


def require_known(manifest: Manifest) -> None:
    """Refuse what has columns that this version does not know.

    Raises:
        OutdatedStore: names them.
    """
    for table in HELD:
        unknown = [name for name in manifest.columns.get(table.name, ()) if name not in table.schema]
        if unknown:
            made = f"snapshot {manifest.name!r}, made by mdp {manifest.mdp_version}"
            raise OutdatedStore(f"{made}: {table.name} has columns unknown here: {', '.join(unknown)}: use a later mdp")


def encode(manifest: Manifest) -> bytes:
    """Return a manifest as JSON, for people too."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


def decode(body: bytes, whence: str) -> Manifest:
    """Read a manifest.

    Args:
        body: What :func:`encode` gave.
        whence: Where it comes from, for the message.

    Raises:
        OutdatedStore: of a later format.
        StoreCorrupt: not a manifest.
    """
    return decode_as(body, Manifest, whence)


def decode_as(body: bytes, form: type[Form], whence: str) -> Form:
    """Read JSON that says its ``format`` first; as for :func:`decode`."""
    try:
        found = msgspec.json.decode(body, type=Mapping[str, msgspec.Raw]).get("format", msgspec.Raw(b"null"))
        version = msgspec.json.decode(found, type=int)
        if version > FORMAT:
            raise OutdatedStore(
                f"{whence}: of format {version}; this version of mdp reads up to {FORMAT}: use a later one"
            )
        return msgspec.json.decode(body, type=form)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StoreCorrupt(f"{whence}: no manifest of ours: {error}") from error
