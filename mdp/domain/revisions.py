"""What a later answer says differently from the stored one, and what was stored before it came.

Not here: which answer is right (the later one is stored, the earlier one is kept as a revision).
"""

from __future__ import annotations

from datetime import datetime

import polars as pl

from mdp.domain.candles import CANDLE_SCHEMA, REVISION_SCHEMA, VALUE_COLUMNS
from mdp.domain.plausibility import CLOCKS_APART
from mdp.domain.timeframe import Timeframe

_KEY = ["exchange", "symbol", "timeframe", "open_time"]
_COMPARED = (*VALUE_COLUMNS, "source")

CHANGE: tuple[str, ...] = tuple(name for name in REVISION_SCHEMA if name not in ("revised_at", "old_ingested_at"))
"""What a revision says was changed, as opposed to when that was recorded, and when the old values had been received."""


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


def each_change_once(revisions: pl.DataFrame) -> pl.DataFrame:
    """Leave out revisions that say what the one before them of the same slot says.

    Two runs that judge one slice at once both record what they find; nothing can change twice in the same way without
    changing back between. A candle that was removed can: when it comes back that is no revision, but it has another
    time of receipt then.

    Args:
        revisions: All of some slots, those of one moment in the order in which they were recorded.

    Returns:
        The first of each, in the order in which they were recorded.

    Shape:
        ``REVISION_SCHEMA`` in and out.
    """
    in_order = revisions.sort("revised_at", maintain_order=True)
    if len(in_order) < 2:
        return in_order
    by_slot = in_order.with_row_index("place").sort(*_KEY, "place")
    is_told = pl.all_horizontal(pl.col(name).eq_missing(pl.col(name).shift()) for name in CHANGE)
    was_there_once = pl.col("old_ingested_at") == pl.col("old_ingested_at").shift()
    is_told &= pl.col("new_source").is_not_null() | was_there_once.fill_null(value=False)
    return by_slot.filter(~is_told).sort("place").drop("place")


def keep_first_received(stored: pl.DataFrame, new: pl.DataFrame) -> pl.DataFrame:
    """Return ``new``, in which a candle that says what is stored keeps the source and the time it first came with.

    A time of receipt at which the candle had not closed is not kept: the clock that told it was slow, or it came
    unfinished and says the same by chance.

    Args:
        stored: What is stored of a window; any order. Of several rows that say the same the one received first counts.
        new: What will replace it, of the same window.

    Shape:
        ``CANDLE_SCHEMA`` in and out; the rows of ``new`` in their order.
    """
    if stored.is_empty() or new.is_empty():
        return new
    closed: pl.Expr = pl.col("open_time") + pl.duration(minutes="minutes")
    is_too_early = (pl.col("ingested_at") < closed - CLOCKS_APART).fill_null(value=False)
    if stored.select(is_too_early.any()).item():
        return keep_first_received(stored.filter(~is_too_early), new)
    same = [*_KEY, *VALUE_COLUMNS]
    if len(stored) == len(new) and stored.select(same).equals(new.select(same), null_equal=True):
        return stored
    # one and the other zero are equal, and what a candle says now is what stays
    first = stored.sort("ingested_at", maintain_order=True).unique(same, keep="first", maintain_order=True)
    told = first.select(*same, pl.col("source").alias("first_source"), pl.col("ingested_at").alias("first_ingested_at"))
    both = new.join(told, on=same, how="left", nulls_equal=True, maintain_order="left")
    is_told = pl.col("first_source").is_not_null()
    return both.with_columns(
        pl.when(is_told).then(f"first_{name}").otherwise(name).alias(name) for name in ("source", "ingested_at")
    ).select(new.columns)


def rows_as_of(stored: pl.DataFrame, revisions: pl.DataFrame, moment: datetime) -> pl.DataFrame:
    """Return the minutes as they were stored at a moment.

    A change and a removal count from when they were recorded, a candle that was not there before from when it was
    received. Where it is not known when a changed candle had been received, it counts as received in time, and
    ``ingested_at`` is null. A revision whose new candle had been received no later than the old one repaired what
    damage had made of the store: what it took away was never an answer, and it is passed by.

    Args:
        stored: The minutes stored now; any order, unique.
        revisions: All revisions of the same markets and window, in the order in which they were recorded; those of
            runs that died before they stored the candles may be among them, as may those of other timeframes and
            doubled ones.
        moment: UTC.

    Returns:
        The candles that were there, with the values, the source and the time of receipt they had then. One whose new
        values were recorded by a run that died, and received again after ``moment``, has the time of the record.

    Shape:
        ``CANDLE_SCHEMA`` of 1m and ``REVISION_SCHEMA`` in, ``CANDLE_SCHEMA`` out, sorted by key, unique.
    """
    in_order = _without_repairs(each_change_once(revisions.filter(timeframe=Timeframe.M1.value)), stored)
    is_later = pl.col("revised_at") > moment
    undone = in_order.filter(is_later).unique(_KEY, keep="first", maintain_order=True)
    # Few minutes are ever revised: only they go through joins, which take longer than reading all of them.
    is_touched = pl.col("open_time").is_in(undone["open_time"].unique().implode())
    touched = stored.filter(is_touched).join(undone, on=_KEY, how="anti")
    then = pl.concat([stored.filter(~is_touched), touched, _candles_of(undone, "old", received_at="old_ingested_at")])
    is_known = pl.col("ingested_at").is_null() | (pl.col("ingested_at") <= moment)
    late = then.filter(~is_known)
    # A slot whose candle came later was empty, unless a run recorded a change there and died: the change is known.
    before = in_order.filter(~is_later).join(late, on=_KEY, how="semi").unique(_KEY, keep="last", maintain_order=True)
    recorded = _candles_of(before.filter(pl.col("new_source").is_not_null()), "new", received_at="revised_at")
    return _sorted_by_key(pl.concat([then.filter(is_known), recorded]))


def _without_repairs(revisions: pl.DataFrame, stored: pl.DataFrame) -> pl.DataFrame:
    """Leave out what only repaired damage; the last of a slot first, for damage may come again and again."""
    if revisions.is_empty():
        return revisions
    is_touched = pl.col("open_time").is_in(revisions["open_time"].unique().implode())
    now = stored.filter(is_touched).unique(_KEY, keep="first")
    # What stood there next is what the revision gave: so it is known when that had been received.
    is_same = (pl.col(f"new_{name}").eq_missing(_then(f"old_{name}", name)) for name in VALUE_COLUMNS)
    is_repair = pl.all_horizontal(
        pl.col("new_source").is_not_null(),
        _then("old_ingested_at", "ingested_at") <= pl.col("old_ingested_at"),
        *is_same,
    )
    by_slot = (
        revisions.with_row_index("place")
        .sort(*_KEY, "place")
        .join(now, on=_KEY, how="left", maintain_order="left")
        .with_columns(is_last=~pl.all_horizontal(pl.col(name).eq_missing(pl.col(name).shift(-1)) for name in _KEY))
    )
    left = by_slot.filter(~is_repair.fill_null(value=False)).sort("place").select(revisions.columns)
    return left if len(left) == len(revisions) else _without_repairs(left, stored)


def _then(of_next: str, of_stored: str) -> pl.Expr:
    """What the next revision of the same slot took away; where there is none, what is stored."""
    return pl.when("is_last").then(of_stored).otherwise(pl.col(of_next).shift(-1))


def _sorted_by_key(rows: pl.DataFrame) -> pl.DataFrame:
    # Where all rows are of one market, which is the rule, by time alone: comparing texts takes ten times as long.
    is_of_one = all(rows[name].n_unique() <= 1 for name in _KEY[:-1])
    return rows.sort("open_time" if is_of_one else _KEY)


def _candles_of(revisions: pl.DataFrame, side: str, *, received_at: str) -> pl.DataFrame:
    """The candles that are the old or the new side of revisions of minutes."""
    return revisions.select(
        *_KEY,
        *(pl.col(f"{side}_{name}").alias(name) for name in VALUE_COLUMNS),
        pl.lit(Timeframe.M1.minutes, dtype=CANDLE_SCHEMA["minutes"]).alias("minutes"),
        pl.col(f"{side}_source").alias("source"),
        pl.col(received_at).alias("ingested_at"),
    )
