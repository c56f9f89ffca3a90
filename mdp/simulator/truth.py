"""A market's minutes as they are: what everybody who collected rightly must hold in the end.

With every scripted change that shows now, such as outages; without what heals by itself, such as revisions of young
minutes. Not here: how an exchange tells them (``binance``, ``bybit``, ``okx``, ``deribit``, ``streams``).
"""

from __future__ import annotations

from functools import partial

from mdp.domain.market import Exchange, Market
from mdp.domain.timeframe import Timeframe
from mdp.errors import InputError
from mdp.simulator.candles import DAY_MS, MINUTE_MS, NO_CANDLES, UNITS, Candles, join
from mdp.simulator.faults import Revision
from mdp.simulator.markets import SIMULATED_INDICES, SIMULATED_MARKETS, SimulatedMarket, find_market
from mdp.simulator.minute_changes import change_minutes
from mdp.simulator.simulation import Simulation

MOST_MINUTES = 45 * 1_440
"""Minutes in one answer: a month and a half."""

TRUTH_COLUMNS = ("open_ms", "open", "high", "low", "close", "volume", "quote_volume", "trades")

Row = list[int | float | None]


def true_minutes(simulation: Simulation, market: Market, start_ms: int, end_ms: int) -> list[Row]:
    """Return the closed minutes that open in a window.

    Args:
        simulation: The world.
        market: One of the simulated ones.
        start_ms: Start of the window.
        end_ms: Its end, exclusive; minutes that are not over yet are left out.

    Returns:
        Rows of ``TRUTH_COLUMNS``, ascending; of an index the last three are None. Trades are told also where the
        exchange does not.

    Raises:
        InputError: the market is not simulated, or the window is longer than 45 days.
    """
    if end_ms - start_ms > MOST_MINUTES * MINUTE_MS:
        raise InputError("end", got=end_ms, expected=f"at most {MOST_MINUTES} minutes after start")
    now_ms = simulation.clock()
    last_ms = min(end_ms - 1, now_ms - MINUTE_MS)
    if market.exchange is Exchange.DERIBIT:
        return _index_rows(simulation, market, start_ms, last_ms, now_ms)
    try:
        found = find_market(market)
    except KeyError:
        known = ", ".join(str(one.market) for one in SIMULATED_MARKETS)
        raise InputError("market", got=str(market), expected=f"one of {known}") from None
    minutes = _whole(simulation, found, start_ms, last_ms)
    entries = [
        entry
        for entry in simulation.faults.changes(market, "rest", now_ms)
        if entry.fault.channel is None and not isinstance(entry.fault, Revision)
    ]
    minutes = change_minutes(minutes, found, entries, partial(_whole, simulation, found), now_ms)
    return [
        [open_ms, *(value / UNITS for value in values), trades]
        for open_ms, *values, trades in minutes.values[[0, 2, 3, 4, 5, 6, 7, 8]].T.tolist()
    ]


def _whole(simulation: Simulation, market: SimulatedMarket, first_ms: int, last_ms: int) -> Candles:
    first_ms = max(first_ms, market.first_candle_ms)
    if first_ms > last_ms:
        return NO_CANDLES
    days = simulation.history.days(market, Timeframe.M1, first_ms // DAY_MS, last_ms // DAY_MS)
    return join([day.candles for day in days]).opened_between(first_ms, last_ms)


def _index_rows(simulation: Simulation, market: Market, start_ms: int, last_ms: int, now_ms: int) -> list[Row]:
    index = SIMULATED_INDICES.get(market.base)
    if index is None or index.market != market:
        known = ", ".join(str(one.market) for one in SIMULATED_INDICES.values())
        raise InputError("market", got=str(market), expected=f"one of {known}")
    first_ms = -(-start_ms // MINUTE_MS) * MINUTE_MS
    candles = simulation.volatility.candles(index, MINUTE_MS, first_ms, last_ms, now_ms)
    candles = simulation.alterations.apply_to_index(candles, index, MINUTE_MS, now_ms)
    return [[open_ms, *(value / 100 for value in values), None, None, None] for open_ms, *values in candles.T.tolist()]
