"""Candles that are still open: what of a finished candle had happened by now.

A function of the finished candle and the time alone, so that the same moment always shows the same candle. Not here:
which candle is open (``history``).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mdp.simulator.candles import UNITS, Candles

_FIRST_TURN, _SECOND_TURN = 0.3, 0.7
"""When, as shares of its length, a candle reaches its first and its second extreme."""


class Steps(NamedTuple):
    """The smallest changes of a price and of an amount, in units."""

    price: int
    amount: int


def grow(candle: Candles, length_ms: int, now_ms: int, steps: Steps) -> Candles:
    """Return one candle as it stands at ``now_ms``.

    The price goes in straight lines from the open over the two extremes to the close, the farther from the close
    first; amounts grow evenly. Every extreme only widens, every amount only grows, and at the end stands the finished
    candle.

    Args:
        candle: One finished candle.
        length_ms: Its timeframe.
        now_ms: At or after its open time.
        steps: What prices and amounts are multiples of.
    """
    open_ms, _, open_, high, low, close, volume, quote_volume, trades, taker, taker_quote = candle.values[:, 0].tolist()
    elapsed = min(now_ms - open_ms, length_ms)
    if elapsed == length_ms:
        return candle
    so_far, now_price = _seen((open_, high, low, close), elapsed / length_ms, steps.price)
    grown = volume * elapsed // length_ms // steps.amount * steps.amount
    if not grown:  # nothing traded yet: flat where it opened
        so_far, now_price = [open_], open_
    highest, lowest = max(so_far), min(so_far)
    grown_taker = min(taker * elapsed // length_ms // steps.amount * steps.amount, grown)
    values = [
        open_ms,
        open_ms + length_ms - 1,
        open_,
        highest,
        lowest,
        now_price,
        grown,
        _worth(grown, volume, quote_volume, lowest, highest),
        min(max(trades * elapsed // length_ms, 1), trades) if grown else 0,
        grown_taker,
        _worth(grown_taker, taker, taker_quote, lowest, highest),
    ]
    return Candles(np.array(values, dtype=np.int64)[:, None])


def _seen(prices: tuple[int, int, int, int], share: float, step: int) -> tuple[list[int], int]:
    """Prices that a candle has shown when ``share`` of its time has passed, and the one it shows then."""
    open_, high, low, close = prices
    turns = (low, high) if close >= open_ else (high, low)
    times, route = (0.0, _FIRST_TURN, _SECOND_TURN, 1.0), (open_, *turns, close)
    now_price = round(float(np.interp(share, times, route)) / step) * step
    now_price = min(max(now_price, low), high)
    return [price for time, price in zip(times, route, strict=True) if time <= share] + [now_price], now_price


def _worth(grown: int, volume: int, quote_volume: int, lowest: int, highest: int) -> int:
    """Quote amount of a part: its share of the whole, but never outside the prices seen so far."""
    if not volume:
        return 0
    least, most = -(-grown * lowest // UNITS), grown * highest // UNITS
    return min(max(quote_volume * grown // volume, least), most)
