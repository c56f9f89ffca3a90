"""Answered pages on disk, until the slice they belong to is stored: what a killed fetch need not ask again.

One file a page: a line of JSON that says what it is, the columns as an Arrow stream, a checksum of both. A file is
written under a temporary name and renamed, so that readers see all of it or nothing; a machine that loses power may
still leave half of one behind, which the checksum tells. Columns that hold one text in every row (exchange, symbol,
timeframe, source) stand in the line alone, which halves the file.
Not here: which pages may be kept (``exchanges.paging``), when they are no longer needed (``pipeline``).
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import logging
import os
import zlib
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import msgspec
import polars as pl

from mdp.domain.candles import RAW_SCHEMA
from mdp.domain.interval import Interval
from mdp.domain.market import Exchange, Market
from mdp.domain.timeframe import EPOCH, Timeframe
from mdp.ports import Clock, Vacuum

PAGE_SCHEMA = pl.Schema({name: dtype for name, dtype in RAW_SCHEMA.items() if name != "window_start"})
"""The columns of a page, in order: those of a raw candle, but for the day it is filed under."""

KEPT = timedelta(days=1)
"""How long a page is believed: an exchange may have revised its candles since."""

_FORMAT = 1
_SUFFIX = ".page"
_CHECKSUM_BYTES = 4
_MICROSECOND = timedelta(microseconds=1)
_SERIAL = itertools.count()

_log = logging.getLogger(__name__)


class _Head(msgspec.Struct):
    format: int
    page: str
    same: dict[str, str]


class FileSpool:
    """Pages as files below a directory; safe for many processes. See ``ports.PageSpool`` for what it promises.

    Args:
        directory: Made when the first page is kept.
        clock: Tells the time by which pages grow old.
        address_of: Tells where an exchange is asked. A page of one address is no answer of another: what a simulator
            said must not pass for what the exchange said.
    """

    def __init__(self, directory: Path, clock: Clock, address_of: Callable[[Exchange], str]) -> None:
        self._directory = directory
        self._clock = clock
        self._address_of = address_of
        self._has_warned = False

    def load(self, market: Market, timeframe: Timeframe, window: Interval) -> pl.DataFrame | None:
        """Return the rows of a page that was kept within a day; None where there are none that can be trusted.

        A file that is not a whole page of ours is removed.

        Shape:
            ``PAGE_SCHEMA``, in the order in which they were given to :meth:`keep`.
        """
        path = self._path(market, timeframe, window)
        try:
            age_s = self._clock().timestamp() - path.stat().st_mtime
            if not 0 <= age_s <= KEPT.total_seconds():
                return None
            return _read(path.read_bytes(), _title(market, timeframe, window))
        except FileNotFoundError:
            return None
        except OSError as error:
            self._warn(error)
            return None
        except ValueError as error:
            _log.warning("%s is not a page of ours (%s): removed, the exchange is asked again", path, error)
            _remove(path)
            return None

    def keep(self, market: Market, timeframe: Timeframe, window: Interval, rows: pl.DataFrame) -> None:
        """Keep the rows of a page, all or nothing. A full or read-only disk loses the page, not the fetch.

        Shape:
            ``rows``: ``PAGE_SCHEMA``, any order.
        """
        path = self._path(market, timeframe, window)
        # No other process has our number, and no other thread this count.
        unfinished = path.with_name(f".{path.name}.{os.getpid()}-{next(_SERIAL)}")
        now_s = self._clock().timestamp()
        try:
            body = _write(rows, _title(market, timeframe, window))
            try:
                unfinished.write_bytes(body)
            except FileNotFoundError:
                path.parent.mkdir(parents=True, exist_ok=True)
                unfinished.write_bytes(body)
            os.utime(unfinished, (now_s, now_s))
            unfinished.replace(path)
        except OSError as error:
            self._warn(error)
            _remove(unfinished)

    def discard(self, market: Market, timeframe: Timeframe, window: Interval) -> None:
        """Forget every page that lies inside a window, and of the same market whatever is too old to be believed."""
        now_s = self._clock().timestamp()
        for path, page in self._files(self._folder(market, timeframe)):
            is_inside = page is not None and window.start <= page.start and page.end <= window.end
            with contextlib.suppress(OSError):
                if is_inside or now_s - path.stat().st_mtime > KEPT.total_seconds():
                    path.unlink()

    def sweep(self, *, dry_run: bool = False) -> Vacuum:
        """Remove every page of any market that is too old to be believed, and what was never finished.

        Args:
            dry_run: Only count.
        """
        now_s, files, size = self._clock().timestamp(), 0, 0
        for path in self._directory.rglob(f"*{_SUFFIX}*"):
            with contextlib.suppress(OSError):
                status = path.stat()
                if _is_ours(path.name) and now_s - status.st_mtime > KEPT.total_seconds():
                    if not dry_run:
                        path.unlink()
                    files, size = files + 1, size + status.st_size
        return Vacuum(files, size)

    def _files(self, folder: Path) -> Iterator[tuple[Path, Interval | None]]:
        """Yield every file of a folder and the window in its name; None for what was never finished, or is foreign."""
        try:
            paths = list(folder.iterdir())
        except OSError:
            return
        for path in paths:
            yield path, _window_of(path.name)

    def _folder(self, market: Market, timeframe: Timeframe) -> Path:
        # a digest, for an address may hold a password
        address = hashlib.sha256(self._address_of(market.exchange).encode()).hexdigest()[:16]
        return self._directory / market.exchange.value / address / market.symbol_key / timeframe.value

    def _path(self, market: Market, timeframe: Timeframe, window: Interval) -> Path:
        start, end = ((moment - EPOCH) // _MICROSECOND for moment in (window.start, window.end))
        return self._folder(market, timeframe) / f"{start}-{end}{_SUFFIX}"

    def _warn(self, error: OSError) -> None:
        """Say it once: there is a page every few milliseconds."""
        if not self._has_warned:
            self._has_warned = True
            _log.warning(
                "pages cannot be kept in %s (%s): a fetch that is broken off starts again", self._directory, error
            )


def _title(market: Market, timeframe: Timeframe, window: Interval) -> str:
    return f"{market} {timeframe.value} {window.start.isoformat()} {window.end.isoformat()}"


def _is_ours(name: str) -> bool:
    """Tell whether a name is that of a page, or of one that was being written."""
    page, suffix, _ = name.removeprefix(".").partition(_SUFFIX)
    return _window_of(page + suffix) is not None


def _window_of(name: str) -> Interval | None:
    start, _, end = name.removesuffix(_SUFFIX).partition("-")
    if not (name.endswith(_SUFFIX) and start.isdecimal() and end.isdecimal()):
        return None
    try:
        return Interval(EPOCH + int(start) * _MICROSECOND, EPOCH + int(end) * _MICROSECOND)
    except (OverflowError, ValueError):
        return None


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


def _write(rows: pl.DataFrame, page: str) -> memoryview:
    same = {name: rows[name][0] for name, dtype in rows.schema.items() if dtype == pl.String and _is_same(rows[name])}
    content = io.BytesIO()
    content.write(msgspec.json.encode(_Head(_FORMAT, page, same)) + b"\n")
    # Put together by hand: `drop` and `select` go through the query engine, which takes longer than all the rest.
    pl.DataFrame([column for column in rows.iter_columns() if column.name not in same]).write_ipc_stream(content)
    with content.getbuffer() as body:
        checksum = zlib.crc32(body)
    content.write(checksum.to_bytes(_CHECKSUM_BYTES, "big"))
    return content.getbuffer()


def _is_same(texts: pl.Series) -> bool:
    return len(texts) > 0 and texts[0] is not None and bool((texts == texts[0]).all())


def _read(content: bytes, page: str) -> pl.DataFrame:
    """Read a file's content; raises ``ValueError`` where it is not that page, whole and unchanged."""
    body, checksum = memoryview(content)[:-_CHECKSUM_BYTES], content[-_CHECKSUM_BYTES:]
    if zlib.crc32(body).to_bytes(_CHECKSUM_BYTES, "big") != checksum:
        raise ValueError("its checksum differs")
    line, _, stream = bytes(body).partition(b"\n")
    head = msgspec.json.decode(line, type=_Head)  # its error is a ValueError
    if head.format != _FORMAT or head.page != page:
        raise ValueError(f"expected page {page!r} in format {_FORMAT}, got {head.page!r} in format {head.format}")
    given = pl.read_ipc_stream(stream)
    columns = {column.name: column for column in given.iter_columns()}
    for name, text in head.same.items():
        columns[name] = pl.Series(name, [text], dtype=pl.String).new_from_index(0, given.height)
    rows = pl.DataFrame([columns[name] for name in PAGE_SCHEMA if name in columns])
    if rows.schema != PAGE_SCHEMA:
        raise ValueError(f"expected columns {PAGE_SCHEMA}, got {rows.schema}")
    return rows
