"""Are the stored minutes those that the raw rows make? A price that was changed in the store breaks no other rule.

Not here: whether the raw rows are those received (``integrity``), judging them (``judge``).
"""

from __future__ import annotations

import polars as pl

from mdp.domain.candles import VALUE_COLUMNS
from mdp.pipeline.judge import judge_days
from mdp.ports import RAW_OHLCV, CandleStore, Slice

_KEY = ["timeframe", "open_time"]


def unlike_raw(store: CandleStore, part: Slice, minutes: pl.DataFrame) -> pl.DataFrame:
    """Return the minutes that are not what the raw rows make, those missing or too many among them.

    Args:
        store: Where the raw rows are.
        part: Whole UTC days of a spot market at 1m.
        minutes: What is stored of them.

    Shape:
        ``CANDLE_SCHEMA`` in. Out: timeframe, open_time, the values as stored, and as they should be with ``_made``
        behind their names; all null on the side that has no such minute. Sorted by ``open_time``.
    """
    told = [*_KEY, *VALUE_COLUMNS]
    made, stored = judge_days(store.read(RAW_OHLCV, part), part).accepted.select(told), minutes.select(told)
    if stored.equals(made, null_equal=True):
        made, stored = made.clear(), stored.clear()
    both = stored.join(made, on=_KEY, how="full", suffix="_made", coalesce=True)
    differs = pl.any_horizontal(pl.col(name).ne_missing(pl.col(f"{name}_made")) for name in VALUE_COLUMNS)
    return both.filter(differs).sort("open_time")
