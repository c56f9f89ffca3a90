"""The engine under the emulator: without extensions that need a download, without a copy of a table for each change.

Geography and Avro are not used here, and a machine without a network has neither extension. The emulator copies a
table whenever it changes, for time travel; nothing here asks for the past of a table, and whoever does is refused.

Not here: statements and jobs.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

from bqemulator.domain.errors import UnsupportedFeatureError
from bqemulator.storage.engine import DuckDBEngine
from bqemulator.versioning.snapshots import SnapshotManager

_contexts: list[Any] = []

wanted_etag: ContextVar[str | None] = ContextVar("wanted_etag", default=None)
"""What the request at hand says of the table it changes: only as long as it has this etag."""


def context() -> Any:
    """Return what the running emulator is made of: its catalog, engine, settings."""
    return _contexts[-1]


def remember(running: Any) -> None:
    """Keep the context for parts of the emulator that are not handed it."""
    _contexts.append(running)


def teach() -> None:
    """Leave the extensions out and take copies only where a statement asks for one."""
    DuckDBEngine._load_spatial = lambda self: None
    DuckDBEngine._load_format_extensions = lambda self: None
    DuckDBEngine.connection = property(_finished(DuckDBEngine.connection.fget))
    SnapshotManager.capture = _only_on_request(SnapshotManager.capture)
    SnapshotManager.resolve_time_travel = _refuse_time_travel


def _finished(connection: Any) -> Any:
    """The emulator reads one row of a result and leaves the rest; DuckDB 2 then refuses to register a frame."""

    def finish_and_return(self: Any) -> Any:
        found = connection(self)
        found.complete()
        return found

    return finish_and_return


def _only_on_request(capture: Any) -> Any:
    def capture_asked(self: Any, *table: str, kind: str = "AUTO") -> Any:
        return capture(self, *table, kind=kind) if kind != "AUTO" else None

    return capture_asked


def _refuse_time_travel(self: Any, *arguments: Any) -> None:
    raise UnsupportedFeatureError("FOR SYSTEM_TIME AS OF: this emulator keeps no history of its tables")
