"""What is true of a good candle, and the split of raw rows by it.

Every rule has a name that says what holds; a row that breaks rules is kept with their names. ``accepted + rejected =
received``, always. Not here: what to do with either half (``pipeline``), whether slots are missing (``gaps``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import polars as pl

from mdp.domain.candles import CANDLE_SCHEMA, RAW_SCHEMA, REJECTED_SCHEMA, require_schema
from mdp.domain.interval import Interval
from mdp.domain.timeframe import Timeframe

PRICES = ("open", "high", "low", "close")


class Asked(NamedTuple):
    """What was asked for, against which a row is judged."""

    window: Interval
    timeframe: Timeframe


def _at_least_zero(name: str) -> pl.Expr:
    """Null passes: it means that the exchange does not give the amount."""
    return (pl.col(name).is_finite() & (pl.col(name) >= 0)) | pl.col(name).is_null()


RULES: Mapping[str, Callable[[Asked], pl.Expr]] = {
    "prices_are_finite": lambda _: pl.all_horizontal(pl.col(name).is_finite() for name in PRICES),
    "prices_are_positive": lambda _: pl.all_horizontal(pl.col(name) > 0 for name in PRICES),
    "high_is_highest": lambda _: pl.all_horizontal(pl.col("high") >= pl.col(name) for name in ("open", "low", "close")),
    "low_is_lowest": lambda _: pl.all_horizontal(pl.col("low") <= pl.col(name) for name in ("open", "close")),
    "volume_is_not_negative": lambda _: _at_least_zero("volume"),
    "quote_volume_is_not_negative": lambda _: _at_least_zero("quote_volume"),
    "trades_are_not_negative": lambda _: (pl.col("trades") >= 0) | pl.col("trades").is_null(),
    "open_time_is_on_grid": lambda asked: pl.col("open_time").dt.epoch("us") % asked.timeframe.microseconds == 0,
    "open_time_is_inside_window": lambda asked: pl.col("open_time").is_between(
        asked.window.start, asked.window.end, closed="left"
    ),
    "candle_is_closed": lambda _: pl.col("closed"),
}
"""Each rule by its name: an expression that is true for a good row. A null counts as broken."""

KEY_IS_UNIQUE = "key_is_unique"
"""Of several otherwise good rows for one slot, the one received last is kept; the others break this rule."""

RULE_NAMES: tuple[str, ...] = (*RULES, KEY_IS_UNIQUE)


class Judged(NamedTuple):
    """The two halves of a judged frame."""

    accepted: pl.DataFrame
    rejected: pl.DataFrame


def split_by_rules(raw: pl.DataFrame, asked: Asked) -> Judged:
    """Separate good rows from rows that break a rule.

    Args:
        raw: Rows of one market as received, in the order received; any order of time, duplicates allowed.
        asked: The window and timeframe they were asked for.

    Returns:
        ``accepted`` of ``RAW_SCHEMA``, sorted by ``open_time``, unique; ``rejected`` of ``REJECTED_SCHEMA`` in the
        order received, ``failed_rules`` never empty. Together they hold every row of ``raw`` once.

    Raises:
        SchemaMismatch: ``raw`` is not of ``RAW_SCHEMA``.
    """
    require_schema(raw, RAW_SCHEMA, "raw candles")
    verdicts = {name: rule(asked).fill_null(value=False).alias(f"rule:{name}") for name, rule in RULES.items()}
    judged = raw.with_columns(verdicts.values())
    is_good = pl.all_horizontal(f"rule:{name}" for name in RULES)
    if judged.select(is_good.all()).item() and _is_strictly_rising(raw["open_time"]):
        return Judged(raw, pl.DataFrame(schema=REJECTED_SCHEMA))
    return _split(judged, is_good)


def _split(judged: pl.DataFrame, is_good: pl.Expr) -> Judged:
    order = judged.with_row_index("received").with_columns(is_good.alias("good"))
    kept = order.filter("good").select("received", "open_time", "fetched_at")
    is_rising = _is_strictly_rising(kept["open_time"])
    if not is_rising:
        kept = kept.sort("fetched_at", "received").unique("open_time", keep="last", maintain_order=True)
    is_accepted = np.zeros(len(order), dtype=np.bool_)
    is_accepted[kept["received"].to_numpy()] = True
    accepted = order.filter(pl.Series(is_accepted)).select(RAW_SCHEMA.names())
    names = [
        *(pl.when(~pl.col(f"rule:{name}")).then(pl.lit(name)) for name in RULES),
        pl.when("good").then(pl.lit(KEY_IS_UNIQUE)),
    ]
    failed = pl.concat_list(names).list.drop_nulls().alias("failed_rules")
    return Judged(
        accepted if is_rising else accepted.sort("open_time"),
        order.filter(pl.Series(~is_accepted)).with_columns(failed).select(REJECTED_SCHEMA.names()),
    )


def to_candles(accepted: pl.DataFrame, timeframe: Timeframe) -> pl.DataFrame:
    """Turn accepted raw rows into candles; when a row was fetched is when it was ingested.

    Shape:
        ``RAW_SCHEMA`` in, ``CANDLE_SCHEMA`` out, same rows in the same order.
    """
    return accepted.with_columns(
        pl.lit(timeframe.minutes, dtype=pl.Int32).alias("minutes"), pl.col("fetched_at").alias("ingested_at")
    ).select(CANDLE_SCHEMA.names())


def count_failures(rejected: pl.DataFrame) -> dict[str, int]:
    """Count the rejected rows by rule; a row that broke two rules counts for both. Rules nobody broke are left out."""
    if rejected.is_empty():
        return {}
    counts = rejected["failed_rules"].explode().drop_nulls().value_counts(sort=True)
    return dict(zip(counts["failed_rules"].to_list(), counts["count"].to_list(), strict=True))


def _is_strictly_rising(times: pl.Series) -> bool:
    values = times.to_physical().to_numpy()
    return bool((values[1:] > values[:-1]).all())
