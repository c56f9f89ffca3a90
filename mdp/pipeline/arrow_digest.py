"""The digest of rows byte for byte, as the Arrow stream that any reader would get of them.

Not here: the digest of what rows say, whatever day they were collected on and whoever writes them (``domain.digests``).
"""

from __future__ import annotations

import hashlib
from typing import IO, Any, cast

import polars as pl


class _Sha256:
    """A file of which nothing is kept but its digest."""

    def __init__(self) -> None:
        self._sha = hashlib.sha256()

    def write(self, body: bytes) -> int:
        self._sha.update(body)
        return len(body)

    def flush(self) -> None:
        """Do nothing: nothing waits."""

    def hexdigest(self) -> str:
        return self._sha.hexdigest()


def arrow_sha256(rows: pl.DataFrame) -> str:
    """Return the SHA-256 of rows as an Arrow IPC stream: equal for frames that are byte for byte the same table.

    The stream is one record batch, uncompressed, texts as ``LargeUtf8``. What memory holds below a null is part of an
    Arrow stream though of no table, and differs by how a frame was made; it is made zero first.

    Returns:
        64 hexadecimal digits.
    """
    sha = _Sha256()
    columns = [_with_zeros_below_nulls(column) for column in rows.rechunk().iter_columns()]
    sink = cast("IO[bytes]", sha)  # polars only writes to it
    pl.DataFrame(columns).write_ipc_stream(sink, compat_level=pl.CompatLevel.oldest())
    return sha.hexdigest()


def _with_zeros_below_nulls(column: pl.Series) -> pl.Series:
    if not column.null_count():
        return column
    zero: Any = {pl.String: "", pl.Boolean: False}.get(type(column.dtype), 0)
    filled = column.to_physical().fill_null(zero)
    again = pl.when(column.is_not_null()).then(filled).otherwise(None)
    return pl.select(again.alias(column.name)).to_series().cast(column.dtype)
