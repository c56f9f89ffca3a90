"""A buffer as a strategy gets it, in live trading, in a backtest and over the network alike: candles, and a frame.

Not here: where it is read from (``reading``, ``client``), how minutes become longer candles (``buffers``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import polars as pl

from mdp.domain.candles import CANDLE_SCHEMA
from mdp.domain.live import Buffer, CandleState, LiveCandle
from mdp.domain.live_frames import to_frame
from mdp.domain.market import Market
from mdp.domain.timeframe import Timeframe

BUFFER_SCHEMA = pl.Schema({**CANDLE_SCHEMA, "state": pl.String()})
"""The candles of a buffer: those of ``CANDLE_SCHEMA`` and how sure each is. ``ingested_at`` is when its values came."""


class CandleBuffer(Buffer):
    """A :class:`mdp.domain.live.Buffer` that can also be had as a frame.

    Live, its last candle is usually forming; in a backtest none ever is. Ask for :attr:`Buffer.closed` where only
    finished candles count, and the same strategy sees the same in both.
    """

    __slots__ = ()

    @classmethod
    def of(cls, buffer: Buffer) -> Self:
        """Return the same buffer, with a frame."""
        return cls(
            buffer.market,
            buffer.timeframe,
            buffer.size,
            buffer.candles,
            buffer.seq,
            buffer.written_us,
            buffer.is_stale,
        )

    @property
    def newest(self) -> LiveCandle | None:
        """The newest candle that has closed; None without any."""
        for candle in reversed(self.candles):
            if candle.state is not CandleState.FORMING:
                return candle
        return None

    def frame(self) -> pl.DataFrame:
        """Return the candles as a frame.

        Shape:
            ``BUFFER_SCHEMA``, sorted by ``open_time``, unique; a slot that holds no candle is absent.
        """
        return as_frame(self.market, self.timeframe, self.candles)


def as_frame(market: Market, timeframe: Timeframe, candles: Sequence[LiveCandle]) -> pl.DataFrame:
    """Return live candles as a frame of ``BUFFER_SCHEMA``, in the order in which they come."""
    states = pl.Series("state", [candle.state.value for candle in candles], dtype=pl.String)
    return to_frame(market, timeframe, candles).with_columns(states)
