"""Binance's answers into our tables. Pure.

Not here: whether a row is a good candle (``domain.rules``).
"""

from __future__ import annotations

from datetime import datetime

import msgspec
import polars as pl

from mdp.domain.market import Exchange
from mdp.exchanges.frames import Asked, Columns, Count, Milliseconds, decode, from_milliseconds, to_frame

FIELDS = (
    "open_time",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "close_time",
    "quote_volume",
    "trades",
    "taker_buy_volume",
    "taker_buy_quote_volume",
    "unused",
)
"""Source: rest-api.md "Kline/Candlestick data", 2026-07."""

# Prices and amounts come as text; `strict=False` reads them as the nearest double, exactly as `float()` does.
_KLINES = msgspec.json.Decoder(
    list[tuple[Milliseconds, float, float, float, float, float, Milliseconds, float, Count, str, str, str]],
    strict=False,
)


class _Time(msgspec.Struct):
    serverTime: Milliseconds  # noqa: N815 Binance's word


_TIME = msgspec.json.Decoder(_Time)


def parse_klines(body: str | bytes, asked: Asked) -> pl.DataFrame:
    """Turn the body of a klines answer into a table, in the order received; nothing is filtered.

    There is no flag for a candle that is still open: ``closed`` is decided by the exchange's time. Binance's own
    ``closeTime`` is not used for it, because it is shortened in candles that an outage cut off.

    Raises:
        PayloadError: not such an answer; names row and field.

    Shape:
        Result: ``frames.ANSWER_SCHEMA``. ``volume`` in base coin, ``quote_volume`` in quote coin.
    """
    rows = decode(body, _KLINES, Exchange.BINANCE, FIELDS)
    if not rows:
        return to_frame(Columns([], {}, []), asked)
    times, opens, highs, lows, closes, volumes, _, quote_volumes, trades, *_ = zip(*rows, strict=True)
    numbers = {"open": opens, "high": highs, "low": lows, "close": closes}
    return to_frame(Columns(times, {**numbers, "volume": volumes, "quote_volume": quote_volumes}, trades), asked)


def parse_time(body: str | bytes) -> datetime:
    """Read the answer of ``GET /api/v3/time``."""
    return from_milliseconds(decode(body, _TIME, Exchange.BINANCE, ()).serverTime)
