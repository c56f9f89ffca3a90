"""``mdp read``: stored candles for people and pipes.

Not here: reading for programs (``mdp.reading``).
"""

from __future__ import annotations

import sys
from pathlib import Path

import polars as pl

from mdp.cli.output import write_rows
from mdp.domain.market import Market
from mdp.reading import read

_SAME_IN_EVERY_ROW = ("exchange", "symbol", "timeframe")


def read_candles(market: str, timeframe: str, start: str, end: str, format_: str, output: Path | None) -> None:
    """Read candles and write them; a table on a terminal leaves out what the question already says."""
    rows = read(market, timeframe, start, end)
    write_rows(_for_people(rows) if format_ == "table" else rows, format_, output)
    if rows.is_empty():
        _say_why_empty(market)


def _for_people(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.drop(*_SAME_IN_EVERY_ROW, "ingested_at")


def _say_why_empty(market: str) -> None:
    sys.stderr.write(f"mdp: nothing is stored there; see `mdp coverage -m {Market.parse(market)}`\n")
