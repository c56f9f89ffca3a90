"""Arguments that several commands share, so that one thing is called the same everywhere.

Not here: what is done with them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Format(StrEnum):
    """How rows are written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"
    ARROW = "arrow"


class WhenMissing(StrEnum):
    """What is done about a range of a backtest of which something is missing that is not explained."""

    REFUSE = "refuse"
    ALLOW = "allow"
    GENERATE = "generate"


Start = Annotated[str, typer.Option(help="First day or time, included: 2024-12-30 or 2024-12-30T08:00Z.")]
End = Annotated[str, typer.Option(help="First day or time that is not included any more: 2024-12-31.")]
Markets = Annotated[
    list[str] | None, typer.Option("--market", "-m", help="For example binance:BTC-USDT; repeat it. Default: all.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Write JSON instead of a table.")]
RowFormat = Annotated[
    Format, typer.Option("--format", "-f", metavar="FORMAT", help="table, csv, json, parquet or arrow.")
]
AsOf = Annotated[
    str | None, typer.Option("--as-of", metavar="TIME", help="What was stored at that time: 2025-01-15T12:00Z.")
]
Snapshot = Annotated[str | None, typer.Option("--snapshot", metavar="NAME", help="What that snapshot holds.")]
Timeframes = Annotated[
    list[str] | None, typer.Option("--timeframe", "-t", help="1m, 5m, … 1d; repeat it. Default: all.")
]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="Write to this file, whole or not at all.")]


def flowing_help(command: Callable[..., None]) -> str:
    """Return a command's docstring with the line ends of the source gone: a terminal breaks lines where it ends."""
    paragraphs = inspect.cleandoc(command.__doc__ or "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
