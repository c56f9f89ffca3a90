"""How a market's day is spelled as a partition key, for whoever asks for partitions by name.

Not here: the partitions themselves (``defs.partitions``, which spells them alike), how days become work (``batches``).
"""

from __future__ import annotations

from datetime import date

from mdp.domain.market import Market


def partition_key(market: Market, day: date) -> str:
    """Return the key of one market on one day.

    The dimensions of a key stand in the alphabetical order of their names: date before market, currency before date.

    Examples:
        >>> partition_key(Market.parse("binance:BTC-USDT"), date(2024, 12, 30))
        '2024-12-30|binance:BTC-USDT'
        >>> partition_key(Market.parse("deribit:BTC-DVOL"), date(2024, 12, 30))
        'BTC|2024-12-30'
    """
    return f"{market.base}|{day}" if market.is_volatility_index else f"{day}|{market}"


def day_of_key(key: str) -> date:
    """Return the day of a partition key.

    Raises:
        ValueError: it is none.
    """
    first, _, second = key.partition("|")
    return date.fromisoformat(first if first[:1].isdigit() else second)


def assets_of(market: Market) -> tuple[str, ...]:
    """Return the assets through which a day of a market passes, the last one last."""
    return ("raw_dvol", "dvol") if market.is_volatility_index else ("raw_ohlcv", "ohlcv", "ohlcv_resampled")
