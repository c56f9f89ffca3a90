"""Tables from the wire: Arrow into frames of the schemas of ``domain.candles``, checked before anybody trusts them.

polars is imported when the first table comes: a program that only follows streams never loads it. Not here: how pages
hang together (``paging``).
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING

from mdp.client.errors import BadAnswer, Unreachable, describe
from mdp.client.questions import ARROW, Reply
from mdp.errors import SchemaMismatch

if TYPE_CHECKING:
    import polars as pl

_END = b"\xff\xff\xff\xff\x00\x00\x00\x00"
"""The end of an Arrow stream.

Source:
    Arrow columnar format, "IPC Streaming Format": 0xFFFFFFFF and a length of zero.
"""


def read_table(reply: Reply) -> pl.DataFrame:
    """Return the table of an answer, whatever its columns.

    Raises:
        BadAnswer: it is no Arrow stream.
        Unreachable: it was cut off; a retry can help.
    """
    import polars as pl

    if reply.headers.get("content-type", "").partition(";")[0].strip().lower() != ARROW:
        raise BadAnswer(
            reply.asked, f"expected {ARROW}, got {describe(reply.headers, reply.body)}", status=reply.status
        )
    if not reply.body.endswith(_END):  # cut between two batches it could be read without complaint
        found = f"{len(reply.body)} bytes without an end"
        raise Unreachable(reply.asked, f"expected a whole table, got {found}", status=reply.status)
    try:
        return pl.read_ipc_stream(io.BytesIO(reply.body))
    except (OSError, pl.exceptions.PolarsError) as error:
        words = f"{type(error).__name__}: {str(error)[:200]}"
        raise BadAnswer(reply.asked, f"the table cannot be read: {words}", status=reply.status) from error


def as_schema(
    reply: Reply, found: pl.DataFrame, schema: Mapping[str, pl.DataType], same: Mapping[str, str] | None = None
) -> pl.DataFrame:
    """Return a table as one of ``schema``.

    Args:
        reply: Where it came from.
        found: Its columns in any order; such as are not of the schema are left out: a newer service may know more.
        schema: What is wanted.
        same: Columns that are the same in each row and were not sent.

    Raises:
        BadAnswer: a column is missing or of another type.
    """
    import polars as pl

    from mdp.domain.candles import require_schema

    said = [pl.lit(text, dtype=pl.String).alias(name) for name, text in (same or {}).items() if name not in found]
    table = found.with_columns(said) if said else found
    table = table.select(name for name in schema if name in table.columns)
    try:
        require_schema(table, pl.Schema(schema), reply.asked)
    except SchemaMismatch as error:
        raise BadAnswer(reply.asked, "; ".join(error.differences), status=reply.status) from error
    return table
