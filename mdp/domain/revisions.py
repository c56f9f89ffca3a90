"""What a later answer says differently from the stored one.

Not here: which answer is right (the later one is stored, the earlier one is kept as a revision).
"""

from __future__ import annotations

from datetime import datetime

import polars as pl

from mdp.domain.candles import REVISION_SCHEMA, VALUE_COLUMNS

_KEY = ["exchange", "symbol", "timeframe", "open_time"]
_COMPARED = (*VALUE_COLUMNS, "source")


def find_revisions(stored: pl.DataFrame, new: pl.DataFrame, *, revised_at: datetime) -> pl.DataFrame:
    """List the stored candles that ``new`` changes or no longer has.

    Args:
        stored: What is stored of a window; any order, unique.
        new: What will replace it, of the same window; any order, unique.
        revised_at: When ``new`` came.

    Returns:
        One row for each stored candle whose values differ (null equals null) or that is missing in ``new``. A candle
        that is only in ``new`` fills a gap and is no revision; another ``source`` with the same values is none either.

    Shape:
        ``CANDLE_SCHEMA`` in, ``REVISION_SCHEMA`` out, sorted by ``open_time``.
    """
    both = stored.select(*_KEY, *_COMPARED, "ingested_at").join(
        new.select(*_KEY, *_COMPARED).with_columns(found=True), on=_KEY, how="left", suffix="_new"
    )
    changed = pl.any_horizontal(pl.col(name).ne_missing(pl.col(f"{name}_new")) for name in VALUE_COLUMNS)
    return (
        both.filter(changed | pl.col("found").is_null())
        .sort("open_time")
        .select(
            *_KEY,
            *(pl.col(name).alias(f"old_{name}") for name in _COMPARED),
            *(pl.col(f"{name}_new").alias(f"new_{name}") for name in _COMPARED),
            pl.lit(revised_at, dtype=REVISION_SCHEMA["revised_at"]).alias("revised_at"),
            pl.col("ingested_at").alias("old_ingested_at"),
        )
    )
