"""Rows on a terminal, in a pipe or in a file: table, CSV, JSON, Parquet, Arrow.

Not here: which rows, and how a value is spelled (``values``).
"""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import IO

import polars as pl
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from mdp.cli.values import as_json, as_text
from mdp.errors import InputError

MAX_TABLE_ROWS = 60
_WIDEST = 1_000_000


def write_rows(rows: pl.DataFrame, format_: str, output: Path | None) -> None:
    """Write rows to stdout, or to a file that is complete or not there.

    Args:
        rows: Any frame.
        format_: ``table``, ``csv``, ``json``, ``parquet`` or ``arrow`` (an IPC file).
        output: The file; None for stdout.

    Raises:
        InputError: a binary format on a terminal, or a column the format cannot hold.
        OSError: the file cannot be written; a file that was there before is as it was.
    """
    if format_ == "table":
        _write_table(rows, output)
        return
    body = _encode(rows, format_)
    if output is not None:
        write_file(output, body)
        return
    if format_ in ("parquet", "arrow") and sys.stdout.isatty():
        raise InputError("output", got="a terminal", expected=f"a file for {format_}, which is not text: use -o FILE")
    sys.stdout.buffer.write(body)
    sys.stdout.flush()


def _encode(rows: pl.DataFrame, format_: str) -> bytes:
    if format_ == "json":
        return as_json(rows) + b"\n"
    buffer = io.BytesIO()
    if format_ == "csv":
        as_text(rows).write_csv(buffer)
    elif format_ == "parquet":
        rows.write_parquet(buffer)
    else:
        rows.write_ipc(buffer)
    return buffer.getvalue()


def write_file(path: Path, body: bytes) -> None:
    """Write a file that is complete or not there.

    Raises:
        OSError: it cannot be written; one that was there before is as it was.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_bytes(body)
        unfinished.replace(path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        error.filename = str(path)
        raise


def _write_table(rows: pl.DataFrame, output: Path | None) -> None:
    half = MAX_TABLE_ROWS // 2
    is_long = len(rows) > MAX_TABLE_ROWS
    shown = as_text(pl.concat([rows.head(half), rows.tail(half)]) if is_long else rows)
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name, dtype in rows.schema.items():
        table.add_column(_cell(name), justify="right" if dtype.is_numeric() else "left", no_wrap=True)
    for number, row in enumerate(shown.iter_rows()):
        if is_long and number == half:
            table.add_row(*["…"] * rows.width)
        table.add_row(*[_cell(value) for value in row])
    if output is not None:
        text = io.StringIO()
        print_table(table, file=text)
        write_file(output, text.getvalue().encode())
        return
    print_table(table)
    sys.stdout.write(f"{len(rows)} {'row' if len(rows) == 1 else 'rows'}\n")


def _cell(value: object) -> Text:
    """Show a value as it is: brackets are no markup."""
    return Text("" if value is None else shown(str(value)))


def shown(text: str) -> str:
    """Return a text as a terminal may have it: a control character is spelled out, so that it does nothing there."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one == "\n" else repr(one)[1:-1] for one in text)


def print_table(table: Table, file: IO[str] | None = None) -> None:
    """Print a table in the width it needs: a terminal that is narrower wraps the line, and no number is cut."""
    console = Console(file=file or sys.stdout)
    needed = Measurement.get(console, console.options.update(max_width=_WIDEST), table).maximum
    console.width = max(console.width, needed)
    console.print(table)
