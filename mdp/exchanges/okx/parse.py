"""OKX's answers into our tables. Pure.

Not here: whether a row is a good candle (``domain.rules``).
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec
import polars as pl

from mdp.domain.market import Exchange
from mdp.exchanges.frames import Asked, Columns, Milliseconds, decode, from_milliseconds, to_frame

FIELDS = ("open_time", "open", "high", "low", "close", "volume", "volCcy", "quote_volume", "confirm")
"""Source: OKX API guide "Get candlesticks", 2026-07. On spot, ``volCcy`` is the quote volume too."""


class _Candles(msgspec.Struct):
    data: list[tuple[Milliseconds, float, float, float, float, float, float, float, Literal["0", "1"]]]


class _Moment(msgspec.Struct):
    ts: Milliseconds


class _Time(msgspec.Struct):
    data: tuple[_Moment]


# Everything in a row is text; `strict=False` reads numbers as the nearest double, exactly as `float()` does.
_CANDLES = msgspec.json.Decoder(_Candles, strict=False)
_TIME = msgspec.json.Decoder(_Time, strict=False)


def parse_candles(body: str | bytes, asked: Asked) -> pl.DataFrame:
    """Turn the body of a candles or history-candles answer into a table, in the order received; nothing is filtered.

    ``closed`` is the exchange's own flag, ``confirm``.

    Raises:
        PayloadError: not such an answer; names row and field.

    Shape:
        Result: ``frames.ANSWER_SCHEMA``. ``volume`` in base coin, ``quote_volume`` in quote coin, ``trades`` null.
    """
    rows = decode(body, _CANDLES, Exchange.OKX, FIELDS).data
    if not rows:
        return to_frame(Columns([], {}), asked)
    times, opens, highs, lows, closes, volumes, _, quote_volumes, confirms = zip(*rows, strict=True)
    numbers = {"open": opens, "high": highs, "low": lows, "close": closes}
    closed = [flag == "1" for flag in confirms]
    return to_frame(Columns(times, {**numbers, "volume": volumes, "quote_volume": quote_volumes}, closed=closed), asked)


def parse_time(body: str | bytes) -> datetime:
    """Read the answer of ``GET /api/v5/public/time``."""
    return from_milliseconds(decode(body, _TIME, Exchange.OKX, ()).data[0].ts)
