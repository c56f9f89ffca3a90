"""Takes the rows of a window from bulk files: several at once, each verified, unpacked and read off the event loop.

Not here: what is asked of REST instead (``archive_first``), one request (``archive_downloads``), what is inside a file
(``archive_content``).
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from mdp.domain.interval import Interval
from mdp.domain.market import Market
from mdp.errors import ConfigError, ExchangeError, PayloadError
from mdp.exchanges.archive_content import unpack
from mdp.exchanges.archive_downloads import Downloads
from mdp.exchanges.archive_files import Archive, BulkFile, Effort, Fetch
from mdp.ports import ArchiveFile, Clock

FILES_IN_FLIGHT = 4
"""Files of one fetch that are fetched and read at the same time: 10 MB each, inflated and as a table."""

_FAILURES_TO_LEAVE = 3
_LEFT_FOR_S = 60.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Taken:
    """What one file gave.

    Attributes:
        rows: Of ``ANSWER_SCHEMA``: those of the file's rows that open inside ``wanted``, in its order.
        wanted: The part of the asked window that the file is about.
        file: The file.
    """

    rows: pl.DataFrame
    wanted: Interval
    file: ArchiveFile


class _Doubtful(PayloadError):
    """The checksum does not fit: the file, or its checksum, is being replaced or was damaged on its way."""


class ArchiveReader:
    """Reads one exchange's files.

    Args:
        archive: What is particular to the exchange.
        downloads: Fetches; closed by this.
        url: The archive's address.
        clock: Our time.
    """

    def __init__(self, archive: Archive, downloads: Downloads, url: str, clock: Clock) -> None:
        self.page_slots = archive.page_slots
        self._archive = archive
        self._downloads = downloads
        self._url = url
        self._clock = clock
        self._failures = 0
        self._left_until_s = 0.0

    async def close(self) -> None:
        """Close the connections."""
        await self._downloads.__aexit__(None, None, None)

    async def take(self, market: Market, days: Interval, effort: Effort) -> list[Taken]:
        """Take the rows of whole days from all files that can be had and believed.

        Returns:
            What each of them gave, ascending; their parts do not overlap. Nothing where the archive is out of order:
            why is in the log.
        """
        if time.monotonic() < self._left_until_s:
            return []
        try:
            files = await self._archive.list_files(market, days, self._clock(), effort)
        except ExchangeError as error:
            _log.warning("%s: it cannot be told which archive files there are, REST is asked: %s", market, error)
            self._leave_alone()
            return []
        except ConfigError as error:
            _log.warning("%s: no archive file is asked for until a setting is changed, REST is: %s", market, error)
            self._left_until_s = math.inf
            return []
        turnstile = asyncio.Semaphore(FILES_IN_FLIGHT)
        found = await self._take_all(files, market, turnstile, effort)
        return sorted(found, key=lambda taken: taken.wanted)

    async def _take_all(
        self, files: Iterable[BulkFile], market: Market, turnstile: asyncio.Semaphore, effort: Effort
    ) -> list[Taken]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._take(file, market, turnstile, effort)) for file in files]
        return [taken for task in tasks for taken in task.result()]

    async def _take(self, file: BulkFile, market: Market, turnstile: asyncio.Semaphore, effort: Effort) -> list[Taken]:
        instead: list[BulkFile] = []
        async with turnstile:
            if time.monotonic() < self._left_until_s:
                return []
            try:
                taken = await self._read(file, market, effort.retried)
                if taken is not None:
                    return [taken]
                instead = await self._archive.files_instead(market, file, self._clock(), self._fetch(effort.retried))
            except ExchangeError as error:
                self._note_failure(file, error)
                return []
        if not instead:
            _log.info("%s: no archive file %s; its candles are asked of REST", market, file.path)
        return await self._take_all(instead, market, turnstile, effort)

    def _note_failure(self, file: BulkFile, error: ExchangeError) -> None:
        """Say why a file is not used; leave the archive alone for a while when it is out of order."""
        _log.warning("archive file %s is not used, its candles are asked of REST: %s", file.path, error)
        if isinstance(error, PayloadError):
            return
        self._failures += 1
        if self._failures >= _FAILURES_TO_LEAVE:
            self._leave_alone()

    def _leave_alone(self) -> None:
        self._failures, self._left_until_s = 0, max(self._left_until_s, time.monotonic() + _LEFT_FOR_S)
        _log.warning("%s: the archive is left alone for %.0f s", self._archive.exchange.value, _LEFT_FOR_S)

    async def _read(self, file: BulkFile, market: Market, retried: Counter[str]) -> Taken | None:
        """Fetch and read one file; a doubtful one once more. None where there is none."""
        try:
            return await self._read_once(file, market, retried)
        except _Doubtful as error:
            _log.warning("%s; it is fetched once more", error)
            retried[PayloadError.__name__] += 1
            return await self._read_once(file, market, retried)

    async def _read_once(self, file: BulkFile, market: Market, retried: Counter[str]) -> Taken | None:
        content, checksum = await self._fetch_both(file, self._fetch(retried))
        self._failures = 0
        if content is None:
            return None
        received_at = self._clock()
        return await asyncio.to_thread(self._understand, file, market, content, checksum, received_at)

    async def _fetch_both(self, file: BulkFile, fetch: Fetch) -> tuple[bytes | None, bytes | None]:
        """Return a file and its checksum; where one of them fails, the other is not waited for but given up."""
        try:
            async with asyncio.TaskGroup() as group:
                content = group.create_task(fetch(file.path))
                checksum = group.create_task(fetch(file.checksum_path)) if file.checksum_path else None
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from failures
        return content.result(), checksum.result() if checksum else None

    def _understand(
        self, file: BulkFile, market: Market, content: bytes, checksum: bytes | None, received_at: datetime
    ) -> Taken:
        """Verify, unpack and read a file: outside the event loop, mostly without the GIL."""
        sha256 = hashlib.sha256(content).hexdigest()
        if file.checksum_path:
            self._require_same(file, sha256, checksum)
        text = unpack(content, market.exchange, file.path)
        rows = self._archive.parse_file(text, market, file.path, received_at)
        record = ArchiveFile(
            path=file.path,
            window=file.window,
            sha256=sha256,
            is_verified=file.checksum_path is not None,
            size=len(content),
            rows=len(rows),
            fetched_at=received_at,
        )
        return Taken(self._cut(rows, file), file.wanted, record)

    def _require_same(self, file: BulkFile, sha256: str, checksum: bytes | None) -> None:
        exchange = self._archive.exchange.value
        if checksum is None:
            raise _Doubtful(exchange, f"archive file {file.path}: expected a CHECKSUM beside it, got none")
        try:
            said = self._archive.parse_checksum(checksum, file.path)
        except PayloadError as error:
            raise _Doubtful(exchange, str(error).removeprefix(f"{exchange}: ")) from error
        if said != sha256:
            raise _Doubtful(
                exchange, f"archive file {file.path}: expected SHA-256 {said} by its CHECKSUM, got {sha256}"
            )

    def _cut(self, rows: pl.DataFrame, file: BulkFile) -> pl.DataFrame:
        """Leave out what other files of the same fetch, or other windows, are about."""
        times = pl.col("open_time")
        strange = (
            len(rows) - rows.select(times.is_between(file.window.start, file.window.end, closed="left").sum()).item()
        )
        if strange:
            _log.warning("archive file %s: %d rows are not of %s and are left out", file.path, strange, file.window)
        if not strange and file.wanted == file.window:
            return rows
        return rows.filter(times.is_between(file.wanted.start, file.wanted.end, closed="left"))

    def _fetch(self, retried: Counter[str]) -> Fetch:
        async def fetch(path: str) -> bytes | None:
            return await self._downloads.get(f"{self._url}/{path}", retried)

        return fetch
