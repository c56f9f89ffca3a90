"""Live rows: written through the Storage Write API, read in place of what is stored, folded into it later.

Each batch is a stream of its own that is committed in one step: all its rows or none, once. What a row's
``_written_at`` says is when Google made the stream: one clock for all writers, so that of two batches the later one is
known to be later. A replacement does not remove the live rows of its slice, for rows written a moment ago cannot always
be changed by a statement; it notes up to which time they cease to count.
Not here: which rows count (``statements``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

import polars as pl
import stamina
from google.api_core import exceptions as api
from google.cloud.bigquery_storage_v1 import BigQueryWriteClient, types

from mdp.domain.candles import TIME
from mdp.errors import StorageError
from mdp.ports import Table
from mdp.storage.bigquery.columns import WRITTEN_AT, stored
from mdp.storage.bigquery.failures import FAILURES, explained
from mdp.storage.bigquery.names import Datasets, live_name

_BATCH_ROWS = 20_000
"""A request holds at most 10 MB; a candle takes about 150 bytes."""

_T = TypeVar("_T")
_PASSING = (
    api.ServiceUnavailable,
    api.InternalServerError,
    api.DeadlineExceeded,
    api.TooManyRequests,
    api.Aborted,
    api.Unknown,
    api.Cancelled,
    api.NotFound,  # for a while, of a table that was made a moment ago
)


class LiveWriter:
    """Writes batches of live rows.

    Args:
        client: Google's client of the Storage Write API.
        datasets: Of the store.
        patience_s: How long a request is tried.
        timeout_s: How long one try of it is waited for.
    """

    def __init__(self, client: BigQueryWriteClient, datasets: Datasets, patience_s: float, timeout_s: float) -> None:
        self._client = client
        self._datasets = datasets
        self._patience_s = patience_s
        self._timeout_s = timeout_s

    def write(self, table: Table, rows: pl.DataFrame) -> None:
        """Write rows with unique keys, all or none, once.

        Raises:
            StoreUnavailable: no answer; the rows are written or not.
        """
        parent = f"projects/{self._datasets.project}/datasets/{self._datasets.main}/tables/{live_name(table)}"
        doing = f"live rows of {table.name}"
        pending = types.WriteStream(type_=types.WriteStream.Type.PENDING)
        stream = self._ask(
            doing,
            lambda: self._client.create_write_stream(
                parent=parent, write_stream=pending, retry=None, timeout=self._timeout_s
            ),
        )
        for offset, batch in _batches(rows, stream.create_time):
            self._ask(doing, partial(self._append, stream.name, offset, batch))
        self._ask(
            doing, lambda: self._client.finalize_write_stream(name=stream.name, retry=None, timeout=self._timeout_s)
        )
        self._ask(doing, lambda: self._commit(parent, stream.name))

    def _append(self, stream: str, offset: int, batch: Any) -> None:
        request = types.AppendRowsRequest(write_stream=stream, offset=offset)
        request.arrow_rows.writer_schema.serialized_schema = batch.schema.serialize().to_pybytes()
        request.arrow_rows.rows.serialized_record_batch = batch.serialize().to_pybytes()
        # Google routes the stream by this header, which the generated client does not set for it.
        routed = (("x-goog-request-params", f"write_stream={stream}"),)
        # What was appended before and whose answer was lost is said to exist: it is what was wanted.
        with contextlib.suppress(api.AlreadyExists, _Written):
            answers = self._client.append_rows(iter([request]), retry=None, timeout=self._timeout_s, metadata=routed)
            _require_appended(next(iter(answers)))

    def _commit(self, parent: str, stream: str) -> None:
        asked = types.BatchCommitWriteStreamsRequest(parent=parent, write_streams=[stream])
        answer = self._client.batch_commit_write_streams(request=asked, retry=None, timeout=self._timeout_s)
        codes = types.StorageError.StorageErrorCode
        for error in answer.stream_errors:
            if error.code != codes.STREAM_ALREADY_COMMITTED:
                raise StorageError(f"BigQuery does not commit {stream}: {error.code.name}: {error.error_message}")

    def _ask(self, doing: str, request: Callable[[], _T]) -> _T:
        try:
            for attempt in stamina.retry_context(
                on=_PASSING, attempts=None, timeout=self._patience_s, wait_initial=1, wait_max=32, wait_jitter=1
            ):
                with attempt:
                    return request()
        except FAILURES as error:
            raise explained(error, doing, self._datasets) from error
        raise AssertionError("unreachable")


class _Written(Exception):
    """The rows at this offset are there already."""


def _require_appended(answer: types.AppendRowsResponse) -> None:
    code = answer.error.code
    if code == 6:  # ALREADY_EXISTS of google.rpc.Code
        raise _Written
    if code:
        raise _error_of(code, answer.error.message)


def _error_of(code: int, message: str) -> Exception:
    error: Exception = api.from_grpc_status(code, message)  # type: ignore[no-untyped-call]  # has no types
    return error


def _batches(rows: pl.DataFrame, written_at: datetime) -> Iterator[tuple[int, Any]]:
    moment = pl.lit(written_at).dt.convert_time_zone("UTC").cast(TIME)
    for offset in range(0, rows.height, _BATCH_ROWS):
        piece = stored(rows.slice(offset, _BATCH_ROWS), offset, **{WRITTEN_AT: moment})
        for batch in piece.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest()).to_batches():
            yield offset, batch
