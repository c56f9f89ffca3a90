"""The digest of a table: what its rows say, as 64 hexadecimal digits that are the same on every machine.

Not here: the schemas (``candles``), where digests are kept (``pipeline``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

_NOT_CONTENT = (
    "ingested_at", "fetched_at", "failed_at", "seen_at", "first_seen_at", "revised_at", "old_ingested_at",
)  # fmt: skip

_Feed = Callable[[int, int], tuple[Any, ...]]  # arrays or bytes: buffers, for which 3.11 has no type
"""Returns what rows ``first`` up to ``last`` of one column add to a digest, piece by piece, not copied."""


def digest(frame: pl.DataFrame) -> str:
    """Return the SHA-256 of what a frame says, whatever day it was collected on.

    Two frames with the same rows in the same order have the same digest on every machine and library version; the
    columns that say when a row was collected do not count.

    Returns:
        64 hexadecimal digits.
    """
    return digests_of_runs(frame, [0, len(frame)])[0]


def digests_of_runs(frame: pl.DataFrame, bounds: Sequence[int]) -> list[str]:
    """Return the digest of each run of rows, as :func:`digest` would of a frame of these rows alone.

    One look at the columns serves all runs: a month by days takes a twentieth of the time of its days one by one.

    Args:
        frame: The rows.
        bounds: Ascending row numbers; run ``i`` holds rows ``bounds[i]`` up to, but not including, ``bounds[i + 1]``.
    """
    columns = [column for column in frame if column.name not in _NOT_CONTENT]
    feeds = [(f"{column.name}|{column.dtype}|", _feed(column)) for column in columns]
    found = []
    for first, last in pairwise(bounds):
        sha = hashlib.sha256()
        for head, feed in feeds:
            sha.update(f"{head}{last - first}|".encode())
            for piece in feed(first, last):
                sha.update(piece)
        found.append(sha.hexdigest())
    return found


def content_equals(one: pl.DataFrame, other: pl.DataFrame) -> bool:
    """Tell whether two frames of one schema would have the same digest, without making it."""
    if len(one) != len(other):
        return False
    return one.drop(_NOT_CONTENT, strict=False).equals(other.drop(_NOT_CONTENT, strict=False), null_equal=True)


def _feed(column: pl.Series) -> _Feed:
    """Which rows are null, then the values: texts as their lengths and letters, numbers as they lie in memory."""
    nulls = _nulls(column)
    if column.dtype == pl.List(pl.String):
        lengths = column.list.len().fill_null(0).cast(pl.Int64)
        return _joined(nulls, _listed(lengths.to_numpy(), _texts(column.filter(lengths > 0).explode())))
    if column.dtype == pl.String:
        return _joined(nulls, _texts(column))
    values = np.ascontiguousarray(column.to_physical().fill_null(0).to_numpy())
    return _joined(nulls, lambda first, last: (values[first:last],))


def _nulls(column: pl.Series) -> NDArray[np.uint8]:
    if not column.null_count():
        return np.zeros(len(column), np.uint8)
    return column.is_null().cast(pl.UInt8).to_numpy()


def _joined(nulls: NDArray[np.uint8], values: _Feed) -> _Feed:
    return lambda first, last: (nulls[first:last], *values(first, last))


def _texts(column: pl.Series) -> _Feed:
    """Lengths in bytes, then the letters of all."""
    if not len(column):
        return lambda _first, _last: (b"",)
    texts = column.fill_null("")
    if texts.n_unique() == 1:  # as exchange, symbol and timeframe mostly are
        letters = str(texts[0]).encode()
        same = np.full(len(texts), len(letters), np.int64)
        return lambda first, last: (same[first:last], letters * (last - first))
    lengths = texts.str.len_bytes().cast(pl.Int64).to_numpy()
    letters = str(texts.str.join("").item()).encode()
    ends = _ends(lengths)
    return lambda first, last: (lengths[first:last], letters[ends[first] : ends[last]])


def _listed(lengths: NDArray[np.int64], texts: _Feed) -> _Feed:
    """Lengths of the lists, then the texts in them."""
    ends = _ends(lengths)
    return lambda first, last: (lengths[first:last], *texts(int(ends[first]), int(ends[last])))


def _ends(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate((np.zeros(1, np.int64), np.cumsum(lengths)))
