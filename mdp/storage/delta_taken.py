"""What a snapshot of the lake took: slices, the version they are of, and the files that hold them; written as JSON.

Not here: the files (``delta_snapshots``), the manifest that people read (``pipeline``).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from mdp.domain.interval import Interval, merge
from mdp.domain.market import Market
from mdp.domain.timeframe import Timeframe
from mdp.errors import OutdatedStore, StoreCorrupt
from mdp.ports import Slice, Table
from mdp.storage.disk import write_synced
from mdp.storage.layout import Key, LiveFile, Partition, periods_of
from mdp.storage.parquet import os_reason
from mdp.storage.rows import timeframe_names

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Taken:
    """What was taken of one table.

    Attributes:
        version: Of the Delta table; None where it was never written to.
        schema_version: Of the table's schema.
        parts: The slices.
        files: That hold them, sorted; they may hold more.
    """

    version: int | None
    schema_version: int
    parts: tuple[Slice, ...]
    files: tuple[LiveFile, ...]

    def files_of(self, part: Slice) -> list[LiveFile]:
        """Return the files that may hold rows of a slice, sorted."""
        market = (part.market.exchange.value, part.market.symbol_key)
        found = []
        for timeframe in timeframe_names(part):
            first, last = periods_of(timeframe, part.window)
            key = (*market, timeframe)
            found += [
                file for file in self.files if file.partition.key == key and first <= file.partition.period <= last
            ]
        return found

    def windows_of(self, part: Slice) -> Callable[[Key], Sequence[Interval]]:
        """Return what of a slice was taken, by market and timeframe: disjoint windows."""

        def windows(key: Key) -> list[Interval]:
            return merge(taken.window.intersect(part.window) for taken in self.parts if _is_of(taken, key))

        return windows

    def require_known(self, directory: Path, table: Table) -> None:
        """Refuse what a later version of this program took.

        Raises:
            OutdatedStore: says which.
        """
        if self.schema_version > table.version:
            raise OutdatedStore(
                f"{directory}: holds {table.name} of schema version {self.schema_version}, this program knows it up to "
                f"version {table.version}; run a newer mdp"
            )


def save_taken(path: Path, taken: Mapping[str, Taken]) -> None:
    """Write what was taken, by table, to the disk itself.

    Raises:
        OSError: it cannot be written.
    """
    tables = {name: _to_json(each) for name, each in taken.items()}
    write_synced(path, json.dumps({"format": _FORMAT, "tables": tables}, indent=1).encode())


def load_taken(path: Path) -> dict[str, Taken]:
    """Return what was taken, by table.

    Raises:
        StoreCorrupt: it cannot be read.
        OutdatedStore: it was written by a later version of this program.
    """
    try:
        body = json.loads(path.read_bytes())
        if body["format"] > _FORMAT:
            raise OutdatedStore(f"{path}: is of format {body['format']}, this program knows {_FORMAT}; run a newer mdp")
        return {name: _from_json(each) for name, each in body["tables"].items()}
    except OSError as error:
        raise StoreCorrupt(f"{path}: cannot be read: {os_reason(error)}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise StoreCorrupt(f"{path}: cannot be read: {type(error).__name__}: {error}") from error


def _is_of(part: Slice, key: Key) -> bool:
    return (part.market.exchange.value, part.market.symbol_key) == key[:2] and key[2] in timeframe_names(part)


def _to_json(taken: Taken) -> dict[str, Any]:
    return {
        "version": taken.version,
        "schema_version": taken.schema_version,
        "slices": [
            {
                "market": str(part.market),
                "timeframes": timeframe_names(part),
                "start": part.window.start.isoformat(),
                "end": part.window.end.isoformat(),
            }
            for part in taken.parts
        ],
        "files": [
            {"partition": list(file.partition), "path": file.path, "size_bytes": file.size_bytes}
            for file in taken.files
        ],
    }


def _from_json(body: Mapping[str, Any]) -> Taken:
    parts = [
        Slice(
            Market.parse(part["market"]),
            tuple(Timeframe(name) for name in part["timeframes"]),
            Interval(datetime.fromisoformat(part["start"]), datetime.fromisoformat(part["end"])),
        )
        for part in body["slices"]
    ]
    files = [LiveFile(Partition(*file["partition"]), file["path"], file["size_bytes"]) for file in body["files"]]
    return Taken(body["version"], body["schema_version"], tuple(parts), tuple(files))
