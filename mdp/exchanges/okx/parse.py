"""OKX's answers into our tables. Pure.

Not here: whether a row is a good candle (``domain.rules``).
"""

from __future__ import annotations

from datetime import datetime
from typing import Generic, Literal, TypeVar

import msgspec
import numpy as np
import polars as pl

from mdp.domain.market import Exchange
from mdp.exchanges.frames import (
    Asked,
    Columns,
    Milliseconds,
    Row,
    as_tuple,
    decode,
    floats_of,
    from_milliseconds,
    integers_of,
    to_frame,
)

R = TypeVar("R")


class _Row(Row):
    open_time: Milliseconds
    open: float
    high: float
    low: float
    close: float
    volume: float
    volCcy: float  # noqa: N815 OKX's word
    quote_volume: float
    confirm: Literal["0", "1"]


FIELDS = _Row.__struct_fields__
"""Source: OKX API guide "Get candlesticks", 2026-07. On spot, ``volCcy`` is the quote volume too."""

_NUMBERS = ("open", "high", "low", "close", "volume", "quote_volume")


class _Candles(msgspec.Struct, Generic[R]):
    data: list[R]


class _Moment(msgspec.Struct):
    ts: Milliseconds


class _Time(msgspec.Struct):
    data: tuple[_Moment]


# Everything in a row is text; `strict=False` reads numbers as the nearest double, exactly as `float()` does.
_CANDLES = msgspec.json.Decoder(_Candles[_Row], strict=False)
_EXPLAINED = msgspec.json.Decoder(_Candles[as_tuple(_Row)], strict=False)  # type: ignore[misc]
_TIME = msgspec.json.Decoder(_Time, strict=False)


def parse_candles(body: str | bytes, asked: Asked) -> pl.DataFrame:
    """Turn the body of a candles or history-candles answer into a table, in the order received; nothing is filtered.

    ``closed`` is the exchange's own flag, ``confirm``.

    Raises:
        PayloadError: not such an answer; names row and field.

    Shape:
        Result: ``frames.ANSWER_SCHEMA``. ``volume`` in base coin, ``quote_volume`` in quote coin, ``trades`` null.
    """
    rows = decode(body, _CANDLES, Exchange.OKX, FIELDS, _EXPLAINED).data
    numbers = {name: floats_of(rows, name) for name in _NUMBERS}
    closed = np.fromiter((row.confirm == "1" for row in rows), dtype=np.bool_, count=len(rows))
    return to_frame(Columns(integers_of(rows, "open_time"), numbers, closed=closed), asked)


def parse_time(body: str | bytes) -> datetime:
    """Read the answer of ``GET /api/v5/public/time``."""
    return from_milliseconds(decode(body, _TIME, Exchange.OKX).data[0].ts)
