"""The partitions: day by market for candles, day by currency for the volatility index, and what a key means.

Not here: how days become units of work (``pipeline.batches``).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date

import dagster as dg

from mdp.domain.market import SPOT_MARKETS, VOLATILITY_MARKETS, Exchange, Market
from mdp.domain.timeframe import Timeframe
from mdp.pipeline.batches import parts_of
from mdp.ports import Slice
from mdp.reading import FIRST_DAY

# A named dimension sorts before another by its name, and that order is part of every key ever stored: never rename.
DAYS = dg.DailyPartitionsDefinition(start_date=FIRST_DAY, timezone="UTC")
MARKET_DAYS = dg.MultiPartitionsDefinition(
    {"date": DAYS, "market": dg.StaticPartitionsDefinition([str(market) for market in SPOT_MARKETS])}
)
CURRENCY_DAYS = dg.MultiPartitionsDefinition(
    {"date": DAYS, "currency": dg.StaticPartitionsDefinition([market.base for market in VOLATILITY_MARKETS])}
)


def key_of(market: Market, day: date) -> dg.MultiPartitionKey:
    """Return the partition key of one market on one day."""
    if market.is_volatility_index:
        return dg.MultiPartitionKey({"date": day.isoformat(), "currency": market.base})
    return dg.MultiPartitionKey({"date": day.isoformat(), "market": str(market)})


def slices_of(keys: Iterable[str], *, index_timeframe: Timeframe = Timeframe.H1) -> list[Slice]:
    """Turn partition keys into slices of work.

    Args:
        keys: Of one partitions definition, in any order: one key, a stretch of days of one market, one day of many
            markets, or both at once.
        index_timeframe: Length of the candles from which a volatility index is made.

    Raises:
        dg.Failure: there are no keys. A range whose end lies before its start yields none, and the run would
            succeed without having done anything.
    """
    days = [_market_day(key) for key in keys]
    if not days:
        raise dg.Failure(
            "The partition range of this run holds no partition: its start lies after its end, by date or by the "
            "order of the markets. Launch it again with start and end exchanged.",
            allow_retries=False,
        )
    is_index = days[0][0].is_volatility_index
    return parts_of(days, index_timeframe if is_index else Timeframe.M1)


def _market_day(key: str) -> tuple[Market, date]:
    # The dimensions of a key stand in alphabetical order: currency|date, date|market.
    left, right = key.split("|")
    if left in CURRENCY_DAYS.get_partitions_def_for_dimension("currency").get_partition_keys():
        return Market(Exchange.DERIBIT, left, "DVOL"), date.fromisoformat(right)
    return Market.parse(right), date.fromisoformat(left)
