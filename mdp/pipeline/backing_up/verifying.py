"""Reading a backup again: is every byte what the manifest says?

Not here: putting it back (``restoring``).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mdp.errors import StoreCorrupt
from mdp.pipeline.backing_up.copying import Advance
from mdp.pipeline.backing_up.creating import say_nothing
from mdp.pipeline.backing_up.records import (
    LISTING,
    MANIFEST,
    Manifest,
    Record,
    file_sha256,
    load_manifest,
    read_records,
    require_whole_listing,
)


@dataclass(frozen=True, slots=True)
class Fault:
    """One file of a backup that is not what was written: which, and what is wrong with it."""

    path: str
    what: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of reading a backup again.

    Attributes:
        manifest: What it says of itself; None where that cannot be read.
        faults: None where everything is as it says.
    """

    manifest: Manifest | None
    faults: tuple[Fault, ...]


def verify_backup(backup: Path, *, advance: Advance = say_nothing) -> Verdict:
    """Compare all of a backup with its manifest; whatever is wrong is named, and nothing is changed.

    Args:
        backup: Its folder.
        advance: Told of bytes as they are read.

    Raises:
        OutdatedStore: a later version of this program made it.
    """
    try:
        manifest = load_manifest(backup)
    except StoreCorrupt as error:
        return Verdict(None, (Fault(MANIFEST, str(error)),))
    try:
        require_whole_listing(backup, manifest)
    except StoreCorrupt as error:
        return Verdict(manifest, (Fault(LISTING, str(error)),))
    known = {MANIFEST, LISTING}
    faults, done = [], 0
    for record in read_records(backup):
        if (fault := fault_of(backup, record)) is not None:
            faults.append(fault)
        known.add(record.path)
        done += record.size
        advance(done, manifest.size)
    faults += [Fault(path, "is not part of the backup") for path in _paths(backup) if path not in known]
    return Verdict(manifest, tuple(faults))


def fault_of(backup: Path, record: Record) -> Fault | None:
    """Return what is wrong with a file of a backup; None where it is what was written."""
    path = backup / record.path
    try:
        size = path.stat().st_size
        if size != record.size:
            return Fault(record.path, f"expected {record.size:,} bytes, found {size:,}")
        found = file_sha256(path)
    except OSError as error:
        return Fault(record.path, f"cannot be read: {error.strerror or error}")
    return None if found == record.sha256 else Fault(record.path, f"expected SHA-256 {record.sha256}, found {found}")


def _paths(backup: Path) -> Iterator[str]:
    for above, _, names in os.walk(backup):
        for name in sorted(names):
            yield Path(above, name).relative_to(backup).as_posix()
