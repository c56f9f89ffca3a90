"""Live candles as tables and back: the border between plain values, for the hot path, and frames, for storage.

Not here: what live candles are (``live``), which of them are stored (``pipeline``).
"""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

from mdp.domain.candles import CANDLE_SCHEMA, RAW_SCHEMA, require_schema
from mdp.domain.live import CandleState, LiveCandle
from mdp.domain.market import Market
from mdp.domain.timeframe import Timeframe
from mdp.errors import SchemaMismatch

_VALUES = ("open", "high", "low", "close", "volume", "quote_volume", "trades")


def from_frame(frame: pl.DataFrame, *, settle_s: float = 0.0) -> list[LiveCandle]:
    """Turn stored candles, or an exchange's answer, into live candles.

    A stored candle, or one that the exchange had finished when it answered, is confirmed if it came by REST or from an
    archive and not before it had settled; otherwise it is closed. An unfinished one is forming. A price that is null
    becomes NaN, which buffers refuse.

    Args:
        frame: Rows of one market and timeframe, any order.
        settle_s: How long after its close an answer for a candle counts.

    Returns:
        One candle for each row, in their order. ``minutes`` of a row that does not tell it are those that had begun
        when it came.

    Raises:
        SchemaMismatch: neither of the two schemas, or an open time, a time of receipt or a source is null.
        ValueError: more than one timeframe.

    Shape:
        ``CANDLE_SCHEMA`` or ``RAW_SCHEMA``.
    """
    is_raw = "fetched_at" in frame.columns
    came = "fetched_at" if is_raw else "ingested_at"
    _require(frame, RAW_SCHEMA if is_raw else CANDLE_SCHEMA, ("open_time", "source", came))
    if frame.is_empty():
        return []
    names = frame["timeframe"].unique().sort().to_list()
    if len(names) > 1:
        raise ValueError(f"timeframe: expected candles of one length, got {', '.join(map(str, names))}")
    length_us, settle_us = Timeframe(names[0]).microseconds, round(settle_s * 1e6)
    opened = frame["open_time"].to_physical()
    received = frame[came].to_physical()
    is_settled = (received >= opened + length_us + settle_us) & (frame["source"] != "stream")
    columns = {
        "open_us": opened,
        **{name: frame[name].fill_null(float("nan")) for name in _VALUES[:4]},
        **{name: frame[name] for name in _VALUES[4:]},
        "minutes": _minutes_begun(opened, received, frame["closed"], length_us) if is_raw else frame["minutes"],
        "source": frame["source"],
        "received_us": received,
    }
    rows = {name: column.to_list() for name, column in columns.items()}
    rows["state"] = _states(frame["closed"] if is_raw else None, is_settled)
    return [LiveCandle(*row) for row in zip(*(rows[name] for name in LiveCandle._fields), strict=True)]


def to_frame(market: Market, timeframe: Timeframe, candles: Iterable[LiveCandle]) -> pl.DataFrame:
    """Turn live candles into candles as they are stored; when the values came is when they were ingested.

    Args:
        market: Whose.
        timeframe: Their length.
        candles: Any, in any order; forming ones are turned as well, for the caller chooses.

    Shape:
        ``CANDLE_SCHEMA`` out, one row for each candle, in their order.
    """
    rows = list(candles)
    columns = dict(zip(LiveCandle._fields, zip(*rows, strict=True), strict=True)) if rows else {}
    given = {name: columns.get(name, ()) for name in (*_VALUES, "minutes", "source")}
    key = {"exchange": market.exchange.value, "symbol": market.symbol_key, "timeframe": timeframe.value}
    made = pl.DataFrame(
        {
            "open_time": pl.Series(columns.get("open_us", ()), dtype=pl.Int64),
            **{name: pl.Series(values, dtype=CANDLE_SCHEMA[name]) for name, values in given.items()},
            "ingested_at": pl.Series(columns.get("received_us", ()), dtype=pl.Int64),
        }
    )
    return made.with_columns(
        *(pl.lit(value).alias(name) for name, value in key.items()),
        *(pl.col(name).cast(CANDLE_SCHEMA[name]) for name in ("open_time", "ingested_at")),
    ).select(CANDLE_SCHEMA.names())


def _minutes_begun(opened: pl.Series, received: pl.Series, closed: pl.Series, length_us: int) -> pl.Series:
    """All minutes of a finished candle; of another one those that had begun when it came."""
    minutes = length_us // Timeframe.M1.microseconds
    begun = ((received - opened) // Timeframe.M1.microseconds + 1).clip(1, minutes)
    return begun.set(closed.fill_null(value=False), minutes)


def _states(closed: pl.Series | None, is_settled: pl.Series) -> list[CandleState]:
    sure = [CandleState.CONFIRMED if settled else CandleState.CLOSED for settled in is_settled.to_list()]
    if closed is None:
        return sure
    finished = closed.to_list()
    return [state if done else CandleState.FORMING for state, done in zip(sure, finished, strict=True)]


def _require(frame: pl.DataFrame, schema: pl.Schema, known: tuple[str, ...]) -> None:
    """Check the schema, and that columns are known without which a row is no candle."""
    require_schema(frame, schema, "live candles")
    if missing := [f"{name}: null in {nulls} rows" for name in known if (nulls := frame[name].null_count())]:
        raise SchemaMismatch("live candles", missing)
