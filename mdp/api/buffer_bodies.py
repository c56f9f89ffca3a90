"""Buffers as bodies of answers: each version of a buffer is spelled once in each form, however often it is asked for.

Not here: rows of history (``row_bodies``), who asks (``buffers``, ``quick_answers``).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

import msgspec
import polars as pl

from mdp.api.compression import LEAST_BYTES, Encoding, compress
from mdp.api.formats import MEDIA_TYPES, Format
from mdp.api.mirror import Place
from mdp.api.row_bodies import SPELLED
from mdp.api.safe_headers import SAFE_HEADERS
from mdp.domain.candles import TIME
from mdp.domain.interval import format_time
from mdp.domain.live import Buffer, LiveCandle
from mdp.domain.live_frames import to_frame
from mdp.domain.timeframe import EPOCH

COLUMNS = (
    "open_time", "open", "high", "low", "close", "volume", "quote_volume", "trades", "minutes", "state", "source",
    "received_at",
)  # fmt: skip
"""Of each candle, in this order."""

_encode = msgspec.json.Encoder().encode


class BufferAnswer(NamedTuple):
    """A buffer, ready to be sent.

    Attributes:
        body: Packed as asked.
        etag: With its quotes.
        headers: All of them, as ASGI has them.
        head: The same as they stand on the wire.
    """

    body: bytes
    etag: bytes
    headers: list[tuple[bytes, bytes]]
    head: bytes

    @property
    def unchanged_headers(self) -> list[tuple[bytes, bytes]]:
        """Those of 304, which has no content."""
        return [one for one in self.headers if not one[0].startswith(b"content-")]


FORMS = tuple((format_, encoding) for format_ in Format for encoding in Encoding)
"""All forms in which a buffer is given; :meth:`SpelledBuffer.answer` takes the number of one."""


class SpelledBuffer:
    """One buffer in all forms that were asked for; each version is spelled once in each.

    Args:
        place: Where the buffer is found.
    """

    __slots__ = ("_answers", "_buffer", "place")

    def __init__(self, place: Place) -> None:
        self.place = place
        self._buffer: Buffer | None = None
        self._answers: list[BufferAnswer | None] = []

    def answer(self, form: int) -> BufferAnswer | None:
        """Return the newest version in a form of :data:`FORMS`; None while there is no buffer."""
        buffer = self.place.buffer
        if buffer is not self._buffer:
            self._buffer, self._answers = buffer, [None] * len(FORMS)
        if buffer is None:
            return None
        answer = self._answers[form]
        if answer is None:
            answer = self._answers[form] = spell_answer(buffer, *FORMS[form])
        return answer


def spell_answer(buffer: Buffer, format_: Format, encoding: Encoding) -> BufferAnswer:
    """Return a buffer ready to be sent; Parquet is never packed again, and what is small is not packed at all."""
    body = spell(buffer, format_)
    packed = Encoding.IDENTITY if format_ is Format.PARQUET or len(body) < LEAST_BYTES else encoding
    body = compress(body, packed)
    stale = "-stale" if buffer.is_stale else ""
    etag = f'"{buffer.seq}{stale}-{format_}-{packed}"'.encode()
    headers = [
        (b"content-type", MEDIA_TYPES[format_].encode()),
        (b"content-length", str(len(body)).encode()),
        (b"etag", etag),
        (b"cache-control", b"private, no-cache"),
        (b"vary", b"Accept, Accept-Encoding"),
        (b"x-mdp-seq", str(buffer.seq).encode()),
        (b"x-mdp-stale", b"true" if buffer.is_stale else b"false"),
    ]
    if packed is not Encoding.IDENTITY:
        headers.append((b"content-encoding", packed.encode()))
    return BufferAnswer(body, etag, headers, as_wire(headers))


def as_wire(headers: list[tuple[bytes, bytes]]) -> bytes:
    """Return headers as HTTP/1.1 has them, those that every answer bears too, with the empty line behind them."""
    return as_lines([*headers, *SAFE_HEADERS]) + b"\r\n"


def as_lines(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return headers as HTTP/1.1 has them."""
    return b"".join(b"%b: %b\r\n" % one for one in headers)


def spell(buffer: Buffer, format_: Format) -> bytes:
    """Return a buffer in a form; only JSON says more than its rows."""
    if format_ is Format.JSON:
        return _encode(as_document(buffer)) + b"\n"
    return SPELLED[format_](as_rows(buffer), {})


def as_document(buffer: Buffer) -> dict[str, object]:
    """Return a buffer as JSON has it: what is the same in all rows, then ``columns`` and ``rows``."""
    return {
        "exchange": buffer.market.exchange.value,
        "symbol": buffer.market.symbol_key,
        "timeframe": buffer.timeframe.value,
        "size": buffer.size,
        "seq": buffer.seq,
        "written_at": time_text(buffer.written_us),
        "is_stale": buffer.is_stale,
        "columns": COLUMNS,
        "rows": [as_row(candle) for candle in buffer.candles],
    }


def as_row(candle: LiveCandle) -> tuple[object, ...]:
    """Return a candle's values in the order of :data:`COLUMNS`."""
    return (time_text(candle.open_us), *candle[1:9], candle.state.value, candle.source, time_text(candle.received_us))


def as_rows(buffer: Buffer) -> pl.DataFrame:
    """Return a buffer's candles as a frame of :data:`COLUMNS`."""
    rows = to_frame(buffer.market, buffer.timeframe, buffer.candles)
    states = pl.Series("state", [candle.state.value for candle in buffer.candles], dtype=pl.String)
    received = pl.Series("received_at", [candle.received_us for candle in buffer.candles], dtype=pl.Int64).cast(TIME)
    return rows.with_columns(states, received).select(COLUMNS)


@lru_cache(maxsize=16_384)
def time_text(moment_us: int) -> str:
    """Return a time as every answer spells it: without a fraction unless there is one."""
    return format_time(EPOCH + moment_us * EPOCH.resolution)
