"""The version of a table's schema, kept in the table's description, and how an older table becomes a younger one.

Columns are only ever added, at the end; an upgrade is one commit that changes the table's metadata, and no file is
written anew. Its own commit because the library knows none that changes columns and description in one step.
Not here: how files without the new columns are read (``parquet``).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import time
from pathlib import Path

import polars as pl
from deltalake import DeltaTable
from deltalake.schema import Schema as DeltaSchema

from mdp.domain.candles import require_schema
from mdp.errors import OutdatedStore, SchemaMismatch
from mdp.ports import Table
from mdp.storage.delta_faults import LINES_KEY
from mdp.storage.layout import PARTITION_COLUMNS

_MARK = re.compile(r"\bschema version (\d+)$")


def description_of(table: Table) -> str:
    """Return what stands in the description of a table of the present version."""
    return f"{table.name} of mdp, schema version {table.version}"


def delta_schema_of(table: Table) -> DeltaSchema:
    """Return the columns of a table as its log keeps them."""
    columns = pl.DataFrame(schema={**table.schema, "period": pl.String()})
    return DeltaSchema.from_arrow(columns.to_arrow(compat_level=pl.CompatLevel.oldest()).schema)


def marked_version(delta: DeltaTable) -> int | None:
    """Return the version that a table says it is of; None where it says nothing."""
    found = _MARK.search(delta.metadata().description or "")
    return int(found[1]) if found else None


def version_of(directory: Path, table: Table, delta: DeltaTable) -> int:
    """Return the version of a table's schema, once its columns and partitions agree with it.

    A table that says nothing is of version 1, from before versions were written down, unless it has later columns.

    Raises:
        OutdatedStore: it is of a later version than this program knows, or no table of ours.
    """
    marked = marked_version(delta)
    if marked is not None:
        require_known(directory, table, marked)
    found = pl.Schema(delta.schema().to_arrow()).to_frame()
    candidates = range(1, table.version + 1) if marked is None else (marked,)
    differences = [_differences(found, table, version) for version in candidates]
    if all(differences):
        raise _foreign(directory, table, candidates[0], differences[0] or "")
    partitions = tuple(delta.metadata().partition_columns)
    version = candidates[differences.index(None)]
    if partitions != PARTITION_COLUMNS:
        raise _foreign(directory, table, version, f"expected partitions by {PARTITION_COLUMNS}, got {partitions}")
    return version


def require_known(directory: Path, table: Table, version: int) -> None:
    """Refuse a table of a later version.

    Raises:
        OutdatedStore: says which.
    """
    if version > table.version:
        raise OutdatedStore(
            f"{directory}: is of schema version {version}, this program knows {table.name} up to version "
            f"{table.version}; run a newer mdp, or set MDP_DATA_DIR to another directory"
        )


def upgrade(log_dir: Path, table: Table, delta: DeltaTable) -> None:
    """Give a table the columns and the mark of the present version, in one atomic commit.

    Another process that commits first, an upgrade included, takes its place: look at the log again.

    Raises:
        OSError: the log cannot be written; the table is as it was.
    """
    metadata = delta.metadata()
    changed = {
        "id": str(metadata.id),
        "name": metadata.name,
        "description": description_of(table),
        "format": {"provider": "parquet", "options": {}},
        "schemaString": delta_schema_of(table).to_json(),
        "partitionColumns": list(metadata.partition_columns),
        "createdTime": metadata.created_time,
        "configuration": dict(metadata.configuration),
    }
    about = {
        "timestamp": time.time_ns() // 1_000_000,
        "operation": "UPGRADE SCHEMA",
        "operationParameters": {"to": str(table.version)},
        LINES_KEY: 2,
    }
    body = "".join(json.dumps(line) + "\n" for line in ({"commitInfo": about}, {"metaData": changed}))
    _publish(log_dir / f"{delta.version() + 1:020d}.json", body.encode())


def _publish(commit: Path, body: bytes) -> None:
    draft = commit.with_name(f"_upgrade_{secrets.token_hex(8)}.tmp")
    try:
        with draft.open("xb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(draft, commit)  # whole or not at all, and never over another's commit
    finally:
        draft.unlink(missing_ok=True)


def _differences(found: pl.DataFrame, table: Table, version: int) -> str | None:
    try:
        require_schema(found, pl.Schema({**table.schema_at(version), "period": pl.String()}), table.name)
    except SchemaMismatch as error:
        return str(error)
    return None


def _foreign(directory: Path, table: Table, version: int, differences: str) -> OutdatedStore:
    return OutdatedStore(
        f"{directory}: is of another form: {differences} (for version {version} of {table.name}, this program knows "
        f"up to {table.version}); it was not made by mdp: move it away, or set MDP_DATA_DIR to another directory"
    )
