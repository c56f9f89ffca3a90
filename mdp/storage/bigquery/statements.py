"""The statements, as text with parameters: a value from outside is never part of the text.

Not here: running them (``jobs``), which tables there are (``tables``).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

import polars as pl
from google.cloud import bigquery

from mdp.ports import Slice, Table
from mdp.storage.bigquery.columns import ORDINAL, WRITTEN_AT, sql_type
from mdp.storage.bigquery.names import LIVE_TABLES, REPLACED, Datasets, live_name, physical_name, physical_names
from mdp.storage.rows import timeframe_names

Parameters = list[bigquery.ScalarQueryParameter | bigquery.ArrayQueryParameter]


def moment(name: str, value: datetime) -> bigquery.ScalarQueryParameter:
    """Return a parameter that is a time."""
    return bigquery.ScalarQueryParameter(name, "TIMESTAMP", value)


def text(name: str, value: str) -> bigquery.ScalarQueryParameter:
    """Return a parameter that is a text."""
    return bigquery.ScalarQueryParameter(name, "STRING", value)


def slice_parameters(part: Slice, prefix: str = "") -> Parameters:
    """Return what :func:`in_slice` asks for."""
    return [
        text(f"{prefix}exchange", part.market.exchange.value),
        text(f"{prefix}symbol", part.market.symbol_key),
        bigquery.ArrayQueryParameter(f"{prefix}timeframes", "STRING", timeframe_names(part)),
        moment(f"{prefix}start", part.window.start),
        moment(f"{prefix}end", part.window.end),
    ]


def in_slice(table: Table, alias: str, prefix: str = "") -> str:
    """Return the condition that a row lies in a slice, with bounds of the time by which partitions are pruned."""
    time = f"{alias}.`{table.time_column}`"
    return (
        f"{alias}.exchange = @{prefix}exchange AND {alias}.symbol = @{prefix}symbol"
        f" AND {alias}.timeframe IN UNNEST(@{prefix}timeframes)"
        f" AND {time} >= @{prefix}start AND {time} < @{prefix}end"
    )


def in_any_slice(table: Table, alias: str, count: int) -> str:
    """Return the condition that a row lies in one of several slices, numbered from 0."""
    return " OR ".join(f"({in_slice(table, alias, f's{number}_')})" for number in range(count)) or "FALSE"


def listed(names: Collection[str], alias: str = "") -> str:
    """Return names of columns as a list."""
    dot = f"{alias}." if alias else ""
    return ", ".join(f"{dot}`{name}`" for name in names)


def ordered(table: Table) -> str:
    """Return the order in which rows are read."""
    return listed(["timeframe", *table.sort_by, ORDINAL])


def stored_columns(table: Table) -> list[str]:
    """Return the columns of a table as it is stored."""
    return [*table.schema, ORDINAL]


def chosen(table: Table, names: Sequence[str], there: Collection[str]) -> str:
    """Return columns as a list; those that an older table lacks are null."""
    return ", ".join(
        f"`{name}`" if name in there else f"CAST(NULL AS {_type(table, name)}) AS `{name}`" for name in names
    )


def _type(table: Table, name: str) -> str:
    return sql_type(table.schema[name]) if name in table.schema else sql_type(pl.Int64())


def visible_rows(table: Table, datasets: Datasets, present: Mapping[str, Collection[str]], condition: str) -> str:
    """Return the query of the rows that count, with the columns as they are stored.

    Of a table with live rows: the live row of a key that was written last, unless its slice was replaced after it,
    in place of what is stored under the key.

    Args:
        table: Whose rows.
        datasets: Of the store.
        present: The tables that hold them, with their columns.
        condition: Which rows, by columns of ``b``.
    """
    columns = stored_columns(table)
    kept = [
        f"SELECT {chosen(table, columns, there)} FROM `{datasets.table(name)}` AS b WHERE ({condition})"
        for name, there in present.items()
    ]
    stored = "\nUNION ALL\n".join(kept)
    if table.name not in LIVE_TABLES:
        return stored
    key = ["exchange", "symbol", "timeframe", table.time_column]
    same = " AND ".join(f"live.`{name}` = k.`{name}`" for name in key)
    return (
        f"WITH live AS (\n{live_rows(table, datasets, condition)}\n)\n"
        f"SELECT {listed(columns)} FROM (\n{stored}\n) AS k WHERE NOT EXISTS (SELECT 1 FROM live WHERE {same})\n"
        f"UNION ALL SELECT {listed(columns)} FROM live"
    )


def live_rows(table: Table, datasets: Datasets, condition: str) -> str:
    """Return the query of the live rows that count: of each key the last one that no later replacement hides."""
    key = listed(["exchange", "symbol", "timeframe", table.time_column], "b")
    return (
        f"SELECT {listed([*stored_columns(table), WRITTEN_AT], 'b')} FROM `{datasets.table(live_name(table))}` AS b"
        f" WHERE ({condition}) AND {_counts(table, datasets)}"
        f" QUALIFY ROW_NUMBER() OVER (PARTITION BY {key} ORDER BY b.{WRITTEN_AT} DESC, b.{ORDINAL} DESC) = 1"
    )


def _counts(table: Table, datasets: Datasets) -> str:
    time = f"b.`{table.time_column}`"
    return (
        f"NOT EXISTS (SELECT 1 FROM `{datasets.table(REPLACED)}` AS r WHERE r.table_name = '{table.name}'"
        " AND r.exchange = b.exchange AND r.symbol = b.symbol AND r.timeframe = b.timeframe"
        f" AND r.window_start <= {time} AND r.window_end > {time} AND r.written_until >= b.{WRITTEN_AT})"
    )


def live_count(table: Table, datasets: Datasets) -> str:
    """Return the query that counts the live rows of a slice, hidden ones too."""
    return f"SELECT COUNT(*) AS live FROM `{datasets.table(live_name(table))}` AS b WHERE {in_slice(table, 'b')}"


def replacement(table: Table, datasets: Datasets, part: Slice, staged: str, *, has_live: bool) -> str:
    """Return the statement or the script that makes staged rows the content of a slice.

    Args:
        table: Where to.
        datasets: Of the store.
        part: The slice.
        staged: Full name of the table with the rows.
        has_live: Whether there are live rows in the slice, which then cease to count.

    Source: https://cloud.google.com/bigquery/docs/reference/standard-sql/dml-syntax#merge_statement, 2026: the
        condition of NOT MATCHED BY SOURCE prunes partitions where the join condition is FALSE.
    """
    merges = [_merge(table, datasets, name, staged, part) for name in physical_names(table, timeframe_names(part))]
    if has_live:
        merges.append(_mark_replaced(table, datasets))
    return merges[0] if len(merges) == 1 else in_transaction(merges)


def in_transaction(statements: Sequence[str]) -> str:
    """Return a script whose statements have effect all at once or not at all."""
    return "BEGIN TRANSACTION;\n" + ";\n".join(statements) + ";\nCOMMIT TRANSACTION;"


def _merge(table: Table, datasets: Datasets, name: str, staged: str, part: Slice) -> str:
    target = f"`{datasets.table(name)}`"
    columns = listed(stored_columns(table))
    return (
        f"MERGE {target} AS t USING (SELECT {columns} FROM `{staged}` WHERE {_of_table(table, name, part)}) AS s"
        f" ON FALSE WHEN NOT MATCHED BY SOURCE AND {in_slice(table, 't')} THEN DELETE"
        f" WHEN NOT MATCHED THEN INSERT ({columns}) VALUES ({columns})"
    )


def addition(table: Table, datasets: Datasets, name: str, staged: str, timeframes: Sequence[str]) -> str:
    """Return the statement that adds those staged rows that belong to one table."""
    columns = listed(stored_columns(table))
    return (
        f"INSERT INTO `{datasets.table(name)}` ({columns}) SELECT {columns} FROM `{staged}`"
        f" WHERE {_where(table, name, timeframes)}"
    )


def _of_table(table: Table, name: str, part: Slice) -> str:
    return _where(table, name, timeframe_names(part))


def _where(table: Table, name: str, timeframes: Sequence[str]) -> str:
    mine = [length for length in timeframes if physical_name(table, length) == name]
    return " OR ".join(f"timeframe = '{length}'" for length in mine)


def _mark_replaced(table: Table, datasets: Datasets) -> str:
    return (
        f"INSERT INTO `{datasets.table(REPLACED)}`"
        " (table_name, exchange, symbol, timeframe, window_start, window_end, written_until)"
        f" SELECT '{table.name}', @exchange, @symbol, b.timeframe, @start, @end, MAX(b.{WRITTEN_AT})"
        f" FROM `{datasets.table(live_name(table))}` AS b WHERE {in_slice(table, 'b')} GROUP BY b.timeframe"
    )


def fold(table: Table, datasets: Datasets, name: str) -> str:
    """Return the statement that gives a table those live rows that were written before ``@before`` and count."""
    columns = stored_columns(table)
    key = ["exchange", "symbol", "timeframe", table.time_column]
    here = f"b.{WRITTEN_AT} < @before AND b.timeframe IN UNNEST(@timeframes)"
    values = ", ".join(f"`{column}` = s.`{column}`" for column in columns if column not in key)
    return (
        f"MERGE `{datasets.table(name)}` AS t USING (\n{live_rows(table, datasets, here)}\n) AS s ON "
        + " AND ".join(f"t.`{column}` = s.`{column}`" for column in key)
        + f" WHEN MATCHED THEN UPDATE SET {values}"
        + f" WHEN NOT MATCHED THEN INSERT ({listed(columns)}) VALUES ({listed(columns)})"
    )
