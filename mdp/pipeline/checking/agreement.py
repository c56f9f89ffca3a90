"""Do the stored minutes of the exchanges agree with each other, symbol by symbol?

Works on any store. Not here: how agreement is judged (``domain.agreement``), the exchange's own longer candles
(``native``).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import polars as pl

from mdp.domain.agreement import MIN_MINUTES, Floats, Standing, compare, judge
from mdp.domain.interval import Interval
from mdp.domain.market import Market
from mdp.domain.timeframe import EPOCH, Timeframe
from mdp.pipeline.checking.verdicts import SAMPLED
from mdp.ports import OHLCV, CandleStore, Slice


@dataclass(frozen=True, slots=True)
class FarMinute:
    """A minute in which the exchanges were far apart: its closes by exchange, and the largest distance, as a share."""

    symbol: str
    open_time: datetime
    closes: Mapping[str, float]
    distance: float


@dataclass(frozen=True, slots=True)
class Agreement:
    """What comparing the exchanges in one window came to.

    Attributes:
        standings: Of each market that was compared with at least one other.
        not_judged: Symbol or market, and why nothing can be said of it.
        far_minutes: The minutes of symbols of which two disagree in which they are furthest apart, at most ``SAMPLED``.
    """

    standings: Mapping[Market, Standing]
    not_judged: Mapping[str, str]
    far_minutes: tuple[FarMinute, ...]

    @property
    def apart(self) -> list[Market]:
        """The markets that disagree with most of the others."""
        return [market for market, standing in self.standings.items() if standing.reasons]

    @property
    def disputes(self) -> list[tuple[Market, str]]:
        """What disagrees with whom: of the named markets, and of all of a symbol of which none is named.

        Of three levels in a row the outer two may be too far apart, and each of them agrees with the one between.
        """
        to_blame = {market.symbol_key for market in self.apart}
        return [
            (market, why)
            for market, standing in self.standings.items()
            for why in (standing.reasons if market.symbol_key in to_blame else standing.disagreements)
        ]


def compare_exchanges(store: CandleStore, markets: Iterable[Market], window: Interval) -> Agreement:
    """Compare the stored minutes of every symbol between its exchanges.

    Args:
        store: Where they are.
        markets: Spot markets; those of one symbol are compared.
        window: Bounds on the minute; a day is enough to find a shift of up to twelve hours.

    Returns:
        A symbol of which fewer than two exchanges have at least ``MIN_MINUTES`` in common is in ``not_judged``: one
        witness proves nothing. So is a market that has none in common with the others of its symbol.
    """
    by_symbol: dict[str, list[Market]] = defaultdict(list)
    for market in markets:
        by_symbol[market.symbol_key].append(market)
    standings: dict[Market, Standing] = {}
    not_judged: dict[str, str] = {}
    far: list[FarMinute] = []
    for symbol, of_symbol in by_symbol.items():
        series = {market.exchange.value: _series(store, market, window) for market in of_symbol}
        closes = {name: close for name, (close, _) in series.items() if np.isfinite(close).any()}
        judged = {one.name: one for one in judge(compare(closes, {name: series[name][1] for name in closes}))}
        standings |= {one: judged[one.exchange.value] for one in of_symbol if one.exchange.value in judged}
        not_judged |= _unjudged(symbol, of_symbol, closes, judged)
        if any(one.disagreements for one in judged.values()):
            far += _far_minutes(symbol, closes, window)
    furthest = sorted(far, key=lambda one: -one.distance)[:SAMPLED]
    return Agreement(standings, not_judged, tuple(furthest))


def _series(store: CandleStore, market: Market, window: Interval) -> tuple[Floats, Floats]:
    """Close and volume of each minute of a window, NaN where there is no candle."""
    rows = store.read(OHLCV, Slice(market, (Timeframe.M1,), window), columns=["open_time", "close", "volume"])
    start = (window.start - EPOCH).total_seconds() * 1_000_000
    slots = ((rows["open_time"].to_physical().to_numpy() - start) // Timeframe.M1.microseconds).astype(np.int64)
    series = np.full((2, window.slots(Timeframe.M1)), np.nan)
    for values, name in zip(series, ("close", "volume"), strict=True):
        values[slots] = rows[name].cast(pl.Float64).to_numpy()
    return series[0], series[1]


def _unjudged(
    symbol: str, markets: Iterable[Market], closes: Mapping[str, Floats], judged: Mapping[str, Standing]
) -> dict[str, str]:
    stored = ", ".join(sorted(closes)) or "none"
    if not judged:
        return {symbol: f"nothing to compare: at least two exchanges with {MIN_MINUTES} minutes in common are needed, "
                        f"stored: {stored}"}  # fmt: skip
    return {
        str(market): "no candles stored" if market.exchange.value not in closes
        else f"fewer than {MIN_MINUTES} minutes in common with any other"
        for market in markets
        if market.exchange.value not in judged
    }  # fmt: skip


def _far_minutes(symbol: str, closes: Mapping[str, Floats], window: Interval) -> list[FarMinute]:
    names = sorted(closes)
    by_minute = np.stack([closes[name] for name in names])
    has_two = np.isfinite(by_minute).sum(axis=0) >= 2
    distance = np.zeros(by_minute.shape[1])
    distance[has_two] = np.nanmax(by_minute[:, has_two], axis=0) / np.nanmin(by_minute[:, has_two], axis=0) - 1
    furthest = np.argsort(-distance, kind="stable")[:SAMPLED]
    return [
        FarMinute(
            symbol,
            window.start + int(slot) * Timeframe.M1.duration,
            {name: float(by_minute[row, slot]) for row, name in enumerate(names) if np.isfinite(by_minute[row, slot])},
            float(distance[slot]),
        )
        for slot in furthest
        if distance[slot] > 0
    ]
