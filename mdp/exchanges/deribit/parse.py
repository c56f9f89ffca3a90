"""Deribit's answers into our tables. Pure.

Not here: whether a row is a good candle (``domain.rules``), minutes from hours (``domain.dvol``).
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

import msgspec
import polars as pl

from mdp.domain.market import Exchange
from mdp.exchanges.frames import Asked, Columns, Milliseconds, decode, from_milliseconds, to_frame

FIELDS = ("open_time", "open", "high", "low", "close")
"""Source: docs.deribit.com public/get_volatility_index_data, 2026-07. Percent."""


class _Result(msgspec.Struct):
    data: list[tuple[Milliseconds, float, float, float, float]]
    continuation: Milliseconds | None = None


class _Answer(msgspec.Struct):
    result: _Result


class _Time(msgspec.Struct):
    result: Milliseconds


_ANSWER = msgspec.json.Decoder(_Answer)
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
    result = decode(body, _ANSWER, Exchange.DERIBIT, FIELDS).result
    if not result.data:
        return Part(to_frame(Columns([], {}), asked), result.continuation)
    times, *prices = zip(*result.data, strict=True)
    return Part(to_frame(Columns(times, dict(zip(FIELDS[1:], prices, strict=True))), asked), result.continuation)


def parse_time(body: str | bytes) -> datetime:
    """Read the answer of ``public/get_time``."""
    return from_milliseconds(decode(body, _TIME, Exchange.DERIBIT, ()).result)
