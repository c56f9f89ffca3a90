"""Rows on a terminal, in a pipe or in a file: table, CSV, JSON, Parquet, Arrow.

Not here: which rows.
"""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import IO

import msgspec
import polars as pl
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from mdp.domain.candles import TIME
from mdp.errors import InputError

MAX_TABLE_ROWS = 60


def write_rows(rows: pl.DataFrame, format_: str, output: Path | None) -> None:
    """Write rows to stdout, or to a file that is complete or not there.

    Args:
        rows: Any frame.
        format_: ``table``, ``csv``, ``json``, ``parquet`` or ``arrow`` (an IPC file).
        output: The file; None for stdout.

    Raises:
        InputError: a binary format on a terminal.
        OSError: the file cannot be written; a file that was there before is as it was.
    """
    if format_ == "table":
        _write_table(rows, output)
        return
    body = _encode(rows, format_)
    if output is not None:
        _write_file(output, body)
        return
    if format_ in ("parquet", "arrow") and sys.stdout.isatty():
        raise InputError("output", got="a terminal", expected=f"a file for {format_}, which is not text: use -o FILE")
    sys.stdout.buffer.write(body)
    sys.stdout.flush()


def _encode(rows: pl.DataFrame, format_: str) -> bytes:
    if format_ == "json":
        return msgspec.json.encode(_with_iso_times(rows).to_dicts()) + b"\n"
    buffer = io.BytesIO()
    if format_ == "csv":
        _with_iso_times(_without_lists(rows)).write_csv(buffer)
    elif format_ == "parquet":
        rows.write_parquet(buffer)
    else:
        rows.write_ipc(buffer)
    return buffer.getvalue()


def _write_file(path: Path, body: bytes) -> None:
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_bytes(body)
        unfinished.replace(path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        error.filename = str(path)
        raise


def _with_iso_times(rows: pl.DataFrame) -> pl.DataFrame:
    """Times as ISO 8601 with Z, with a fraction only where there is one."""

    def iso(name: str) -> pl.Expr:
        whole, fine = (
            pl.col(name).dt.strftime(pattern) for pattern in ("%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M:%S%.6fZ")
        )
        return pl.when(pl.col(name).dt.microsecond() == 0).then(whole).otherwise(fine).alias(name)

    return rows.with_columns(iso(name) for name, dtype in rows.schema.items() if dtype == TIME)


def _without_lists(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(
        pl.col(name).list.join(" ") for name, dtype in rows.schema.items() if dtype == pl.List(pl.String)
    )


def _write_table(rows: pl.DataFrame, output: Path | None) -> None:
    shown = _with_iso_times(rows) if len(rows) <= MAX_TABLE_ROWS else _with_iso_times(
        pl.concat([rows.head(MAX_TABLE_ROWS // 2), rows.tail(MAX_TABLE_ROWS // 2)])
    )  # fmt: skip
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name, dtype in rows.schema.items():
        table.add_column(name, justify="right" if dtype.is_numeric() else "left", no_wrap=True)
    for number, row in enumerate(shown.iter_rows()):
        if len(rows) > MAX_TABLE_ROWS and number == MAX_TABLE_ROWS // 2:
            table.add_row(*["…"] * rows.width)
        table.add_row(*["" if value is None else str(value) for value in row])
    if output is not None:
        text = io.StringIO()
        print_table(table, file=text)
        _write_file(output, text.getvalue().encode())
        return
    print_table(table)
    sys.stdout.write(f"{len(rows)} rows\n")


def print_table(table: Table, file: IO[str] | None = None) -> None:
    """Print a table in the width it needs: a terminal that is narrower wraps the line, and no number is cut."""
    console = Console(file=file or sys.stdout)
    needed = Measurement.get(console, console.options.update(max_width=1_000), table).maximum
    console.width = max(console.width, needed)
    console.print(table)
