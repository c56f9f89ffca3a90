"""Write streams: a commit that is asked for again is told that it was done, and one that fails was not done.

"STREAM_ALREADY_COMMITTED: Stream is already committed"
(https://cloud.google.com/bigquery/docs/reference/storage/rpc/google.cloud.bigquery.storage.v1#storageerror). The
emulator says of such a stream that its state is invalid, from which a client whose answer got lost learns nothing.

Not here: turns of requests (``one_at_a_time``).
"""

from __future__ import annotations

from functools import wraps
from typing import Any

from bqemulator.grpc_api.write_servicer import BigQueryWriteHandler
from bqemulator.streaming.write_stream import WriteStreamState
from google.cloud.bigquery_storage_v1 import types


def teach() -> None:
    """Wrap the commit of streams."""
    BigQueryWriteHandler._handle_batch_commit_write_streams = _saying_done(
        BigQueryWriteHandler._handle_batch_commit_write_streams
    )


def _saying_done(commit: Any) -> Any:
    @wraps(commit)
    def commit_or_say(self: Any, request_bytes: bytes, context: Any) -> bytes:
        asked = types.BatchCommitWriteStreamsRequest.deserialize(request_bytes).write_streams
        streams = [stream for name in asked if (stream := self.manager.get(name)) is not None]
        known = {stream.name: stream.state for stream in streams}
        waiting = {stream.name: list(stream.buffer) for stream in streams}
        try:
            answer = types.BatchCommitWriteStreamsResponse.deserialize(commit(self, request_bytes, context))
        except Exception:
            for stream in streams:  # it marks them as committed before it has their rows
                stream.state, stream.buffer[:] = known[stream.name], waiting[stream.name]
            raise
        for error in answer.stream_errors:
            if known.get(error.entity) is WriteStreamState.COMMITTED:
                error.code = types.StorageError.StorageErrorCode.STREAM_ALREADY_COMMITTED
        return types.BatchCommitWriteStreamsResponse.serialize(answer)

    return commit_or_say
