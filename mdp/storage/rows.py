"""What any store asks of rows: that they lie in their slice, how they are chosen and in which order they stand.

Not here: how and where rows are kept (``memory``, ``delta``), whether a row is a good candle (``domain.rules``).
"""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import datetime, timedelta

import polars as pl

from mdp.domain.candles import require_schema
from mdp.domain.interval import Interval
from mdp.domain.market import Market
from mdp.domain.timeframe import Timeframe
from mdp.errors import InputError, InvariantViolation
from mdp.ports import DVOL, OHLCV, Slice, Table

KEY_COLUMNS: tuple[str, ...] = ("exchange", "symbol", "timeframe")
"""What every table begins with, and what is the same for all rows of one market and timeframe."""


def is_in_window(column: str, window: Interval) -> pl.Expr:
    """Return whether a time lies in ``window``; null where the time is null."""
    return (pl.col(column) >= window.start) & (pl.col(column) < window.end)


def is_in_slice(table: Table, part: Slice) -> pl.Expr:
    """Return whether a row belongs to a slice; never null."""
    return pl.all_horizontal(_slice_rules(table, part).values())


def _slice_rules(table: Table, part: Slice) -> dict[str, pl.Expr]:
    rules = {
        "market_is_the_slice's": (pl.col("exchange") == part.market.exchange.value)
        & (pl.col("symbol") == part.market.symbol_key),
        "timeframe_is_the_slice's": pl.col("timeframe").is_in(timeframe_names(part)),
        f"{table.time_column}_is_in_window": is_in_window(table.time_column, part.window),
    }
    # A missing value belongs to no slice; without this it would count as neither inside nor outside.
    return {name: rule.fill_null(value=False) for name, rule in rules.items()}


def timeframe_names(part: Slice) -> list[str]:
    """Return the timeframes of a slice, each once, in the order in which rows are read."""
    return sorted({timeframe.value for timeframe in part.timeframes})


def require_inside(table: Table, part: Slice, rows: pl.DataFrame) -> None:
    """Refuse rows that are not of the table's schema or do not lie in the slice.

    Raises:
        SchemaMismatch: the frame is not of the table's schema.
        InvariantViolation: counts the rows of another market, of another timeframe and outside the window.
    """
    require_schema(rows, table.schema, table.name)
    _require(table, rows, _slice_rules(table, part))


def require_storable(table: Table, rows: pl.DataFrame) -> None:
    """Refuse rows that are not of the table's schema or belong to no market, timeframe or time.

    Raises:
        SchemaMismatch: the frame is not of the table's schema.
        InvariantViolation: counts the rows without a known key and without a time.
    """
    require_schema(rows, table.schema, table.name)
    keys = rows.select(KEY_COLUMNS).unique()
    unknown = keys.filter(pl.Series([not _is_key(*key) for key in keys.rows()], dtype=pl.Boolean))
    if not unknown.is_empty():
        count = rows.join(unknown, on=KEY_COLUMNS, how="semi", nulls_equal=True).height
        raise InvariantViolation(table.name, {"market_and_timeframe_are_known": count})
    _require(table, rows, {f"{table.time_column}_is_present": pl.col(table.time_column).is_not_null()})


LIVE_TABLES: tuple[Table, ...] = (OHLCV, DVOL)
"""Tables whose rows can be added one by one: their key is the market, the timeframe and the time column."""


def require_live(table: Table, rows: pl.DataFrame) -> None:
    """Refuse rows that cannot be added or changed one by one.

    Raises:
        InputError: the table's rows have no key of their own.
        SchemaMismatch: the frame is not of the table's schema.
        InvariantViolation: counts the rows that belong nowhere, and those whose key is another's too.
    """
    if table not in LIVE_TABLES:
        raise InputError("table", got=table.name, expected=" or ".join(each.name for each in LIVE_TABLES))
    require_storable(table, rows)
    repeated = rows.select(pl.struct(*KEY_COLUMNS, table.time_column).is_duplicated().sum()).item()
    if repeated:
        raise InvariantViolation(table.name, {"key_is_unique": repeated})


def require_time_column(table: Table, column: str, before: datetime) -> None:
    """Refuse to cut a table by what is no time of it.

    Raises:
        InputError: the column is not one of times, or the moment names no instant.
    """
    of_time = [name for name, dtype in table.schema.items() if isinstance(dtype, pl.Datetime)]
    if column not in of_time:
        raise InputError("column", got=column, expected=f"a time of {table.name}: {', '.join(of_time)}")
    if before.tzinfo is None:
        raise InputError("before", got=before, expected="a time with a time zone")


SHORTEST_KEEP = timedelta(hours=1)
"""A reader or writer may work on an older version for so long."""


def require_long_enough(keep: timedelta) -> None:
    """Refuse a time so short that somebody may still work on what is removed.

    Raises:
        InputError: less than an hour.
    """
    if keep < SHORTEST_KEEP:
        raise InputError("keep", got=keep, expected=f"at least {SHORTEST_KEEP}")


_SNAPSHOT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def is_snapshot_name(name: str) -> bool:
    """Tell whether a snapshot may have this name."""
    return _SNAPSHOT_NAME.fullmatch(name) is not None


def require_snapshot_name(name: str) -> None:
    """Refuse what is no name of a snapshot.

    Raises:
        InputError: empty, too long, or of characters that not every store can keep.
    """
    if not is_snapshot_name(name):
        expected = "1 to 100 letters, digits, dots, dashes and underscores, beginning with a letter or digit"
        raise InputError("snapshot", got=name, expected=expected)


def _require(table: Table, rows: pl.DataFrame, rules: dict[str, pl.Expr]) -> None:
    broken = rows.select((~rule).sum().alias(name) for name, rule in rules.items()).row(0, named=True)
    failures = {name: count for name, count in broken.items() if count}
    if failures:
        raise InvariantViolation(table.name, failures)


def _is_key(exchange: str | None, symbol: str | None, timeframe: str | None) -> bool:
    try:
        return str(Market.parse(f"{exchange}:{symbol}")) == f"{exchange}:{symbol}" and timeframe in list(Timeframe)
    except ValueError:
        return False


def chosen_columns(table: Table, columns: Collection[str] | None) -> list[str]:
    """Return the asked columns in the order of the table's schema; all of them when None.

    Raises:
        InputError: a column that the table does not have.
    """
    wanted = set(table.schema if columns is None else columns)
    unknown = sorted(wanted.difference(table.schema))
    if unknown:
        raise InputError("columns", got=unknown, expected=f"columns of {table.name}: {', '.join(table.schema)}")
    return [name for name in table.schema if name in wanted]


def in_order(table: Table, rows: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of one market and timeframe in the table's order; ties keep the order they came in.

    Rows that already stand in order, which is the rule, are not sorted again: a look costs a tenth of a sort.
    """
    return rows if _is_ordered(table, rows) else rows.sort(table.sort_by, maintain_order=True)


def _is_ordered(table: Table, rows: pl.DataFrame) -> bool:
    equal, ordered = pl.lit(value=True), pl.lit(value=False)
    for name in table.sort_by:
        here, before = pl.col(name), pl.col(name).shift(1)
        ordered = ordered | (equal & (here > before))
        equal = equal & (here == before)
    # Nulls make a comparison null, which counts as not in order: the sort then decides where they stand.
    steps = rows.select((ordered | equal).fill_null(value=False).slice(1).all().alias("ordered"))
    return bool(steps.item())
