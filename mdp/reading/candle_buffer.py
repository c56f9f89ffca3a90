"""Stored candles as a buffer would hold them; beside it :class:`CandleBuffer`, which is of the ``domain``.

Not here: where buffers are read from (``buffers``, ``backtest_buffers``).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from itertools import repeat

import polars as pl

from mdp.domain.candle_buffer import BUFFER_SCHEMA, CandleBuffer, as_frame
from mdp.domain.live import CandleState, LiveCandle
from mdp.domain.timeframe import Timeframe

__all__ = ["BUFFER_SCHEMA", "CandleBuffer", "as_frame", "stored_candles"]

_VALUES = ("open", "high", "low", "close", "volume", "quote_volume", "trades", "minutes")
_make = partial(tuple.__new__, LiveCandle)


def stored_candles(rows: pl.DataFrame) -> list[LiveCandle]:
    """Return stored candles as a buffer would hold them.

    What the stream said was finished is ``closed``, everything else ``confirmed``: it came from REST or an archive
    after its time, or is made of such minutes. What came before times of receipt were kept counts as received when it
    closed.

    Args:
        rows: Of ``CANDLE_SCHEMA``, of one timeframe.
    """
    if rows.is_empty():
        return []
    length = Timeframe(rows["timeframe"][0]).microseconds
    opened = rows["open_time"].to_physical()
    received = rows["ingested_at"].to_physical().fill_null(opened + length)
    streamed = rows["source"] == "stream"
    states: Iterable[CandleState] = repeat(CandleState.CONFIRMED, len(rows))
    if streamed.any():
        states = (CandleState.CLOSED if is_so else CandleState.CONFIRMED for is_so in streamed.to_list())
    values = [rows[name].to_list() for name in _VALUES]
    columns = (opened.to_list(), *values, states, rows["source"].to_list(), received.to_list())
    return list(map(_make, zip(*columns, strict=True)))
