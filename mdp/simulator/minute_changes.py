"""One scripted change of minutes: left out, flat, or with other amounts and prices.

Every minute stays a sound candle: the extremes hold open and close, the quote amount fits between the prices. Not here:
which changes there are (``script``), longer candles (``alterations``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from mdp.simulator.candles import COLUMNS, DAY_MS, MINUTE_MS, UNITS, Candles, Ints
from mdp.simulator.clock import to_ms
from mdp.simulator.faults import Change, Flat, Outage, Restate, Revision
from mdp.simulator.markets import SimulatedMarket
from mdp.simulator.script import Entry

_OPEN, _CLOSE = COLUMNS.index("open"), COLUMNS.index("close")
_AMOUNTS = slice(COLUMNS.index("volume"), None)
_Mask = npt.NDArray[np.bool_]


def window_of(change: Change) -> tuple[int, int]:
    """Return the window of a change in milliseconds, half-open."""
    return to_ms(change.start), to_ms(change.end)


def change_minutes(
    minutes: Candles,
    market: SimulatedMarket,
    changes: Sequence[Entry],
    true_minutes: Callable[[int, int], Candles],
    now_ms: int,
) -> Candles:
    """Return minutes with all changes made, in the order of the script.

    Args:
        minutes: True minutes, any stretch.
        market: Whose they are.
        changes: What to change.
        true_minutes: Returns the true minutes that open between two times, for the price before a flat stretch.
        now_ms: Simulated time.
    """
    for entry in changes:
        fault = entry.fault
        if isinstance(fault, Revision):
            closed_ms = now_ms - (minutes.open_ms + MINUTE_MS)
            young = (closed_ms >= 0) & (closed_ms < fault.settle_s * 1_000)
            minutes = _rescale(minutes, young, market, fault.volume_factor, 1.0)
        elif isinstance(fault, Outage | Flat | Restate):
            start_ms, end_ms = window_of(fault)
            inside = (minutes.open_ms >= start_ms) & (minutes.open_ms < end_ms)
            if not inside.any():
                continue
            if isinstance(fault, Outage):
                minutes = Candles(minutes.values[:, ~inside])
            elif isinstance(fault, Flat):
                minutes = _flatten(minutes, inside, true_minutes(start_ms - DAY_MS, start_ms - 1))
            else:
                minutes = _rescale(minutes, inside, market, fault.volume_factor, fault.price_factor)
    return minutes


def _flatten(minutes: Candles, inside: _Mask, before: Candles) -> Candles:
    """No trades: the last price before, and no amounts; at the very beginning the first price."""
    source = int(before.values[_CLOSE, -1]) if len(before) else int(minutes.values[_OPEN, np.flatnonzero(inside)[0]])
    values = minutes.values.copy()
    values[_OPEN : _CLOSE + 1, inside] = source
    values[_AMOUNTS, inside] = 0
    return Candles(values)


def _rescale(
    minutes: Candles, chosen: _Mask, market: SimulatedMarket, volume_factor: float, price_factor: float
) -> Candles:
    if not chosen.any():
        return minutes
    price_step, amount_step = UNITS // 10**market.price_decimals, UNITS // 10**market.amount_decimals
    values = minutes.values.copy()
    prices = values[_OPEN : _CLOSE + 1, chosen]
    prices = np.maximum(np.rint(prices * price_factor / price_step).astype(np.int64), 1) * price_step
    values[_OPEN : _CLOSE + 1, chosen] = prices
    low, high = prices[2], prices[1]
    for amount, quote in (("volume", "quote_volume"), ("taker_volume", "taker_quote_volume")):
        was = values[COLUMNS.index(amount), chosen]
        scaled = np.rint(was * volume_factor / amount_step).astype(np.int64) * amount_step
        # whatever was traded stays traded, and a change shows also where it is smaller than the step
        least = np.minimum(was, amount_step)
        step = np.where(volume_factor > 1, amount_step, 0) * (was > 0)
        scaled = np.maximum(np.where(scaled == was, was + step, scaled), least)
        worth = np.rint(values[COLUMNS.index(quote), chosen] * (scaled / np.maximum(was, 1)) * price_factor)
        values[COLUMNS.index(amount), chosen] = scaled
        values[COLUMNS.index(quote), chosen] = _between(worth.astype(np.int64), scaled, low, high)
    return Candles(values)


def _between(worth: Ints, amount: Ints, low: Ints, high: Ints) -> Ints:
    """Keep a quote amount between what it is worth at low and at high; floats, for the products pass 63 bits."""
    least = np.ceil(amount / UNITS * low).astype(np.int64)
    most = np.floor(amount / UNITS * high).astype(np.int64)
    return np.asarray(np.clip(worth, least, np.maximum(least, most)))
