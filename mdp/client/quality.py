"""The schemas of what is told about history: gaps, and minutes by day.

Functions, because polars is loaded when the first table comes. Not here: tables of candles (``domain.candles``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl


def gap_schema() -> pl.Schema:
    """Return the schema of gaps: a stretch of missing minutes with one cause, ``[start, end)``.

    ``sightings`` counts how often its least often seen part was found missing, ``is_permanent`` those that will stay
    so, ``detail`` is where a known cause is written.
    """
    import polars as pl

    from mdp.domain.candles import TIME

    return pl.Schema(
        {
            "market": pl.String(),
            "start": TIME,
            "end": TIME,
            "slots": pl.Int64(),
            "cause": pl.String(),
            "sightings": pl.Int64(),
            "is_permanent": pl.Boolean(),
            "first_seen_at": TIME,
            "seen_at": TIME,
            "source": pl.String(),
            "detail": pl.String(),
        }
    )


def day_schema() -> pl.Schema:
    """Return the schema of the coverage: one row per market and UTC day, in minutes.

    ``expected`` is ``present`` and the missing ones, each under its cause; ``idle`` are present minutes without volume,
    null of an index; ``permanent`` are missing ones that will stay so without an explanation. ``rejected`` and
    ``revised`` count rows.
    """
    import polars as pl

    from mdp.domain.gaps import Cause

    counted = ("expected", "present", "idle", *(cause.value for cause in Cause), "permanent", "rejected", "revised")
    return pl.Schema({"market": pl.String(), "day": pl.Date(), **dict.fromkeys(counted, pl.Int64())})
