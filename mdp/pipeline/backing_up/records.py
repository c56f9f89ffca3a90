"""What a backup says of itself: the manifest, written last, and the list of its files.

Not here: where backups lie (``places``), making them (``creating``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Literal

import msgspec

from mdp.errors import OutdatedStore, StoreCorrupt

FORMAT = 1
MANIFEST, LISTING = "manifest.json", "files.jsonl"
_CHUNK = 1 << 20

DagsterKind = Literal["sqlite", "postgres", "none"]


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file of a backup.

    Attributes:
        path: Relative to the backup.
        size: In bytes.
        sha256: As ``sha256sum`` gives it.
        stamp: Of the file it was copied from; the next backup does not copy it again while that has the same.
    """

    path: str
    size: int
    sha256: str
    stamp: str


class MarketPart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a backup holds of one market in one table.

    Attributes:
        table: Its name.
        market: Such as ``binance:BTC-USDT``.
        files: How many.
        rows: How many; None where the log of the table does not say.
        size: In bytes.
        digest: SHA-256 of the paths and digests of its files.
    """

    table: str
    market: str
    files: int
    rows: int | None
    size: int
    digest: str


class TableVersion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which version of a table a backup holds: of the Delta table, and of our schema."""

    version: int
    schema_version: int


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a backup says of itself.

    Attributes:
        format: Of backups.
        created_at: When it was begun.
        mdp_version: What made it.
        environment: ``MDP_ENV`` of that place.
        store: ``duckdb`` or ``bigquery``.
        data_dir: Where it was made; it may be restored to another.
        was_quiet: Whether nobody was writing to the lake at the moment that it holds.
        tables: What was held, by table.
        parts: What is held of each table and market.
        snapshots: Their names.
        dagster: What kind of Dagster's storage it holds.
        leaves_out: What it does not hold, and why.
        files: How many.
        size: Of all files, in bytes.
        copied: Of these, bytes that the backup before did not hold.
        listing_sha256: Of the list of files.
        id: SHA-256 of all of this but itself.
    """

    format: int
    created_at: datetime
    mdp_version: str
    environment: str
    store: str
    data_dir: str
    was_quiet: bool
    tables: dict[str, TableVersion]
    parts: tuple[MarketPart, ...]
    snapshots: tuple[str, ...]
    dagster: DagsterKind
    leaves_out: dict[str, str]
    files: int
    size: int
    copied: int
    listing_sha256: str
    id: str = ""

    @property
    def rows(self) -> int:
        """Rows of all tables, as far as they are known."""
        return sum(part.rows or 0 for part in self.parts)


def sealed(manifest: Manifest) -> Manifest:
    """Return a manifest with its id."""
    return msgspec.structs.replace(manifest, id=_identity(manifest))


def encode(manifest: Manifest) -> bytes:
    """Return a manifest as JSON that people can read."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


def load_manifest(backup: Path) -> Manifest:
    """Return what a backup says of itself.

    Raises:
        StoreCorrupt: it has no manifest: then it is no backup; or one that is not whole.
        OutdatedStore: a later version of this program made it.
    """
    path = backup / MANIFEST
    try:
        body = path.read_bytes()
    except OSError as error:
        raise StoreCorrupt(f"{path}: no backup: its manifest cannot be read: {error.strerror or error}") from error
    try:
        known = msgspec.json.decode(body, type=_Head)
        if known.format > FORMAT:
            said = f"is of format {known.format}, this program knows {FORMAT}; run a newer mdp"
            raise OutdatedStore(f"{path}: {said}")
        manifest = msgspec.json.decode(body, type=Manifest)
    except msgspec.MsgspecError as error:
        raise StoreCorrupt(f"{path}: is not whole: {error}") from error
    if manifest.id != _identity(manifest):
        raise StoreCorrupt(f"{path}: was changed: expected id {_identity(manifest)}, found {manifest.id}")
    return manifest


class _Head(msgspec.Struct):
    format: int


def _identity(manifest: Manifest) -> str:
    return hashlib.sha256(msgspec.json.encode(msgspec.structs.replace(manifest, id=""))).hexdigest()


def read_records(backup: Path) -> Iterator[Record]:
    """Yield the files of a backup, in the order in which they were written.

    Raises:
        StoreCorrupt: the list cannot be read.
    """
    path, decoder = backup / LISTING, msgspec.json.Decoder(Record)
    try:
        with path.open("rb") as lines:
            for line in lines:
                yield decoder.decode(line)
    except OSError as error:
        raise StoreCorrupt(f"{path}: cannot be read: {error.strerror or error}") from error
    except msgspec.MsgspecError as error:
        raise StoreCorrupt(f"{path}: is not whole: {error}") from error


def require_whole_listing(backup: Path, manifest: Manifest) -> None:
    """Compare the list of files with the manifest.

    Raises:
        StoreCorrupt: it is gone, or not what was written.
    """
    path = backup / LISTING
    try:
        found = file_sha256(path)
    except OSError as error:
        raise StoreCorrupt(f"{path}: cannot be read: {error.strerror or error}") from error
    if found != manifest.listing_sha256:
        raise StoreCorrupt(f"{path}: damaged: expected SHA-256 {manifest.listing_sha256}, found {found}")


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, read piece by piece.

    Raises:
        OSError: it cannot be read.
    """
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            sha.update(chunk)
    return sha.hexdigest()
