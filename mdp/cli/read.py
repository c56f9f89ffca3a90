"""``mdp read`` and ``mdp aligned``: stored candles for people and pipes.

Not here: reading for programs (``mdp.reading``).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from mdp.cli.output import write_rows
from mdp.config.settings import load_settings
from mdp.domain.market import Market
from mdp.reading import parse_markets, read, read_aligned

_SAME_IN_EVERY_ROW = ("exchange", "symbol", "timeframe")


def read_candles(
    market: str,
    timeframe: str,
    start: str,
    end: str,
    format_: str,
    output: Path | None,
    *,
    as_of: str | None = None,
    snapshot: str | None = None,
) -> None:
    """Read candles and write them."""
    rows = read(market, timeframe, start, end, as_of=as_of, snapshot=snapshot)
    write_candles(rows, format_, output)
    if rows.is_empty():
        _say_why_empty(market, as_of, snapshot)


def write_candles(rows: pl.DataFrame, format_: str, output: Path | None) -> None:
    """Write candles of one market; a table on a terminal leaves out what the question already says."""
    write_rows(_for_people(rows) if format_ == "table" else rows, format_, output)


def read_side_by_side(
    markets: Sequence[str] | None,
    timeframe: str,
    start: str,
    end: str,
    format_: str,
    output: Path | None,
    *,
    columns: Sequence[str] | None = None,
    as_of: str | None = None,
    snapshot: str | None = None,
) -> None:
    """Read several markets, all of the environment unless some are named, and write them side by side."""
    wanted = markets or [str(market) for market in parse_markets(None, load_settings())]
    rows = read_aligned(wanted, timeframe, start, end, columns=columns or ("close",), as_of=as_of, snapshot=snapshot)
    write_rows(rows, format_, output)


def _for_people(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.drop(*_SAME_IN_EVERY_ROW, "ingested_at")


def _say_why_empty(market: str, as_of: str | None, snapshot: str | None) -> None:
    what = f"snapshot {snapshot} holds nothing there" if snapshot else "nothing is stored there"
    what = f"nothing was stored there as of {as_of}" if as_of else what
    sys.stderr.write(f"mdp: {what}; see `mdp coverage -m {Market.parse(market)}`\n")
