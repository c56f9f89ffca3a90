"""Binance's answers into our tables. Pure.

Not here: whether a row is a good candle (``domain.rules``).
"""

from __future__ import annotations

from datetime import datetime

import msgspec
import polars as pl

from mdp.domain.market import Exchange
from mdp.errors import PayloadError
from mdp.exchanges.frames import (
    Asked,
    Columns,
    Count,
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


class _Kline(Row):
    open_time: Milliseconds
    open: float
    high: float
    low: float
    close: float
    volume: float
    close_time: Milliseconds
    quote_volume: float
    trades: Count
    taker_buy_volume: str
    taker_buy_quote_volume: str
    unused: str


FIELDS = _Kline.__struct_fields__
"""Source: rest-api.md "Kline/Candlestick data", 2026-07."""

_NUMBERS = ("open", "high", "low", "close", "volume", "quote_volume")

# Prices and amounts come as text; `strict=False` reads them as the nearest double, exactly as `float()` does.
_KLINES = msgspec.json.Decoder(list[_Kline], strict=False)
_EXPLAINED = msgspec.json.Decoder(list[as_tuple(_Kline)], strict=False)  # type: ignore[misc]


class _Time(msgspec.Struct):
    serverTime: Milliseconds  # noqa: N815 Binance's word


_TIME = msgspec.json.Decoder(_Time)


def parse_klines(body: str | bytes, asked: Asked) -> pl.DataFrame:
    """Turn the body of a klines answer into a table, in the order received; nothing is filtered.

    There is no flag for a candle that is still open: ``closed`` is decided by the exchange's time. Binance's own
    ``closeTime`` is not used for it, because it is shortened in candles that an outage cut off.

    Raises:
        PayloadError: not such an answer; names row and field. Transient where it is not whole JSON, or an object.

    Shape:
        Result: ``frames.ANSWER_SCHEMA``. ``volume`` in base coin, ``quote_volume`` in quote coin.
    """
    try:
        rows = decode(body, _KLINES, Exchange.BINANCE, FIELDS, _EXPLAINED)
    except PayloadError as error:
        if error.is_transient or not as_text(body).lstrip().startswith("{"):
            raise
        # Something in between went wrong, and said so with status 200: the next answer may be an array again.
        what = "expected an array of candles, got an object"
        raise PayloadError(Exchange.BINANCE.value, what, body=as_text(body), is_transient=True) from error
    numbers = {name: floats_of(rows, name) for name in _NUMBERS}
    return to_frame(Columns(integers_of(rows, "open_time"), numbers, integers_of(rows, "trades")), asked)


def parse_time(body: str | bytes) -> datetime:
    """Read the answer of ``GET /api/v3/time``."""
    return from_milliseconds(decode(body, _TIME, Exchange.BINANCE).serverTime)
