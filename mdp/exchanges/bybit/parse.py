"""Bybit's answers into our tables. Pure.

Not here: whether a row is a good candle (``domain.rules``).
"""

from __future__ import annotations

from datetime import datetime
from typing import Generic, TypeVar

import msgspec
import polars as pl

from mdp.domain.market import Exchange
from mdp.errors import PayloadError
from mdp.exchanges.frames import (
    Asked,
    Columns,
    Milliseconds,
    Row,
    as_text,
    as_tuple,
    decode,
    floats_of,
    from_milliseconds,
    integers_of,
    to_frame,
)
from mdp.exchanges.symbols import to_market_id

R = TypeVar("R")


class _Row(Row):
    open_time: Milliseconds
    open: float
    high: float
    low: float
    close: float
    volume: float
    quote_volume: float


FIELDS = _Row.__struct_fields__
"""Source: docs/v5/market/kline, 2026-07; Bybit calls the last one turnover."""

CATEGORY = "spot"


class _Result(msgspec.Struct, Generic[R]):
    rows: list[R] = msgspec.field(name="list")
    symbol: str | None = None
    category: str | None = None


class _Kline(msgspec.Struct, Generic[R]):
    result: _Result[R]


class _Time(msgspec.Struct):
    time: Milliseconds


# Everything in a row is text; `strict=False` reads numbers as the nearest double, exactly as `float()` does.
_KLINE = msgspec.json.Decoder(_Kline[_Row], strict=False)
_EXPLAINED = msgspec.json.Decoder(_Kline[as_tuple(_Row)], strict=False)  # type: ignore[misc]
_TIME = msgspec.json.Decoder(_Time)


def parse_kline(body: str | bytes, asked: Asked) -> pl.DataFrame:
    """Turn the body of a kline answer into a table, in the order received; nothing is filtered.

    There is no flag for a candle that is still open: ``closed`` is decided by the exchange's time.

    Raises:
        PayloadError: not such an answer, with row and field; or candles of another market.

    Shape:
        Result: ``frames.ANSWER_SCHEMA``. ``volume`` in base coin, ``quote_volume`` in quote coin, ``trades`` null.
    """
    result = decode(body, _KLINE, Exchange.BYBIT, FIELDS, _EXPLAINED).result
    _require_same_market(result, asked, body)
    numbers = {name: floats_of(result.rows, name) for name in FIELDS[1:]}
    return to_frame(Columns(integers_of(result.rows, "open_time"), numbers), asked)


def _require_same_market(result: _Result[_Row], asked: Asked, body: str | bytes) -> None:
    # Spot and linear share the spelling BTCUSDT: the category is what tells their candles apart.
    expected = {"symbol": to_market_id(asked.market), "category": CATEGORY}
    for name, wanted in expected.items():
        got = getattr(result, name)
        if got is not None and got != wanted:
            message = f"field result.{name}: expected {wanted!r}, got {got!r}"
            raise PayloadError(Exchange.BYBIT.value, message, body=as_text(body))


def parse_time(body: str | bytes) -> datetime:
    """Read the answer of ``GET /v5/market/time``."""
    return from_milliseconds(decode(body, _TIME, Exchange.BYBIT).time)
