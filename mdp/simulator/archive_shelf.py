"""Bulk files: made once, kept in memory up to a number of bytes, handed out with the headers of an object store.

A file is the same bytes each time it is made from the same candles: the member of a zip bears no time of its own.
Not here: which files an exchange publishes, when, and what is printed into them (``binance_archive``, ``okx_archive``).
"""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from xml.sax.saxutils import escape

from starlette.responses import Response

from mdp.domain.timeframe import Timeframe
from mdp.simulator.candles import DAY_MS, Candles, join
from mdp.simulator.markets import SimulatedMarket
from mdp.simulator.simulation import Simulation

_KEPT_BYTES = 128 * 1024 * 1024
"""About five market-years of monthly files."""

_LEVEL = 6
"""Of deflate; real files inflate about as slowly."""

_EARLIEST = (1980, 1, 1, 0, 0, 0)
"""The first time a zip can name."""


_DAY = re.compile(r"(\d{4})-(\d\d)(?:-(\d\d))?")


@dataclass(frozen=True, slots=True)
class BulkFile:
    """One file.

    Attributes:
        content: Its bytes.
        sha256: Of the content, hexadecimal.
    """

    content: bytes
    sha256: str


class Shelf:
    """The files that were made last.

    Args:
        most_bytes: How much of them is kept.
    """

    def __init__(self, most_bytes: int = _KEPT_BYTES) -> None:
        self._files: OrderedDict[tuple[str, int], BulkFile] = OrderedDict()
        self._most, self._size = most_bytes, 0

    def get(self, path: str, version: int, make: Callable[[], bytes]) -> BulkFile:
        """Return a file, made now if it is not kept.

        Args:
            path: Its name.
            version: Changes whenever something about the content may have changed.
            make: Gives the content.
        """
        key = (path, version)
        kept = self._files.get(key)
        if kept is not None:
            self._files.move_to_end(key)
            return kept
        content = make()
        made = self._files[key] = BulkFile(content, hashlib.sha256(content).hexdigest())
        self._size += len(content)
        while self._size > self._most and len(self._files) > 1:
            self._size -= len(self._files.popitem(last=False)[1].content)
        return made


def candles_of_file(
    simulation: Simulation, market: SimulatedMarket, timeframe: Timeframe, window_ms: tuple[int, int]
) -> Candles:
    """Return the candles that open in ``[start, end)`` as a file of them shows them now, scripted changes included."""
    start_ms, end_ms = window_ms
    days = simulation.history.days(market, timeframe, start_ms // DAY_MS, (end_ms - 1) // DAY_MS)
    candles = join([day.candles for day in days]).opened_between(start_ms, end_ms - 1)
    now_ms = simulation.clock()
    return simulation.alterations.apply(candles, market, timeframe, channel="archive", now_ms=now_ms)


def pack(name: str, text: bytes) -> bytes:
    """Return a zip with one member."""
    buffer = io.BytesIO()
    member = zipfile.ZipInfo(name, date_time=_EARLIEST)
    member.compress_type, member.create_system, member.external_attr = zipfile.ZIP_DEFLATED, 3, 0o644 << 16
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(member, text, compresslevel=_LEVEL)
    return buffer.getvalue()


def hand_out(file: BulkFile) -> Response:
    """Answer with a file; its tag changes exactly when the content does."""
    return Response(file.content, media_type="application/zip", headers={"ETag": f'"{file.sha256[:32]}"'})


def no_such_key(key: str) -> Response:
    """Answer as S3 does for a file that is not there."""
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>NoSuchKey</Code>'
        f"<Message>The specified key does not exist.</Message><Key>{escape(key)}</Key></Error>"
    )
    return Response(body, status_code=404, media_type="application/xml")


def next_month(first: date) -> date:
    """Return the first day of the month after that of ``first``, which is a first day too."""
    return date(first.year + first.month // 12, first.month % 12 + 1, 1)


def day_ms(day: date) -> int:
    """Return the UTC midnight at which a day begins, in milliseconds since the epoch."""
    return (day.toordinal() - date(1970, 1, 1).toordinal()) * DAY_MS


def parse_day(text: str) -> date | None:
    """Read a day or a month, its first day then, as file names spell them: ``2025-01-15``, ``2025-01``."""
    match = _DAY.fullmatch(text)
    try:
        return date(int(match[1]), int(match[2]), int(match[3] or 1)) if match else None
    except ValueError:
        return None
