"""``mdp buffer``: one live buffer for people and pipes.

Not here: reading it (``mdp.reading.buffers``), following it (``watch``).
"""

from __future__ import annotations

import sys
from pathlib import Path

import polars as pl

from mdp.cli.output import write_rows
from mdp.config.settings import Settings, load_settings
from mdp.domain.interval import format_time
from mdp.domain.timeframe import EPOCH
from mdp.reading.buffers import buffer
from mdp.reading.candle_buffer import CandleBuffer

_SAME_IN_EVERY_ROW = ("exchange", "symbol", "timeframe", "ingested_at")


def show_buffer(market: str, timeframe: str, format_: str, output: Path | None) -> None:
    """Write the candles of a buffer; beside them, on stderr, what holds for all of it.

    Raises:
        InputError: the market or timeframe is wrong.
        ConfigError: the mode is ``backtest``.
        BusUnavailable, SliceMissing: there is no buffer; says what to start.
    """
    settings: Settings = load_settings()
    found = buffer(market, timeframe, settings=settings)
    rows = found.frame()
    write_rows(_for_people(rows) if format_ == "table" else rows, format_, output)
    if format_ == "table":
        sys.stderr.write(f"{summary(found)}\n")


def summary(found: CandleBuffer) -> str:
    """Say in one line how full a buffer is, how sure, and when it was written."""
    missing = len(found.missing_us)
    parts = [
        f"{found.market} {found.timeframe}: {len(found.closed)} of {found.size} closed candles",
        f"{missing} {'slot' if missing == 1 else 'slots'} without one" if missing else "none missing",
        f"seq {found.seq}",
        f"written {format_time(EPOCH + EPOCH.resolution * found.written_us)}",
    ]
    return ", ".join(parts)


def _for_people(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.drop(_SAME_IN_EVERY_ROW)
