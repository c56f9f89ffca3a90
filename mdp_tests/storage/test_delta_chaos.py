"""A minute of everything at once: writers, readers and a maintainer on one lake, and SIGKILLs at random.

What a writer acknowledged must be there at the end, whatever became of the others; no reader may ever see anything but
a slice as one writer wrote it; a snapshot taken in the middle reads the same bytes at the end. The figures are printed.
Not here: races moment by moment (``test_delta_races``).
"""

from __future__ import annotations

import os
import random
import time
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from mdp.errors import WriteConflict
from mdp.ports import OHLCV, REVISIONS
from mdp.storage import DeltaStore
from mdp.storage.delta_upkeep import compact
from mdp.storage.delta_vacuum import vacuum_files
from mdp_tests.contracts.rows import rows_at
from mdp_tests.contracts.test_candle_store_snapshots import in_bytes
from mdp_tests.support.chaos import (
    DAYS,
    MARKETS,
    Crew,
    day_of,
    generation,
    lost_appends,
    lost_replacements,
    number_of,
)

pytestmark = pytest.mark.slow

KEEP = timedelta(seconds=3)
"""Far less than the port allows: files vanish under readers and writers all the while."""

SECONDS = float(os.environ.get("CHAOS_SECONDS", "60"))


def write(lake: Path, worker: int, first: int, acknowledged: Path) -> None:
    """Replace and append for ever; note each write once it is acknowledged, and before it is begun."""
    store, chance = DeltaStore(lake), random.Random(first)
    market = MARKETS[worker % 2]
    days = list(DAYS)[worker // 2 :: 2]  # so that two writers share every month and no day
    with acknowledged.open("a", buffering=1) as notes:
        for number in range(first, first + 1_000_000):
            day = chance.choice(days)
            try:
                if number % 4:
                    notes.write(f"begin replace {worker % 2} {day} {number}\n")
                    store.replace(OHLCV, day_of(market, day), generation(market, day, number))
                    notes.write(f"done replace {worker % 2} {day} {number}\n")
                else:
                    notes.write(f"begin append {worker % 2} {day} {number}\n")
                    row = rows_at(REVISIONS, [f"2024-12-{day:02d}"], market=market, has_holes=False)
                    store.append(REVISIONS, row.with_columns(new_close=pl.lit(float(number))))
                    notes.write(f"done append {worker % 2} {day} {number}\n")
            except WriteConflict:
                notes.write(f"lost x {worker % 2} {day} {number}\n")


def read(lake: Path, worker: int, _first: int, sightings: Path) -> None:
    store, chance = DeltaStore(lake), random.Random(worker)
    with sightings.open("a", buffering=1) as notes:
        while True:
            market, day = chance.choice(MARKETS), chance.choice(list(DAYS))
            try:
                reader = store if chance.random() < 0.8 else DeltaStore(lake)
                number_of(market, day, reader.read(OHLCV, day_of(market, day)))
                seen = [reader.read(REVISIONS, day_of(market, day)).height for _ in range(2)]
                notes.write("right\n" if seen[0] <= seen[1] else f"wrong {seen}\n")
            except Exception as error:  # whatever it is, it was no right read
                notes.write(f"wrong {error!r}\n")


def maintain(lake: Path, _worker: int, _first: int, notes_path: Path) -> None:
    store = DeltaStore(lake)
    with notes_path.open("a", buffering=1) as notes:
        while True:
            for table in (OHLCV, REVISIONS):
                lake_table = store._table(table)
                notes.write(f"joined {compact(lake_table, 2).files_before}\n")
                notes.write(f"removed {vacuum_files(lake_table, KEEP, dry_run=False).files}\n")
            time.sleep(0.05)


def take(store: DeltaStore) -> bytes:
    parts = [day_of(market, day) for market in MARKETS for day in DAYS]
    with store.draft_snapshot("middle") as draft:
        draft.take(OHLCV, parts)
        draft.take(REVISIONS, parts)
        then = b"".join(in_bytes(draft.read(table, each)) for table in (OHLCV, REVISIONS) for each in parts)
        draft.publish(b"{}")
    return then


def as_pinned(store: DeltaStore) -> bytes:
    parts = [day_of(market, day) for market in MARKETS for day in DAYS]
    return b"".join(
        in_bytes(store.read_snapshot("middle", table, each)) for table in (OHLCV, REVISIONS) for each in parts
    )


def test_a_minute_of_kills_loses_nothing_and_shows_nothing_wrong(tmp_path, capsys):
    crew, chance = Crew(tmp_path / "lake", tmp_path / "notes"), random.Random(2024)
    crew.notes.mkdir()
    store = DeltaStore(crew.lake, snapshots_dir=tmp_path / "snapshots")
    jobs = [*((write, worker) for worker in range(4)), *((read, worker) for worker in range(2)), (maintain, 0)]
    for job in jobs:
        crew.begin(job)
    then = None
    try:
        crew.wait(60)
        began = time.monotonic()
        while time.monotonic() < began + SECONDS:
            time.sleep(chance.uniform(0.5, 3.0))
            crew.kill_one(chance)
            if then is None and time.monotonic() > began + SECONDS / 2:
                then = take(store)
    finally:
        crew.end()
    written, reads = crew.said("write"), crew.said("read")
    fresh = DeltaStore(crew.lake, snapshots_dir=tmp_path / "snapshots")
    wrong = [line for line in reads if line != "right"]
    lost = lost_replacements(fresh, written) + lost_appends(fresh, written)
    upkeep = [line.split() for line in crew.said("maintain")]
    figures = {
        "seconds": round(time.monotonic() - began),
        "kills": crew.kills,
        "acknowledged": sum(line.startswith("done") for line in written),
        "broken off": sum(line.startswith("begin") for line in written)
        - sum(line.startswith(("done", "lost")) for line in written),
        "conflicts": sum(line.startswith("lost") for line in written),
        "reads": len(reads),
        "wrong reads": len(wrong),
        "lost": len(lost),
        "files joined": sum(int(line[1]) for line in upkeep if line[0] == "joined"),
        "files removed": sum(int(line[1]) for line in upkeep if line[0] == "removed"),
        "versions": fresh.version(OHLCV),
    }
    with capsys.disabled():
        print(f"\nchaos: {', '.join(f'{name} {value}' for name, value in figures.items())}")
    assert (wrong[:3], lost[:3]) == ([], [])
    assert figures["acknowledged"] > 10
    assert figures["reads"] > 10
    assert figures["files joined"] > 0
    assert figures["files removed"] > 0
    for table in (OHLCV, REVISIONS):
        fresh.require_whole(table)
    assert then is not None
    assert as_pinned(fresh) == then
