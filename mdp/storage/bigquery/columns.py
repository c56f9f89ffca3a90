"""What our columns are in BigQuery: their types, what they mean, and rows as Parquet and back.

BigQuery knows neither a missing list nor a missing part of a list (an ``ARRAY`` that is null is stored as an empty
one), so lists of texts are kept as JSON text, which the views turn into arrays. It keeps no order of rows:
``_ordinal`` does.
Not here: which tables there are (``tables``).
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from typing import Any

import polars as pl

from mdp.domain.candles import require_schema
from mdp.ports import Table

ORDINAL = "_ordinal"
"""Orders rows that tie: of those given at once, as they were given; of others, the later ones after."""

WRITTEN_AT = "_written_at"
"""Of a live row: Google's clock when it was written."""

_TEXTS = pl.List(pl.String)

_MEANING = {
    "exchange": "Where it is traded, such as binance",
    "symbol": "What is traded, such as BTC-USDT",
    "timeframe": "Length of the candle: 1m, 5m, 15m, 1h, 4h or 1d",
    "open_time": "First instant of the candle; the key",
    "window_start": "First instant of what was asked for",
    "window_end": "End of what was asked for, exclusive",
    "start": "First missing instant",
    "end": "End of what is missing, exclusive",
    "volume": "Amount traded, in the base coin",
    "quote_volume": "Amount traded, in the quote coin; null where the exchange does not give it",
    "trades": "Number of trades; null where the exchange does not give it",
    "minutes": "How many minutes the candle holds",
    "closed": "Whether the exchange had finished the candle when it answered",
    "source": "Where it came from: rest, archive, stream or resampled",
    "ingested_at": "When the values were first received",
    "fetched_at": "When the answer was received",
    "failed_rules": "Names of the rules it broke, as JSON",
    "files": "Archive files that were read, as JSON",
    "slots": "Length, in candles",
    "cause": "Why nothing is there",
    "sightings": "How often it was found missing",
    "is_permanent": "Whether it was found missing often enough to be final",
    "revised_at": "When the old values ceased to be what is stored",
    "old_ingested_at": "When the old values were received",
    "digest": "Of the rows that came",
    "sha256": "Of the file as received",
    "dvol": "Volatility index, percent",
    "age_minutes": "Age of the index value at open_time",
    "hour_open_time": "Open time of the candle the value is the close of",
    ORDINAL: "Order of rows that tie; leave it out",
    WRITTEN_AT: "When the live row was written, by Google's clock",
}

PHYSICAL = pl.Schema({ORDINAL: pl.Int64()})
"""What every table has beside our columns."""


def sql_type(dtype: pl.DataType) -> str:
    """Return the type in BigQuery that keeps every value of one of ours.

    Source: https://cloud.google.com/bigquery/docs/reference/standard-sql/data-types, 2026.
    """
    if isinstance(dtype, pl.Datetime):
        return "TIMESTAMP"
    names: dict[Any, str] = {
        pl.String: "STRING",
        _TEXTS: "STRING",
        pl.Float64: "FLOAT64",
        pl.Int64: "INT64",
        pl.Int32: "INT64",
        pl.Boolean: "BOOL",
    }
    return next(name for ours, name in names.items() if dtype == ours)


def is_list(dtype: pl.DataType) -> bool:
    """Tell whether a column is kept as JSON text."""
    return dtype == _TEXTS


def meaning(column: str) -> str | None:
    """Return what a column means, in a line."""
    return _MEANING.get(column)


def stored(rows: pl.DataFrame, first_ordinal: int, **constants: pl.Expr) -> pl.DataFrame:
    """Return rows as they are stored, each with its ordinal.

    Args:
        rows: Of the table's schema.
        first_ordinal: Of the first row; the others count on.
        constants: Further columns.

    Shape:
        Our columns, with lists as JSON text and all whole numbers as ``Int64``, then ``_ordinal``, then the constants.
    """
    lists = {name: _to_json(rows[name]) for name, dtype in rows.schema.items() if is_list(dtype)}
    whole = [pl.col(name).cast(pl.Int64) for name, dtype in rows.schema.items() if dtype == pl.Int32()]
    ordinals = pl.int_range(first_ordinal, first_ordinal + rows.height, dtype=pl.Int64).alias(ORDINAL)
    return rows.with_columns(*lists.values(), *whole).with_columns(ordinals, **constants)


def parquet(rows: pl.DataFrame) -> bytes:
    """Return stored rows as the bytes of one Parquet file."""
    body = io.BytesIO()
    rows.write_parquet(body, compression="zstd", compression_level=3)
    return body.getvalue()


def restored(table: Table, answer: Any, names: Sequence[str]) -> pl.DataFrame:
    """Return rows as they were before they were stored.

    Args:
        table: Whose rows.
        answer: An Arrow table with the asked columns.
        names: The asked columns.

    Raises:
        SchemaMismatch: what BigQuery answered cannot be made what was stored.
    """
    wanted = pl.Schema({name: table.schema[name] for name in names})
    rows = pl.from_arrow(answer)
    if not isinstance(rows, pl.DataFrame):
        raise TypeError(f"expected a table, got {type(answer).__name__}")
    there = {name: dtype for name, dtype in wanted.items() if name in rows.schema}
    lists = [_from_json(rows[name]) for name, dtype in there.items() if is_list(dtype)]
    rows = rows.with_columns(lists).cast({name: dtype for name, dtype in there.items() if not is_list(dtype)})
    require_schema(rows, wanted, table.name)
    return rows.rechunk()


def _to_json(texts: pl.Series) -> pl.Series:
    values = [None if value is None else json.dumps(value, ensure_ascii=False) for value in texts.to_list()]
    return pl.Series(texts.name, values, dtype=pl.String)


def _from_json(texts: pl.Series) -> pl.Series:
    if texts.dtype == _TEXTS:
        return texts
    return pl.Series(
        texts.name, [None if value is None else json.loads(value) for value in texts.to_list()], dtype=_TEXTS
    )
