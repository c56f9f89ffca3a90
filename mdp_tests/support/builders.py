"""Builders of rows and frames that say what matters to a test and hide what does not.

Not here: recorded data (``golden``), random data (``domain.strategies``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from mdp.domain.candles import CANDLE_SCHEMA, RAW_SCHEMA
from mdp.domain.interval import Interval
from mdp.domain.market import Market
from mdp.domain.timeframe import Timeframe

Row = dict[str, Any]

MARKET = Market.parse("binance:BTC-USDT")
DVOL = Market.parse("deribit:BTC-DVOL")
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
"""When rows were collected, unless a test says otherwise."""


def at(text: str) -> datetime:
    """Return a UTC time: ``at("2024-01-01T00:01")``, ``at("2024-01-01")``."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def window(start: str, end: str) -> Interval:
    """Return ``[start, end)``, both written as for :func:`at`."""
    return Interval(at(start), at(end))


def candle(open_time: str | datetime, **values: Any) -> Row:
    """Return a row of ``CANDLE_SCHEMA``; a good one, flat at 100, unless ``values`` say otherwise.

    ``high`` and ``low`` follow ``open`` and ``close`` when they are not given.
    """
    row = _prices(values) | {
        "minutes": Timeframe(values.get("timeframe", "1m")).minutes,
        "source": "rest",
        "ingested_at": NOW,
    }
    return _row(CANDLE_SCHEMA, open_time, MARKET, row, values)


def raw(open_time: str | datetime, **values: Any) -> Row:
    """Return a row of ``RAW_SCHEMA``; a good one, flat at 100, unless ``values`` say otherwise."""
    moment = _moment(open_time)
    row = _prices(values) | {
        "window_start": moment and moment.replace(hour=0, minute=0, second=0, microsecond=0),
        "closed": True,
        "source": "rest",
        "fetched_at": NOW,
    }
    return _row(RAW_SCHEMA, moment, MARKET, row, values)


def hour(open_time: str | datetime, close: float = 50.0, **values: Any) -> Row:
    """Return a raw hour of the volatility index, which has no amounts."""
    absent = {"volume": None, "quote_volume": None, "trades": None}
    who = {"exchange": DVOL.exchange.value, "symbol": DVOL.symbol_key, "timeframe": "1h"}
    return raw(open_time, **{**absent, **who, "open": close + 1, "close": close, **values})


def candles(*rows: Row) -> pl.DataFrame:
    """Return a frame of ``CANDLE_SCHEMA``."""
    return frame(rows, CANDLE_SCHEMA)


def raws(*rows: Row) -> pl.DataFrame:
    """Return a frame of ``RAW_SCHEMA``."""
    return frame(rows, RAW_SCHEMA)


def frame(rows: Iterable[Mapping[str, Any]], schema: pl.Schema) -> pl.DataFrame:
    """Return a frame of ``schema``; every row has all its columns."""
    return pl.DataFrame(list(rows), schema=schema, orient="row")


def times(*moments: str | datetime) -> pl.Series:
    """Return open times as the column a frame would have."""
    return pl.Series("open_time", [_moment(moment) for moment in moments], dtype=CANDLE_SCHEMA["open_time"])


def every_minute(start: str, end: str, **values: Any) -> list[Row]:
    """Return one candle for each minute of ``[start, end)``, all alike."""
    asked = window(start, end)
    return [candle(asked.start + timedelta(minutes=offset), **values) for offset in range(asked.slots(Timeframe.M1))]


def _prices(values: Row) -> Row:
    open_ = values.get("open", values.get("close", 100.0))
    close = values.get("close", open_)
    known = [price for price in (open_, close) if price is not None]
    highest, lowest = (max(known), min(known)) if known else (None, None)
    amounts = {"volume": 2.0, "quote_volume": 200.0, "trades": 7}
    return {"open": open_, "high": highest, "low": lowest, "close": close, **amounts}


def _row(schema: pl.Schema, open_time: str | datetime | None, market: Market, row: Row, values: Row) -> Row:
    key = {
        "exchange": market.exchange.value,
        "symbol": market.symbol_key,
        "timeframe": "1m",
        "open_time": _moment(open_time),
    }
    unknown = values.keys() - schema.keys()
    if unknown:
        raise TypeError(f"no such columns: {', '.join(sorted(unknown))}")
    return {name: ({**key, **row, **values})[name] for name in schema}


def _moment(moment: str | datetime | None) -> datetime | None:
    return at(moment) if isinstance(moment, str) else moment
