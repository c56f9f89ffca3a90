"""Snapshots: the candles and gaps of some markets and days as they are now, to be read the same for ever.

Not here: how what is taken stays (``storage``), what a snapshot says of itself (``manifests``), carrying one elsewhere
(``exported``).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from importlib.metadata import version

import polars as pl

from mdp.domain.interval import Interval, format_time
from mdp.domain.market import Market
from mdp.domain.timeframe import Timeframe
from mdp.errors import InputError, OutdatedStore, StoreCorrupt
from mdp.pipeline.manifests import (
    FORMAT,
    HELD,
    Manifest,
    Part,
    Read,
    Wanted,
    decode,
    describe,
    encode,
    identity,
    require_known,
    wanted_parts,
    whole_days,
)
from mdp.pipeline.snapshot_names import require_distinct
from mdp.ports import GAPS, CandleStore, Clock, Slice, Table

_log = logging.getLogger(__name__)

Advance = Callable[[int, int], None]
"""Told how many parts of how many are done."""


def say_nothing(_done: int, _total: int) -> None:
    """Be told of progress, and keep it."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One way in which a part is not what the manifest says.

    Attributes:
        where: The part, such as ``ohlcv binance:BTC-USDT 1m``; a file; or ``manifest``.
        what: What differs: ``rows``, ``digest``, ``sha256`` …
        expected: What the manifest says.
        found: What is there.
    """

    where: str
    what: str
    expected: str
    found: str


@dataclass(frozen=True, slots=True)
class Verification:
    """What came of reading a snapshot again.

    Attributes:
        manifest: What it says of itself.
        differences: None where everything is as it says.
        compares_bytes: Whether the bytes of each part were compared too. They are, unless another version of polars
            made the manifest, which may write the same rows in another form.
    """

    manifest: Manifest
    differences: tuple[Difference, ...]
    compares_bytes: bool


def create_snapshot(
    store: CandleStore,
    name: str,
    markets: Collection[Market],
    timeframes: Collection[Timeframe],
    window: Interval,
    clock: Clock,
    note: str = "",
    *,
    allows_empty: bool = False,
    advance: Advance = say_nothing,
) -> Manifest:
    """Hold what is stored of some markets in a window, under a name.

    Args:
        store: Where it is stored, and stays.
        name: Of the snapshot.
        markets: Spot markets and volatility indices, at least one.
        timeframes: Of the candles, at least one; an index is held at 1m.
        window: Which candles, by their ``open_time``; no part of it in the future.
        clock: When it is made.
        note: What people should know about it.
        allows_empty: Whether a snapshot without any row may be made.
        advance: Told of each part that was read and described.

    Raises:
        InputError: an argument is wrong, or nothing is stored there; there is no snapshot then.
        SnapshotExists: the name is taken.
        StorageError: something cannot be read or written.
    """
    now = clock()
    _require_sensible(markets, timeframes, window, now)
    require_distinct(store, name)
    wanted = wanted_parts(list(dict.fromkeys(markets)), timeframes, window)
    with store.draft_snapshot(name) as draft:
        versions = {
            table.name: draft.take(table, slices) for table in HELD if (slices := [s for t, s in wanted if t is table])
        }
        parts = tuple(_described(draft.read, wanted, window, advance))
        if not any(part.rows for part in parts) and not allows_empty:
            raise InputError("window", got=str(window), expected="a range of which something is stored")
        manifest = Manifest(
            format=FORMAT,
            name=name,
            note=note,
            created_at=now,
            mdp_version=version("mdp"),
            polars_version=pl.__version__,
            start=window.start,
            end=window.end,
            versions=versions,
            columns={table.name: tuple(table.schema) for table in HELD if table.name in versions},
            parts=parts,
            id=identity(window, parts),
        )
        draft.publish(encode(manifest))
    return manifest


def _require_sensible(
    markets: Collection[Market], timeframes: Collection[Timeframe], window: Interval, now: datetime
) -> None:
    if not markets:
        raise InputError("markets", got=[], expected="at least one market")
    if not timeframes:
        raise InputError("timeframes", got=[], expected="at least one timeframe")
    start, end = format_time(window.start), format_time(window.end)
    if window.is_empty:
        raise InputError("start", got=start, expected=f"a time before end {end}")
    if window.end > now:
        raise InputError("end", got=end, expected=f"a time that is over, at most {format_time(now)}")


def _described(read: Read, wanted: Sequence[Wanted], window: Interval, advance: Advance) -> Iterator[Part]:
    for number, one in enumerate(wanted, start=1):
        yield describe(read, one, window, list(one[0].schema))
        advance(number, len(wanted))


def manifests(store: CandleStore) -> dict[str, Manifest]:
    """Return the manifest of every snapshot, by name, ascending; one that cannot be read is named in the log."""
    found = {}
    for name, body in store.snapshots().items():
        try:
            found[name] = _decoded(name, body)
        except (StoreCorrupt, OutdatedStore) as error:
            _log.warning("%s; it is left out", error)
    return found


def manifest_of(store: CandleStore, name: str) -> Manifest:
    """Return the manifest of one snapshot; others may be damaged.

    Raises:
        SnapshotMissing: there is none of that name; lists those there are.
        StoreCorrupt: its manifest cannot be read.
        OutdatedStore: a later version made it, in a format or with columns that this one does not know.
    """
    return _decoded(name, store.manifest(name))


def _decoded(name: str, body: bytes) -> Manifest:
    manifest = decode(body, f"snapshot {name!r}")
    require_known(manifest)
    return manifest


def read_snapshot(store: CandleStore, name: str, table: Table, part: Slice) -> pl.DataFrame:
    """Return the rows of a slice as the snapshot holds them: the same bytes for ever.

    Args:
        store: Where the snapshot is.
        name: Of it.
        table: ``OHLCV``, ``DVOL`` or ``GAPS``.
        part: Wholly inside the snapshot. What was missing when it was made is absent.

    Shape:
        The table's schema, in the order of :meth:`CandleStore.read`.

    Raises:
        InputError: names what of the slice the snapshot does not hold: that is not the same as missing.
        SnapshotMissing: there is no such snapshot.
        StoreCorrupt, OutdatedStore: its manifest, or a file, cannot be read.
    """
    require_held(manifest_of(store, name), table, part)
    return store.read_snapshot(name, table, part)


def require_held(manifest: Manifest, table: Table, part: Slice) -> None:
    """Refuse a slice that a snapshot does not hold wholly.

    Raises:
        InputError: names the table, market, timeframe or bound that lies outside, and what is held.
    """
    name, held = manifest.name, [one for one in manifest.parts if one.table == table.name]
    if not held:
        tables = _listed(one.table for one in manifest.parts)
        raise InputError("table", got=table.name, expected=f"one that snapshot {name!r} holds: {tables}")
    of_market = [one.timeframe for one in held if one.market == str(part.market)]
    if not of_market:
        markets = _listed(one.market for one in held)
        raise InputError("market", got=str(part.market), expected=f"one that snapshot {name!r} holds: {markets}")
    for timeframe in part.timeframes:
        if timeframe not in of_market:
            expected = f"one at which snapshot {name!r} holds {part.market}: {_listed(of_market)}"
            raise InputError("timeframe", got=timeframe.value, expected=expected)
    window = whole_days(manifest.window) if table is GAPS else manifest.window
    if part.window.start < window.start or part.window.start > window.end:
        expected = f"a time inside snapshot {name!r}, which holds {window}"
        raise InputError("start", got=format_time(part.window.start), expected=expected)
    if part.window.end > window.end:
        expected = f"at most {format_time(window.end)}, where snapshot {name!r} ends"
        raise InputError("end", got=format_time(part.window.end), expected=expected)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(names))


def verify_snapshot(store: CandleStore, name: str, *, advance: Advance = say_nothing) -> Verification:
    """Read everything a snapshot holds again and compare it with its manifest.

    Raises:
        SnapshotMissing: there is no such snapshot.
        StoreCorrupt, OutdatedStore: its manifest cannot be read. Other damage is a difference.
    """
    manifest = manifest_of(store, name)
    return verify(manifest, partial(store.read_snapshot, name), advance=advance)


def verify(manifest: Manifest, read: Read, *, advance: Advance = say_nothing) -> Verification:
    """Compare what ``read`` gives with a manifest, part by part; a part that cannot be read is a difference.

    Raises:
        OutdatedStore: a later version made it, with columns that this one does not know.
    """
    require_known(manifest)
    compares_bytes = manifest.polars_version == pl.__version__
    differences = []
    found = identity(manifest.window, manifest.parts)
    if found != manifest.id:
        differences.append(Difference("manifest", "id", manifest.id, found))
    for number, (said, wanted) in enumerate(zip(manifest.parts, manifest.wanted, strict=True), start=1):
        try:
            is_ = describe(read, wanted, manifest.window, manifest.columns[said.table])
        except StoreCorrupt as error:
            differences.append(Difference(str(said), "rows", f"{said.rows} that can be read", str(error)))
        else:
            differences += _differences(said, is_, compares_bytes=compares_bytes)
        advance(number, len(manifest.parts))
    return Verification(manifest, tuple(differences), compares_bytes)


def _differences(said: Part, found: Part, *, compares_bytes: bool) -> Iterator[Difference]:
    for field in Part.__struct_fields__:
        expected, is_ = getattr(said, field), getattr(found, field)
        if expected != is_ and (field != "sha256" or compares_bytes):
            yield Difference(str(said), field, _text(expected), _text(is_))


def _text(value: object) -> str:
    return format_time(value) if isinstance(value, datetime) else str(value)


def delete_snapshot(store: CandleStore, name: str) -> Manifest | None:
    """Forget a snapshot; return what it said of itself, None where that could not be read.

    Raises:
        SnapshotMissing: there is no such snapshot.
    """
    try:
        manifest = manifest_of(store, name)
    except (StoreCorrupt, OutdatedStore):
        manifest = None
    store.delete_snapshot(name)
    return manifest
