"""Rows in a table of their own, from which one statement then puts them in their place.

Not here: that statement (``statements``), the dataset (``tables``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial

import polars as pl
from google.cloud import bigquery

from mdp.errors import MdpError
from mdp.ports import Table
from mdp.storage.bigquery.columns import parquet
from mdp.storage.bigquery.jobs import UNREPEATED, Jobs
from mdp.storage.bigquery.tables import stored_fields


@contextlib.contextmanager
def staged_rows(jobs: Jobs, table: Table, write: str, rows: pl.DataFrame) -> Iterator[str]:
    """Keep rows in a table of their own inside the context.

    Args:
        jobs: Of the store.
        table: Whose rows.
        write: Name of the write that needs them.
        rows: As they are stored.

    Yields:
        Full name of the table, which is there for no rows too: by its absence a statement that is carried out after
        the context was left does nothing.
    """
    name = jobs.datasets.staged(write.replace("-", "_"))
    try:
        if rows.is_empty():
            made = bigquery.Table(name, stored_fields(table))
            jobs.add(f"table {name}", partial(_make, jobs, made))
        else:
            jobs.load(f"{write}-stage", parquet(rows), name, stored_fields(table), is_appended=False)
        yield name
    finally:
        # One that stays expires. Without it a statement that BigQuery may still have in its queue fails.
        with contextlib.suppress(MdpError):
            jobs.ask(f"removal of {name}", partial(_remove, jobs, name))


def _make(jobs: Jobs, made: bigquery.Table) -> None:
    jobs.client.create_table(made, retry=UNREPEATED, timeout=jobs.timeout_s)


def _remove(jobs: Jobs, name: str) -> None:
    jobs.client.delete_table(name, not_found_ok=True, retry=UNREPEATED, timeout=jobs.timeout_s)
