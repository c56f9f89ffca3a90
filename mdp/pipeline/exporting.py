"""Writing a snapshot as a folder of Parquet that anybody can read, with this program or without it.

Not here: reading, verifying and loading such a folder (``exported``), making snapshots (``snapshots``).
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
import polars as pl

from mdp.domain.digests import digest
from mdp.domain.timeframe import Timeframe
from mdp.errors import InputError, StorageError, StoreCorrupt
from mdp.pipeline.exported import MANIFEST, Export, File
from mdp.pipeline.manifests import FORMAT, Part, Wanted
from mdp.pipeline.snapshots import Advance, manifest_of, say_nothing
from mdp.ports import CandleStore
from mdp.storage.disk import make_directory, sync_directories, write_synced

README = "README.txt"

_HOW_TO_READ = """\
Candles of cryptocurrencies, and the gaps in them, as they were stored when this snapshot was made. Times are UTC; a
candle is known by its open_time; ranges do not include their end; what is missing is absent, and gaps/ says why.
The columns exchange, symbol and timeframe stand in each file and in its path.
    polars   pl.read_parquet("FOLDER/ohlcv/**/*.parquet", hive_partitioning=False)
             pl.read_parquet("FOLDER/ohlcv/exchange=binance/symbol=BTC-USDT/timeframe=1m/*.parquet")
    DuckDB   SELECT * FROM read_parquet('FOLDER/ohlcv/**/*.parquet', hive_partitioning=false) ORDER BY open_time
    pandas   pd.read_parquet("FOLDER/ohlcv/exchange=binance/symbol=BTC-USDT/timeframe=1m", partitioning=None)
manifest.json names the rows, digests and sources of each part, and the SHA-256 of each file, as sha256sum gives it.
    mdp snapshot verify FOLDER      is every byte what the manifest says?
    mdp snapshot load FOLDER        make it a snapshot of the store here: mdp read ... --snapshot NAME
"""


def export_snapshot(store: CandleStore, name: str, folder: Path, *, advance: Advance = say_nothing) -> Export:
    """Write a snapshot as a folder: all of it, or nothing. It survives a power cut once this returns.

    Args:
        store: Where the snapshot is.
        name: Of it.
        folder: Not there yet, or empty. What is unfinished has a hidden name beside it; what killed exports to the same
            folder left there is removed.
        advance: Told of each part that was written.

    Raises:
        InputError: the folder holds something, or is none.
        SnapshotMissing: there is no such snapshot.
        StoreCorrupt: what is read is not what the snapshot says of itself; nothing was written.
        StorageError: the folder cannot be written.
    """
    manifest = manifest_of(store, name)
    _require_free(folder)
    files: list[File] = []
    with _published_whole(folder) as unfinished:
        for number, (part, wanted) in enumerate(zip(manifest.parts, manifest.wanted, strict=True)):
            rows = store.read_snapshot(name, *wanted).select(manifest.columns[part.table])
            _require_same(part, rows)
            files += [_write(unfinished, number, path, piece) for path, piece in _pieces(wanted, rows)]
            advance(number + 1, len(manifest.parts))
        export = Export(format=FORMAT, snapshot=manifest, files=tuple(files))
        write_synced(unfinished / README, _HOW_TO_READ.encode())
        write_synced(unfinished / MANIFEST, msgspec.json.format(msgspec.json.encode(export), indent=2) + b"\n")
    return export


def _require_free(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if folder.exists() or folder.is_symlink():
        raise InputError("folder", got=str(folder), expected="one that is not there yet, or is empty")


@contextmanager
def _published_whole(folder: Path) -> Iterator[Path]:
    """Give a hidden sibling that takes the folder's name once all is on the disk itself, and is removed otherwise."""
    folder = folder.absolute()
    unfinished = folder.with_name(f".{folder.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        _remove_left_behind(folder)
        make_directory(unfinished)
        with _claimed(unfinished):
            yield unfinished
            sync_directories(unfinished)
            unfinished.replace(folder)
        sync_directories(folder.parent, is_deep=False)
    except OSError as error:
        raise StorageError(f"{folder}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


@contextmanager
def _claimed(unfinished: Path) -> Iterator[None]:
    """Hold a lock on a directory: it ends with the process however that ends, and also tells other containers."""
    number = os.open(unfinished, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks: then nobody gets one, and nothing is removed
            fcntl.flock(number, fcntl.LOCK_EX)
        unfinished.stat()  # somebody may have removed it before the lock
        yield
    finally:
        os.close(number)


def _remove_left_behind(folder: Path) -> None:
    """Remove what exports to a folder left beside it whose process is gone: nobody holds its lock any more."""
    ours = re.compile(rf"\.{re.escape(folder.name)}\.\d+-[0-9a-f]{{8}}")
    if not folder.parent.is_dir():
        return
    for path in folder.parent.iterdir():
        if ours.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
            with suppress(OSError):
                number = os.open(path, os.O_RDONLY)
                try:
                    fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(path)
                finally:
                    os.close(number)


def _require_same(part: Part, rows: pl.DataFrame) -> None:
    found = digest(rows)
    if found != part.digest:
        raise StoreCorrupt(f"{part}: expected rows of digest {part.digest}, got {found}")


def _pieces(wanted: Wanted, rows: pl.DataFrame) -> Iterator[tuple[str, pl.DataFrame]]:
    """Cut rows by calendar month, by year from 1h up, as the lake does, and say where each piece goes."""
    table, part = wanted
    (timeframe,) = part.timeframes
    market = f"exchange={part.market.exchange.value}/symbol={part.market.symbol_key}"
    periods = rows[table.time_column].dt.strftime("%Y-%m" if timeframe.seconds < Timeframe.H1.seconds else "%Y").rle()
    first = 0
    for run in periods:
        path = f"{table.name}/{market}/timeframe={timeframe.value}/{run['value']}.parquet"
        yield path, rows.slice(first, run["len"])
        first += run["len"]


def _write(folder: Path, part: int, path: str, rows: pl.DataFrame) -> File:
    body = io.BytesIO()
    rows.write_parquet(body, compression="zstd")
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    write_synced(folder / path, body.getbuffer())
    sha256 = hashlib.sha256(body.getbuffer()).hexdigest()
    return File(path=path, part=part, rows=len(rows), size=body.tell(), sha256=sha256)
