"""Putting files into a backup: copied, or a second name for what the backup before holds of the same file already.

Never a second name for a file of the lake itself: one bad block, or a program that writes into it, would take both.
Not here: which files (``creating``).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NamedTuple

import msgspec

from mdp.errors import StorageError, StoreCorrupt
from mdp.pipeline.backing_up.places import free_bytes_of
from mdp.pipeline.backing_up.records import LISTING, Record, file_sha256, read_records
from mdp.storage.delta_pins import named_checksum
from mdp.storage.disk import sync_directories

Advance = Callable[[int, int], None]
"""Told how many bytes of how many are done."""

_ASIDE = ".aside"
_CHUNK = 1 << 20
_SPARE = 64 << 20
"""Bytes that stay free: Dagster's storage grows while it is copied, and folders take room too."""


class Wanted(NamedTuple):
    """A file that is to be in a backup.

    Attributes:
        source: Where it is.
        path: Where it goes, relative to the backup.
        size: How many bytes it is thought to have.
    """

    source: Path
    path: str
    size: int


class Known(NamedTuple):
    """A file that is on the disk of the backups already: in which backup, and what is known of it."""

    backup: Path
    record: Record


Earlier = Mapping[str, Known]
"""What need not be copied again, by path."""


def earlier_of(backup: Path) -> Earlier:
    """Return what a backup holds.

    Raises:
        StoreCorrupt: its list of files cannot be read.
    """
    return {record.path: Known(backup, record) for record in read_records(backup)}


def stamp_of(status: os.stat_result) -> str:
    """Return what changes with a file's content: the time of its last change and its length."""
    return f"{status.st_mtime_ns}:{status.st_size}"


@dataclass
class Filling:
    """A backup that is being filled. One thread.

    Attributes:
        folder: Its folder, there already.
        earlier: What need not be copied again.
        records: What is in it.
        copied: Bytes that the backup before did not hold.
    """

    folder: Path
    earlier: Earlier
    records: list[Record] = field(default_factory=list)
    copied: int = 0
    _times_aside: int = 0
    _twins: dict[tuple[int, int], Record] = field(default_factory=dict)

    def add(self, wanted: Wanted) -> Record:
        """Take a file as it is now.

        Raises:
            FileNotFoundError: it is not there any more.
            StoreCorrupt: its bytes are not what its name says: a backup holds only what is whole.
            OSError: it cannot be read, or the backup not be written.
        """
        status = wanted.source.stat()
        stamp = stamp_of(status)
        twin = self._twins.get((status.st_dev, status.st_ino)) if status.st_nlink > 1 else None
        if twin is not None and self._link(self.folder / twin.path, wanted.path):
            return self._note(Record(wanted.path, twin.size, twin.sha256, stamp))
        record = self.keep(wanted.path, stamp) or self._copy(wanted, stamp)
        if status.st_nlink > 1:
            self._twins[status.st_dev, status.st_ino] = record
        return record

    def keep(self, path: str, stamp: str) -> Record | None:
        """Take a file from the backup before where that has it as it is now; None where it does not."""
        known = self.earlier.get(path)
        if known is None or known.record.stamp != stamp:
            return None
        source = known.backup / path
        try:
            if source.stat().st_size != known.record.size:
                return None
        except OSError:
            return None
        return self._note(known.record) if self._link(source, path) else None

    def made(self, path: str, stamp: str) -> Record:
        """Take note of a file that was made in the backup itself."""
        target = self.folder / path
        record = Record(path, target.stat().st_size, file_sha256(target), stamp)
        _sync_file(target)
        self.copied += record.size
        return self._note(record)

    def forget(self, below: str) -> None:
        """Take out again what is in a folder."""
        self.records = [record for record in self.records if not record.path.startswith(f"{below}/")]
        self._twins = {inode: twin for inode, twin in self._twins.items() if not twin.path.startswith(f"{below}/")}
        shutil.rmtree(self.folder / below, ignore_errors=True)

    def set_aside(self, below: str) -> None:
        """Take out again what is in a folder, and copy none of it again where it is asked for once more."""
        if not (self.folder / below).exists():
            return
        self._times_aside += 1
        aside = self.folder / _ASIDE / str(self._times_aside)
        aside.mkdir(parents=True)
        (self.folder / below).rename(aside / below)
        gone = [record for record in self.records if record.path.startswith(f"{below}/")]
        self.earlier = {**self.earlier, **{record.path: Known(aside, record) for record in gone}}
        self.forget(below)

    def remove_set_aside(self) -> None:
        """Remove what was set aside and is not part of the backup."""
        if (self.folder / _ASIDE).exists():
            shutil.rmtree(self.folder / _ASIDE)

    def finish(self) -> str:
        """Write the list of files and make sure that all of it is on the disk itself; return the list's SHA-256."""
        encoder, sha = msgspec.json.Encoder(), hashlib.sha256()
        with (self.folder / LISTING).open("xb") as listing:
            for record in self.records:
                line = encoder.encode(record) + b"\n"
                sha.update(line)
                listing.write(line)
            _flush(listing)
        sync_directories(self.folder)
        return sha.hexdigest()

    def _note(self, record: Record) -> Record:
        self.records.append(record)
        return record

    def _link(self, source: Path, path: str) -> bool:
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source, target)
        except FileExistsError:
            raise
        except OSError:  # another file system, too many links, or it is gone: then it is copied
            return False
        return True

    def _copy(self, wanted: Wanted, stamp: str) -> Record:
        target = self.folder / wanted.path
        target.parent.mkdir(parents=True, exist_ok=True)
        size, sha256, checksum = copy_file(wanted.source, target)
        said = named_checksum(wanted.source.name)
        if said is not None and said != checksum:
            target.unlink()
            raise StoreCorrupt(f"{wanted.source}: damaged: expected bytes of CRC-32 {said}, found {checksum}")
        self.copied += size
        return self._note(Record(wanted.path, size, sha256, stamp))


def copy_file(source: Path, target: Path) -> tuple[int, str, str]:
    """Copy a file piece by piece, with its time and rights, to the disk itself.

    Returns:
        How many bytes, their SHA-256 and their CRC-32.

    Raises:
        OSError: one of them cannot be read or written.
    """
    sha, checksum, size = hashlib.sha256(), 0, 0
    with source.open("rb") as reading, target.open("xb") as writing:
        for chunk in _chunks(reading):
            sha.update(chunk)
            checksum = zlib.crc32(chunk, checksum)
            size += len(chunk)
            writing.write(chunk)
        _flush(writing)
    with suppress(PermissionError):  # a disk of another system: its rights are its own
        shutil.copystat(source, target)
    return size, sha.hexdigest(), f"{checksum:08x}"


def require_room(place: Path, needed: int, advice: str = "make room (`mdp backup prune`)") -> None:
    """Refuse what the disk has no room for, before anything is written.

    Args:
        place: Where something will be written.
        needed: Bytes.
        advice: What to do about it.

    Raises:
        StorageError: says how much there is and how much is needed.
    """
    free = free_bytes_of(place)
    if free is not None and free < needed + _SPARE:
        raise StorageError(
            f"{place}: expected {needed + _SPARE:,} free bytes, found {free:,}; nothing was written; "
            f"{advice}, or choose another disk"
        )


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    while chunk := file.read(_CHUNK):
        yield chunk


def _flush(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
