"""Folding: live rows become part of their table, and what hid some of them is forgotten.

Not here: writing live rows (``live``), which of them count (``statements``).
"""

from __future__ import annotations

from datetime import timedelta

from google.cloud import bigquery

from mdp.domain.timeframe import Timeframe
from mdp.ports import Table
from mdp.storage.bigquery import statements
from mdp.storage.bigquery.jobs import Jobs
from mdp.storage.bigquery.names import REPLACED, live_name, physical_name
from mdp.storage.bigquery.tables import Tables


def fold_live_rows(jobs: Jobs, tables: Tables, write: str, table: Table, older_than: timedelta) -> None:
    """Give a table the live rows that count, and forget all that were written longer ago than ``older_than``.

    Args:
        jobs: Of the store.
        tables: Of the store.
        write: Name of the write.
        table: One with live rows.
        older_than: Longer than any writer takes from the beginning of a batch to its end.
    """
    tables.prepare(table)
    now = jobs.rows("clock", "SELECT CURRENT_TIMESTAMP() AS now").column(0)[0].as_py()
    moment = statements.moment("before", now - older_than)
    for name in tables.present(table):
        timeframes = [length for length in sorted(Timeframe) if physical_name(table, length) == name]
        lengths = bigquery.ArrayQueryParameter("timeframes", "STRING", timeframes)
        jobs.change(f"{write}-fold-{name}", statements.fold(table, jobs.datasets, name), [moment, lengths])
    # Only now, so that no row is ever missing; and the notes last, which hide rows that are removed before them.
    live, replaced = jobs.datasets.table(live_name(table)), jobs.datasets.table(REPLACED)
    jobs.change(f"{write}-folded", f"DELETE FROM `{live}` WHERE _written_at < @before", [moment])
    jobs.change(
        f"{write}-forget",
        f"DELETE FROM `{replaced}` WHERE table_name = @name AND written_until < @before",
        [statements.text("name", table.name), moment],
    )
