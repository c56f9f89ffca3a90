"""How buffers, candles and messages of a stream are spelled on the wire, read strictly.

Not here: what a message means for what is known already (``tracking``).
"""

from __future__ import annotations

from datetime import datetime
from itertools import pairwise
from typing import Any

import msgspec

from mdp.client.errors import BadAnswer
from mdp.domain.live import Buffer, CandleState, LiveCandle
from mdp.domain.market import Exchange, Market
from mdp.domain.timeframe import EPOCH, Timeframe

COLUMNS = (
    "open_time", "open", "high", "low", "close", "volume", "quote_volume", "trades", "minutes", "state", "source",
    "received_at",
)  # fmt: skip
"""What a row of a buffer holds. A newer service may send more; those are left out."""

Row = tuple[
    datetime, float, float, float, float, float | None, float | None, int | None, int, CandleState, str, datetime
]  # fmt: skip


class _Whose(msgspec.Struct):
    exchange: Exchange
    symbol: str
    timeframe: Timeframe
    seq: int

    @property
    def market(self) -> Market:
        base, _, quote = self.symbol.partition("-")
        return Market(self.exchange, base, quote)


class BufferBody(_Whose):
    """A whole buffer: the answer of the buffer route, and the snapshot of a stream."""

    size: int
    written_at: datetime
    is_stale: bool
    columns: list[str]
    rows: msgspec.Raw

    def buffer(self) -> Buffer:
        """Return it as a value.

        Raises:
            msgspec.ValidationError: rows that are none.
        """
        candles = tuple(_candle(row) for row in self._rows())
        if any(one.open_us >= other.open_us for one, other in pairwise(candles)):
            raise msgspec.ValidationError("expected rows ascending by open_time, each once")
        return Buffer(
            self.market, self.timeframe, self.size, candles, self.seq, _us(self.written_at), self.is_stale
        )  # fmt: skip

    def _rows(self) -> list[Row]:
        if tuple(self.columns) == COLUMNS:
            return _decode_rows(self.rows)
        missing = [name for name in COLUMNS if name not in self.columns]
        if missing:
            raise msgspec.ValidationError(f"expected columns {', '.join(missing)}")
        places = [self.columns.index(name) for name in COLUMNS]
        given = msgspec.json.decode(self.rows, type=list[list[Any]])
        if any(len(row) != len(self.columns) for row in given):
            raise msgspec.ValidationError("expected as many values in each row as there are columns")
        return msgspec.convert([[row[place] for place in places] for row in given], list[Row])


class CandleTold(_Whose):
    """One candle of a buffer, as it changed."""

    open_time: datetime
    open: float
    high: float
    low: float
    close: float
    volume: float | None
    quote_volume: float | None
    trades: int | None
    minutes: int
    state: CandleState
    source: str
    received_at: datetime
    topic: str = ""
    skipped: int = 0

    def candle(self) -> LiveCandle:
        """Return it as a value."""
        return LiveCandle(
            _us(self.open_time), self.open, self.high, self.low, self.close, self.volume, self.quote_volume,
            self.trades, self.minutes, self.state, self.source, _us(self.received_at),
        )  # fmt: skip


class Envelope(msgspec.Struct):
    """What every message of a stream says of itself.

    Attributes:
        type: ``subscribed``, ``snapshot``, ``candle``, ``stale``, ``fresh``, ``heartbeat``, ``error``, ``closing``, or
            one that a newer service knows.
        topic: What it is about, where it is about one.
        detail: Of an error, with what there is.
        reason: Why the service closes.
        heartbeat_s: After how many silent seconds it speaks, where it says so.
    """

    type: str
    topic: str | None = None
    detail: str = ""
    reason: str = ""
    heartbeat_s: float | None = None


_decode_rows = msgspec.json.Decoder(list[Row]).decode
read_envelope = msgspec.json.Decoder(Envelope).decode
read_candle = msgspec.json.Decoder(CandleTold).decode
_read_buffer = msgspec.json.Decoder(BufferBody).decode


def read_buffer(asked: str, body: bytes | str) -> Buffer:
    """Return the buffer of an answer or a message.

    Raises:
        BadAnswer: it is none.
    """
    try:
        return _read_buffer(body).buffer()
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadAnswer(asked, f"expected a buffer: {error}") from error


def _candle(row: Row) -> LiveCandle:
    return LiveCandle(_us(row[0]), *row[1:11], _us(row[11]))


def _us(moment: datetime) -> int:
    return (moment - EPOCH) // EPOCH.resolution
