"""Invented minutes of a market: any day, at once, the same for the same seed.

All exchanges follow one path per coin, a few basis points apart. Not here: the path (``paths``), recorded minutes
(``recorded_days``), candles that are still open (``forming``).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from mdp.domain.market import Exchange
from mdp.simulator.activity import EXCHANGE_SHARE, Activity
from mdp.simulator.candles import COLUMNS, DAY_MS, MINUTE_MS, UNITS, Candles, Ints
from mdp.simulator.markets import SimulatedMarket
from mdp.simulator.noise import Floats, key_of, normals, smooth, uniforms
from mdp.simulator.paths import BUSYNESS, MINUTES, MinutePath, Paths

BASIS_POINT = 1e-4

LEAN: Mapping[Exchange, tuple[float, float, float]] = {
    Exchange.BINANCE: (0.0, 0.0, 0.0),
    Exchange.BYBIT: (0.8, 0.6, 0.15),
    Exchange.OKX: (-0.6, 0.7, 0.15),
}
"""How an exchange's price differs from the path, in basis points: always, over half hours, by the minute. Invented.

The noise never exceeds 3.5 of its unit, so two exchanges differ by at most 7 basis points, and usually by 1 or 2.
"""

_LEAN_MINUTES = 30


class Generator:
    """The invented minutes of all markets, for one seed."""

    def __init__(self, seed: int, paths: Paths) -> None:
        self._seed = seed
        self._paths = paths
        self._activity = Activity()

    def minutes(self, market: SimulatedMarket, day: int) -> Candles:
        """Make one UTC day: 1440 minutes, each opening where the one before it closed."""
        path = self._paths.of_day(market.base, day)
        lean = self._lean(market.exchange, market.base, day)
        lots, trades = self._amounts(market, day, path)
        values = np.empty((len(COLUMNS), MINUTES), dtype=np.int64)
        values[0] = day * DAY_MS + np.arange(MINUTES) * MINUTE_MS
        values[1] = values[0] + MINUTE_MS - 1
        values[2:6] = self._prices(market, day, path, lean, traded=lots > 0)
        self._fill_amounts(values, market, day, lots)
        values[8] = trades
        return Candles(values)

    def _lean(self, exchange: Exchange, base: str, day: int) -> Floats:
        """Log distance from the path at each of the 1441 minute bounds."""
        always, slow, fast = (size * BASIS_POINT for size in LEAN[exchange])
        if not (always or slow or fast):
            return np.zeros(MINUTES + 1)
        key = (self._seed, exchange.value, base)
        first = day * MINUTES
        return np.asarray(
            always
            + slow * smooth(key_of(*key, "lean"), first, MINUTES + 1, _LEAN_MINUTES)
            + fast * normals(key_of(*key, "jitter"), first, MINUTES + 1)
        )

    def _amounts(self, market: SimulatedMarket, day: int, path: MinutePath) -> tuple[Ints, Ints]:
        """Lots and trades of each minute; both zero, or neither."""
        first = day * MINUTES
        key = (self._seed, market.exchange.value, market.base)
        usual = self._activity.usual(market.exchange, market.base, day)
        size = np.exp(0.7 * normals(key_of(*key, "size"), first, MINUTES) - 0.245)
        moved = np.abs(np.diff(path.log_price)) / path.move
        busy = BUSYNESS * np.minimum(size * (0.6 + 0.5 * moved), 12)
        quote = usual.quote_volume * busy
        recorded = self._paths.recorded_minutes(market.base, day)
        if recorded is not None:
            slots = _slots(recorded, day)
            quote[slots] = recorded.column("quote_volume") / UNITS * EXCHANGE_SHARE[market.exchange] * size[slots]
        trades = np.floor(usual.trades * busy + uniforms(key_of(*key, "trades"), first, MINUTES)).astype(np.int64)
        lots = np.floor(quote / np.exp(path.log_price[:-1]) * 10**market.amount_decimals).astype(np.int64)
        # a day ends at its level: its last minute trades, so that the next day opens where this one closed
        trades[-1] = max(trades[-1], 1)
        lots = np.where(trades > 0, np.maximum(lots, 1), 0)
        return lots, trades

    def _prices(
        self, market: SimulatedMarket, day: int, path: MinutePath, lean: Floats, *, traded: npt.NDArray[np.bool_]
    ) -> Ints:
        """Open, high, low and close, ``(4, 1440)``, in units."""
        steps = 10**market.price_decimals
        log_price = path.log_price + lean
        bounds = np.maximum(np.rint(np.exp(log_price) * steps), 1).astype(np.int64)
        # without a trade the price stays where the last one left it
        last_traded = np.maximum.accumulate(np.where(traded, np.arange(1, MINUTES + 1), 0))
        bounds[1:] = bounds[last_traded]
        open_, close = bounds[:-1], bounds[1:]
        key = (self._seed, market.base)
        reach = path.move * bounds[:-1] * traded
        up, down = (
            np.rint(0.6 * reach * np.abs(normals(key_of(*key, side), day * MINUTES, MINUTES))).astype(np.int64)
            for side in ("up", "down")
        )
        high, low = np.maximum(open_, close) + up, np.maximum(np.minimum(open_, close) - down, 1)
        recorded = self._paths.recorded_minutes(market.base, day)
        if recorded is not None:
            slots = _slots(recorded, day)
            slots, kept = slots[traded[slots]], traded[slots]
            shift = np.exp((lean[slots] + lean[slots + 1]) / 2) * steps / UNITS
            high[slots] = np.rint(recorded.column("high")[kept] * shift)
            low[slots] = np.maximum(np.rint(recorded.column("low")[kept] * shift), 1)
            high, low = np.maximum(high, np.maximum(open_, close)), np.minimum(low, np.minimum(open_, close))
        return np.asarray(np.stack([open_, high, low, close]) * (UNITS // steps))

    def _fill_amounts(self, values: Ints, market: SimulatedMarket, day: int, lots: Ints) -> None:
        """Write volume, quote volume and the takers' shares of them."""
        first = day * MINUTES
        price_unit = UNITS // 10**market.price_decimals
        # between low and high, on the price step, so that an amount times it is a whole number of units
        mean_price = values[2:6].sum(axis=0) // 4 // price_unit
        taken = uniforms(key_of(self._seed, market.exchange.value, market.base, "takers"), first, MINUTES)
        taker_lots = np.floor(lots * (0.25 + 0.5 * taken)).astype(np.int64)
        for volume_row, quote_row, amount in ((6, 7, lots), (9, 10, taker_lots)):
            values[volume_row] = amount * (UNITS // 10**market.amount_decimals)
            values[quote_row] = _scale(amount * mean_price, market.amount_decimals + market.price_decimals)


def _scale(products: Ints, decimals: int) -> Ints:
    """Bring whole numbers of ``10**-decimals`` to units; digits beyond the eighth are cut off."""
    return np.asarray(products * 10 ** (8 - decimals) if decimals <= 8 else products // 10 ** (decimals - 8))


def _slots(minutes: Candles, day: int) -> Ints:
    return np.asarray((minutes.open_ms - day * DAY_MS) // MINUTE_MS)
