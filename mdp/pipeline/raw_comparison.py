"""Are the stored minutes, and the rejected rows, those that the raw rows make? A changed price breaks no other rule.

Not here: whether the raw rows are those received (``integrity``), judging them (``judge``).
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

import polars as pl

from mdp.domain.candles import VALUE_COLUMNS
from mdp.pipeline.judge import judge_days
from mdp.ports import RAW_OHLCV, REJECTED_OHLCV, CandleStore, Slice

_KEY = ["timeframe", "open_time"]


class Unlike(NamedTuple):
    """What is stored otherwise than the raw rows make it.

    Attributes:
        minutes: That are not what the raw rows make, those missing or too many among them: timeframe, open_time, the
            values as stored, and as they should be with ``_made`` behind their names; all null on the side that has no
            such minute. Sorted by ``open_time``.
        rejected: Rejected rows that are missing or too many, each once, of ``REJECTED_SCHEMA``; ``is_stored`` tells
            which. Sorted by ``open_time``.
    """

    minutes: pl.DataFrame
    rejected: pl.DataFrame


def compare_with_raw(
    store: CandleStore, part: Slice, minutes: pl.DataFrame, *, rejected_since: datetime | None = None
) -> Unlike:
    """Compare both halves of what judging the raw rows makes with what is stored.

    Args:
        store: Where the raw rows and the rejected ones are.
        part: Whole UTC days of a spot market at 1m.
        minutes: What is stored of them.
        rejected_since: Rejected rows received before are not looked at: they may have been dropped for their age.
    """
    judged = judge_days(store.read(RAW_OHLCV, part), part)
    rejected = _differing_rejected(store.read(REJECTED_OHLCV, part), judged.rejected, rejected_since)
    return Unlike(_differing_minutes(minutes, judged.accepted), rejected)


def _differing_minutes(minutes: pl.DataFrame, accepted: pl.DataFrame) -> pl.DataFrame:
    told = [*_KEY, *VALUE_COLUMNS]
    made, stored = accepted.select(told), minutes.select(told)
    if stored.equals(made, null_equal=True):
        made, stored = made.clear(), stored.clear()
    both = stored.join(made, on=_KEY, how="full", suffix="_made", coalesce=True)
    differs = pl.any_horizontal(pl.col(name).ne_missing(pl.col(f"{name}_made")) for name in VALUE_COLUMNS)
    return both.filter(differs).sort("open_time")


def _differing_rejected(stored: pl.DataFrame, made: pl.DataFrame, since: datetime | None) -> pl.DataFrame:
    if since is not None:
        stored, made = (rows.filter(pl.col("fetched_at") >= since) for rows in (stored, made))
    sides = [(stored, made, True), (made, stored, False)]
    apart = [_more(rows, others).with_columns(is_stored=pl.lit(is_stored)) for rows, others, is_stored in sides]
    return pl.concat(apart).sort("open_time", nulls_last=True, maintain_order=True)


def _more(rows: pl.DataFrame, others: pl.DataFrame) -> pl.DataFrame:
    """The rows that stand in one table more often than in the other; equal ones are numbered."""
    if rows.equals(others, null_equal=True):
        return rows.clear()
    numbered = [one.with_columns(number=pl.int_range(pl.len()).over(one.columns)) for one in (rows, others)]
    return numbered[0].join(numbered[1], on=numbered[0].columns, how="anti", nulls_equal=True).drop("number")
