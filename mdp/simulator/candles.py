"""Candles as columns of whole numbers, so that what an exchange prints as a decimal is exact here.

Prices and amounts count units of ``1e-8``, times are milliseconds since the epoch. Not here: where candles come from
(``recorded_days``, ``generator``), how an exchange prints them (``binance``, ``bybit``, ``okx``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from mdp.domain.candles import CANDLE_SCHEMA
from mdp.domain.market import Market
from mdp.domain.resample import resample
from mdp.domain.timeframe import Timeframe

Ints = npt.NDArray[np.int64]

UNITS = 100_000_000
"""Units in 1: prices and amounts are whole numbers of ``1e-8``."""

MINUTE_MS = 60_000
DAY_MS = 86_400_000

COLUMNS: tuple[str, ...] = (
    "open_ms",
    "close_ms",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "quote_volume",
    "trades",
    "taker_volume",
    "taker_quote_volume",
)
_ADDED_UP = slice(COLUMNS.index("volume"), None)


@dataclass(frozen=True, slots=True)
class Candles:
    """Candles of one market and timeframe, ascending by open time, unique.

    Attributes:
        values: ``(11, n)``, one row for each of ``COLUMNS``. ``close_ms`` is inclusive, as Binance prints it.
    """

    values: Ints

    def __len__(self) -> int:
        return int(self.values.shape[1])

    def column(self, name: str) -> Ints:
        """Return one of ``COLUMNS``."""
        return np.asarray(self.values[COLUMNS.index(name)])

    @property
    def open_ms(self) -> Ints:
        """Open times."""
        return np.asarray(self.values[0])

    def slice(self, start: int, stop: int) -> Candles:
        """Return the candles at positions ``start`` to ``stop``, exclusive."""
        return Candles(self.values[:, start:stop])

    def opened_between(self, first_ms: int, last_ms: int) -> Candles:
        """Return the candles that open at or after ``first_ms`` and at or before ``last_ms``."""
        start, stop = np.searchsorted(self.open_ms, (first_ms, last_ms + 1))
        return self.slice(int(start), int(stop))

    def to_frame(self) -> pl.DataFrame:
        """Return the columns as they are, ``Int64``."""
        return pl.DataFrame(dict(zip(COLUMNS, self.values, strict=True)))


NO_CANDLES = Candles(np.empty((len(COLUMNS), 0), dtype=np.int64))


def join(parts: Sequence[Candles]) -> Candles:
    """Put candles one after another; the parts are ascending and do not overlap."""
    if len(parts) == 1:
        return parts[0]
    return Candles(np.concatenate([part.values for part in parts], axis=1)) if parts else NO_CANDLES


def to_domain(candles: Candles, market: Market, timeframe: Timeframe) -> pl.DataFrame:
    """Return the candles in the project's own table.

    Shape:
        ``CANDLE_SCHEMA``; ``source`` is ``rest``, ``ingested_at`` the epoch.
    """
    count = len(candles)
    times = pl.Series(candles.open_ms * 1_000).cast(CANDLE_SCHEMA["open_time"])
    # the nearest float of a decimal with eight places: division of two exact numbers rounds once
    decimals = {
        name: candles.column(name) / UNITS for name in ("open", "high", "low", "close", "volume", "quote_volume")
    }
    return pl.DataFrame(
        {
            "exchange": _constant(market.exchange.value, count),
            "symbol": _constant(market.symbol_key, count),
            "timeframe": _constant(timeframe.value, count),
            "open_time": times,
            **decimals,
            "trades": candles.column("trades"),
            "minutes": np.full(count, timeframe.minutes, dtype=np.int32),
            "source": _constant("rest", count),
            "ingested_at": _constant(0, count).cast(CANDLE_SCHEMA["ingested_at"]),
        },
        schema=CANDLE_SCHEMA,
    )


def _constant(value: str | int, count: int) -> pl.Series:
    return pl.Series([value]).new_from_index(0, count)


def to_timeframe(minutes: Candles, market: Market, timeframe: Timeframe) -> Candles:
    """Make the candles of a longer timeframe, by the project's own rule.

    Open, high, low and close come from ``domain.resample``; amounts are added up here, because whole numbers add up
    exactly and the domain knows no taker volumes.

    Args:
        minutes: 1m candles, complete days or parts of one.
        market: Whose candles they are.
        timeframe: Longer than 1m.
    """
    if not len(minutes):
        return NO_CANDLES
    length = timeframe.milliseconds
    buckets = minutes.open_ms // length
    starts = np.flatnonzero(np.r_[True, buckets[1:] != buckets[:-1]])
    last = np.r_[starts[1:], len(minutes)] - 1
    made = resample(to_domain(minutes, market, Timeframe.M1), timeframe)
    values = np.empty((len(COLUMNS), len(starts)), dtype=np.int64)
    values[0] = buckets[starts] * length
    # a candle whose last minute was cut short by an outage ends where that minute ended [Binance's own candles]
    cut_short = minutes.column("close_ms")[last] < minutes.open_ms[last] + MINUTE_MS - 1
    values[1] = np.where(cut_short, minutes.column("close_ms")[last], values[0] + length - 1)
    for row, name in enumerate(("open", "high", "low", "close"), start=2):
        values[row] = np.rint(made[name].to_numpy() * UNITS)
    values[_ADDED_UP] = np.add.reduceat(minutes.values[_ADDED_UP], starts, axis=1)
    return Candles(values)
