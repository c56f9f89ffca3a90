"""Snapshots that were carried here as folders of Parquet: reading, verifying and loading them.

Not here: writing such a folder (``exporting``), what a manifest says (``manifests``).
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath

import msgspec
import polars as pl

from mdp.domain.candles import require_schema
from mdp.errors import InputError, SchemaMismatch, StoreCorrupt
from mdp.pipeline.manifests import HELD, Manifest, decode_as, encode, require_known
from mdp.pipeline.snapshot_names import require_distinct
from mdp.pipeline.snapshots import Advance, Difference, Verification, say_nothing, verify
from mdp.ports import CandleStore, Slice, Table

MANIFEST = "manifest.json"


class File(msgspec.Struct, frozen=True, kw_only=True):
    """One Parquet file of an export.

    Attributes:
        path: Below the folder, with ``/``.
        part: Number of the snapshot's part whose rows it holds, from 0.
        rows: How many.
        size: In bytes.
        sha256: Of its bytes.
    """

    path: str
    part: int
    rows: int
    size: int
    sha256: str


class Export(msgspec.Struct, frozen=True, kw_only=True):
    """What ``manifest.json`` of an export says.

    Attributes:
        format: Of this file.
        snapshot: The manifest of the snapshot.
        files: That hold its rows; those of one part in the order of its rows. A part without rows has none.
    """

    format: int
    snapshot: Manifest
    files: tuple[File, ...]

    def __post_init__(self) -> None:
        for file in self.files:
            if ".." in PurePosixPath(file.path).parts or PurePosixPath(file.path).is_absolute() or "\\" in file.path:
                raise ValueError(f"files: expected paths below the folder, got {file.path!r}")
            if not 0 <= file.part < len(self.snapshot.parts):
                raise ValueError(f"files: expected a part below {len(self.snapshot.parts)}, got {file.part}")


def is_export(folder: Path) -> bool:
    """Tell whether a folder looks like an exported snapshot."""
    return (folder / MANIFEST).is_file()


def read_export(folder: Path) -> Export:
    """Read what an exported snapshot says of itself.

    Raises:
        InputError: not an exported snapshot.
        OutdatedStore: of a later format, or with columns that this version does not know.
        StoreCorrupt: its manifest cannot be read.
    """
    path = folder / MANIFEST
    try:
        body = path.read_bytes()
    except OSError as error:
        expected = f"the folder of an exported snapshot, with its {MANIFEST} ({error.strerror})"
        raise InputError("folder", got=str(folder), expected=expected) from error
    export = decode_as(body, Export, str(path))
    require_known(export.snapshot)
    return export


def read_exported(folder: Path, export: Export, table: Table, part: Slice) -> pl.DataFrame:
    """Return the rows of one part of an exported snapshot, each file compared with its digest.

    Args:
        folder: Where it is.
        export: What it says of itself.
        table: One that it holds.
        part: One market and timeframe that it holds, and all of the window.

    Raises:
        StoreCorrupt: names the file that is missing or is not what the manifest says.
    """
    number = next(n for n, wanted in enumerate(export.snapshot.wanted) if wanted == (table, part))
    written = pl.Schema({name: table.schema[name] for name in export.snapshot.columns[table.name]})
    files = [file for file in export.files if file.part == number]
    rows = pl.concat([written.to_frame(), *(_read(folder, file, written) for file in files)])
    added = [pl.lit(None, dtype).alias(name) for name, dtype in table.schema.items() if name not in written]
    return rows.with_columns(added).select(list(table.schema))


def _read(folder: Path, file: File, schema: pl.Schema) -> pl.DataFrame:
    path = folder / file.path
    body = _bytes_of(path)
    found = hashlib.sha256(body).hexdigest()
    if found != file.sha256:
        raise StoreCorrupt(f"{path}: expected {file.size} bytes of SHA-256 {file.sha256}, got {len(body)} of {found}")
    try:
        rows = pl.read_parquet(io.BytesIO(body))
        require_schema(rows, schema, "its columns")
    except (pl.exceptions.PolarsError, SchemaMismatch, OSError) as error:
        raise StoreCorrupt(f"{path}: cannot be read: {error}") from error
    return rows


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise StoreCorrupt(f"{path}: cannot be read: {error.strerror or error}") from error


def verify_export(folder: Path, *, advance: Advance = say_nothing) -> Verification:
    """Compare every file of an exported snapshot, and all its rows, with its manifest; needs no store.

    Returns:
        Every file that is missing or changed, every other Parquet file, and every part that is not what it says.

    Raises:
        InputError, OutdatedStore, StoreCorrupt: as for :func:`read_export`.
    """
    export = read_export(folder)
    files = tuple(_file_differences(folder, export))
    found = verify(export.snapshot, partial(read_exported, folder, export), advance=advance)
    return Verification(found.manifest, files + found.differences, found.compares_bytes)


def _file_differences(folder: Path, export: Export) -> Iterator[Difference]:
    for file in export.files:
        try:
            found = hashlib.sha256(_bytes_of(folder / file.path)).hexdigest()
        except StoreCorrupt as error:
            yield Difference(file.path, "file", f"{file.size} bytes", str(error))
            continue
        if found != file.sha256:
            yield Difference(file.path, "sha256", file.sha256, found)
    known = {file.path for file in export.files}
    for path in sorted(folder.rglob("*.parquet")):
        if (name := path.relative_to(folder).as_posix()) not in known:
            yield Difference(name, "file", "no file of that name", "one that is not of the snapshot")


def load_export(
    scratch: CandleStore, folder: Path, name: str | None = None, *, advance: Advance = say_nothing
) -> Manifest:
    """Make an exported snapshot one of a store, after it was verified: all of it, or nothing.

    A snapshot takes what tables hold. So the rows become tables first, of a store that has none yet, keeps its
    snapshots where the other one does, and is thrown away: the tables of the other one are never touched.

    Args:
        scratch: A store without tables whose snapshots are those of the store that the snapshot is for.
        folder: Of the export.
        name: What it is called here; None: as it was called there.
        advance: Told of each part that was verified.

    Raises:
        InputError: not an exported snapshot, or the name differs from that of another only in case.
        StoreCorrupt: it is not what its manifest says; names what is not.
        SnapshotExists: the name is taken.
        StorageError: it cannot be written.
    """
    verification = verify_export(folder, advance=advance)
    if verification.differences:
        raise StoreCorrupt(f"{folder}: not what its manifest says: {_listed(verification)}")
    export = read_export(folder)
    manifest = msgspec.structs.replace(export.snapshot, name=name or export.snapshot.name)
    require_distinct(scratch, manifest.name)
    with scratch.draft_snapshot(manifest.name) as draft:
        for table, asked in manifest.wanted:
            scratch.replace(table, asked, read_exported(folder, export, table, asked))
        for held in HELD:
            draft.take(held, [asked for table, asked in manifest.wanted if table is held])
        again = verify(manifest, draft.read)
        if again.differences:
            raise StoreCorrupt(f"{folder}: the store does not give back what was put into it: {_listed(again)}")
        draft.publish(encode(manifest))
    return manifest


def _listed(verification: Verification) -> str:
    differences = verification.differences
    listed = "; ".join(f"{one.where}: {one.what}: expected {one.expected}, got {one.found}" for one in differences[:3])
    return f"{listed}; {len(differences)} {'difference' if len(differences) == 1 else 'differences'} in all"
