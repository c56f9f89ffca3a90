"""Deribit's answers into our tables. Pure.

Not here: whether a row is a good candle (``domain.rules``), minutes from candles (``domain.dvol``).
"""

from __future__ import annotations

from datetime import datetime
from typing import Generic, NamedTuple, TypeVar

import msgspec
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


FIELDS = _Row.__struct_fields__
"""Source: docs.deribit.com public/get_volatility_index_data, 2026-07. Percent."""


class _Result(msgspec.Struct, Generic[R]):
    data: list[R]
    continuation: Milliseconds | None = None


class _Answer(msgspec.Struct, Generic[R]):
    result: _Result[R]


class _Time(msgspec.Struct):
    result: Milliseconds


_ANSWER = msgspec.json.Decoder(_Answer[_Row])
_EXPLAINED = msgspec.json.Decoder(_Answer[as_tuple(_Row)])  # type: ignore[misc]
_TIME = msgspec.json.Decoder(_Time)


class Part(NamedTuple):
    """One answer.

    Attributes:
        rows: Its candles, in the order received, of ``frames.ANSWER_SCHEMA``.
        continuation: Where the older rest of the window ends, in milliseconds; None when there is none.
    """

    rows: pl.DataFrame
    continuation: int | None


def parse_volatility_index(body: str | bytes, asked: Asked) -> Part:
    """Turn the body of an answer into a table and the place where the next one goes on; nothing is filtered.

    There is no flag for a candle that is still open: ``closed`` is decided by the exchange's time.

    Raises:
        PayloadError: not such an answer; names row and field.

    Shape:
        ``rows``: ``frames.ANSWER_SCHEMA``; ``volume``, ``quote_volume`` and ``trades`` null.
    """
    result = decode(body, _ANSWER, Exchange.DERIBIT, FIELDS, _EXPLAINED).result
    numbers = {name: floats_of(result.data, name) for name in FIELDS[1:]}
    return Part(to_frame(Columns(integers_of(result.data, "open_time"), numbers), asked), result.continuation)


def parse_time(body: str | bytes) -> datetime:
    """Read the answer of ``public/get_time``."""
    return from_milliseconds(decode(body, _TIME, Exchange.DERIBIT).result)
