"""What a backtest may see: the one door through which its candles come, and nothing newer than its range.

Not here: in which order they are seen (``backtest_replay``), the last ones at an instant (``backtest_buffers``).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from mdp.domain.candles import CANDLE_SCHEMA
from mdp.domain.interval import Interval
from mdp.domain.market import Market
from mdp.domain.timeframe import Timeframe
from mdp.pipeline.manifests import Manifest
from mdp.ports import OHLCV
from mdp.reading.view import View

ALL_TIME = Interval(datetime(1970, 1, 2, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC))
"""What tables can be read of: far from where adding the length of a candle leaves the calendar."""


@dataclass(frozen=True, slots=True)
class Past:
    """Stored candles as they may be seen from inside a range.

    Attributes:
        view: The state of the store that is read.
        window: The range. Older candles may be seen too; newer ones never.
        held: What can be read at all: all time, or the window of the snapshot.
        manifest: What the snapshot says of itself; None where tables are read.
    """

    view: View
    window: Interval
    held: Interval = ALL_TIME
    manifest: Manifest | None = None

    def timeframes_of(self, market: Market) -> tuple[Timeframe, ...]:
        """Return the timeframes at which a market can be read, shortest first; none where a snapshot lacks it."""
        if self.manifest is None or market.is_volatility_index:
            return tuple(Timeframe)
        parts = [part for part in self.manifest.parts if part.market == str(market) and part.table == OHLCV.name]
        return tuple(length for length in Timeframe if any(part.timeframe is length for part in parts))

    def closed(self, market: Market, timeframe: Timeframe, within: Interval) -> pl.DataFrame:
        """Return the candles that open inside ``within`` and have closed by the end of the range.

        Args:
            market: Whose. A candle of an index has four equal prices at 1m: its value, as it was known when the minute
                opened. A longer one has the first, highest, lowest and last of them.
            timeframe: Of the candles.
            within: Any bounds; what of it lies outside ``held`` holds nothing.

        Shape:
            ``CANDLE_SCHEMA``, sorted by ``open_time``, unique.
        """
        last = min(within.end, self.window.end - timeframe.duration + datetime.resolution, self.held.end)
        first = max(within.start, self.held.start)
        if first >= last:
            return CANDLE_SCHEMA.to_frame()
        wanted = Interval(first, last)
        if market.is_volatility_index:
            return self._of_index(market, timeframe, wanted)
        return self.view.rows(market, timeframe, wanted)

    def open_times(self, market: Market, timeframe: Timeframe, within: Interval) -> pl.DataFrame:
        """Return when each closed candle opened, and how many minutes it holds: ``open_time``, ``minutes``."""
        if market.is_volatility_index or self.view.as_of is not None or self.view.snapshot is not None:
            return self.closed(market, timeframe, within).select("open_time", "minutes")
        last = min(within.end, self.window.end - timeframe.duration + datetime.resolution)
        if within.start >= last:
            return CANDLE_SCHEMA.to_frame().select("open_time", "minutes")
        return self.view.rows(market, timeframe, Interval(within.start, last), columns=["open_time", "minutes"])

    def _of_index(self, market: Market, timeframe: Timeframe, wanted: Interval) -> pl.DataFrame:
        """Only values inside the range are read, also for the last bucket."""
        first = timeframe.floor(wanted.start)
        if first < wanted.start:
            first += timeframe.duration
        last = min(timeframe.floor(wanted.end - datetime.resolution) + timeframe.duration, self.window.end)
        if first >= last:
            return CANDLE_SCHEMA.to_frame()
        values = self.view.rows(market, Timeframe.M1, Interval(first, min(last, self.held.end)))
        return _index_candles(values, timeframe)


def _index_candles(values: pl.DataFrame, timeframe: Timeframe) -> pl.DataFrame:
    """Candles of an index, of its values by the minute. It has no amounts, so none of its minutes is idle."""
    is_minute = timeframe is Timeframe.M1
    bucket = pl.col("open_time") if is_minute else pl.col("open_time").dt.truncate(timeframe.value)
    made = (
        values.filter(pl.col("dvol").is_not_null())
        .group_by(bucket.alias("open_time"), maintain_order=True)
        .agg(
            pl.col("exchange", "symbol").first(),
            pl.lit(timeframe.value).alias("timeframe"),
            pl.col("dvol").first().alias("open"),
            pl.col("dvol").max().alias("high"),
            pl.col("dvol").min().alias("low"),
            pl.col("dvol").last().alias("close"),
            *(pl.lit(None, CANDLE_SCHEMA[name]).alias(name) for name in ("volume", "quote_volume", "trades")),
            pl.len().cast(pl.Int32).alias("minutes"),
            (pl.col("source").first() if is_minute else pl.lit("resampled")).alias("source"),
            pl.col("ingested_at").max(),
        )
    )
    return made.select(CANDLE_SCHEMA.names())
