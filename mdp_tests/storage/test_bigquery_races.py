"""Several writers of BigQuery at once: half-done runs, interleaved runs, and a minute of processes with kills.

What a writer acknowledged must be there at the end, no reader may ever see anything but a slice as one writer wrote it.
The emulator stays alive; writers and readers do not. Not here: requests that fail (``test_bigquery_faults``).
"""

from __future__ import annotations

import os
import random
import time
from concurrent.futures import ThreadPoolExecutor

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from mdp.config.sections import BigQuerySettings
from mdp.errors import MdpError, StorageError
from mdp.ports import OHLCV, REVISIONS
from mdp_tests.contracts.rows import part, rows_at
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

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SECONDS = float(os.environ.get("CHAOS_SECONDS", "60"))
BOTH = part("2024-12-30", "2024-12-31", "1m", "1h")


def rows(seed: int) -> pl.DataFrame:
    minutes = rows_at(OHLCV, ["2024-12-30T01:00", "2024-12-30T01:01"], seed=seed)
    return pl.concat([rows_at(OHLCV, ["2024-12-30T01:00"], timeframe="1h", seed=seed), minutes])


OLD, THEIRS, OURS = rows(1), rows(2), rows(3)


def open_store(settings: BigQuerySettings, session=None):
    # imported here: Google's libraries cost a second, which the fast tests, collected beside these, do not have
    from mdp.storage.bigquery.store import BigQueryStore

    return BigQueryStore(settings) if session is None else BigQueryStore(settings, connect=session.connect)


@pytest.fixture
def settings(bigquery_emulator, bigquery_dataset):
    return BigQuerySettings(
        project=bigquery_emulator.project,
        dataset=bigquery_dataset,
        api_endpoint=bigquery_emulator.api_endpoint,
        write_endpoint=bigquery_emulator.write_endpoint,
    )


@pytest.fixture
def session():
    from mdp_tests.support.bigquery.session import FaultySession

    return FaultySession()


def test_a_run_again_whose_second_half_fails_leaves_the_old_slice(settings, session):
    store = open_store(settings, session)
    store.replace(OHLCV, BOTH, OLD)
    client = store._jobs.client
    # the hours are written first: their half is done when that of the minutes fails
    hours, minutes = store.datasets.table("ohlcv_1h"), store.datasets.table("ohlcv_1m")

    def lose_second_table(request):
        if request.step == "statement":
            client.delete_table(minutes, not_found_ok=True)

    session.plan = lose_second_table
    with pytest.raises(StorageError, match="ohlcv_1m"):
        store.replace(OHLCV, BOTH, OURS)
    session.plan = lambda request: None
    held = client.query_and_wait(f"SELECT close FROM `{hours}`").to_arrow(create_bqstorage_client=False)
    assert_frame_equal(pl.from_arrow(held), OLD.filter(timeframe="1h").select("close"))


@pytest.mark.parametrize("step", ["upload", "query", "statement", "drop table"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_two_interleaved_runs_of_one_slice_leave_one_copy(settings, session, step, when):
    rival, store = open_store(settings), open_store(settings, session)
    rival.replace(OHLCV, BOTH, OLD)
    store.replace(OHLCV, BOTH, OLD)

    def overtake(request, send):
        if when == "before":
            rival.replace(OHLCV, BOTH, THEIRS)
        answer = send()
        if when == "after":
            rival.replace(OHLCV, BOTH, THEIRS)
        return answer

    session.log.requests.clear()
    session.plan = lambda request: overtake if (request.step, request.number) == (step, 0) else None
    store.replace(OHLCV, BOTH, OURS)
    is_rival_later = step == "drop table" or (step, when) == ("statement", "after")
    assert_frame_equal(store.read(OHLCV, BOTH), THEIRS if is_rival_later else OURS)


def test_four_runs_of_one_slice_at_once_leave_one_copy(settings):
    stores, versions = [open_store(settings) for _ in range(4)], [rows(seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as threads:
        for _ in range(3):
            list(threads.map(lambda pair: pair[0].replace(OHLCV, BOTH, pair[1]), zip(stores, versions, strict=True)))
            found = stores[0].read(OHLCV, BOTH)
            assert any(found.equals(one) for one in versions)


def write(settings: BigQuerySettings, worker: int, first: int, acknowledged) -> None:
    """Replace and append for ever; note each write before it is begun and once it is acknowledged."""
    store, chance = open_store(settings), random.Random(first)
    market, days = MARKETS[worker % 2], list(DAYS)[worker // 2 :: 2]
    with acknowledged.open("a", buffering=1) as notes:
        for number in range(first, first + 1_000_000):
            day = chance.choice(days)
            kind = "replace" if number % 4 else "append"
            notes.write(f"begin {kind} {worker % 2} {day} {number}\n")
            try:
                if kind == "replace":
                    store.replace(OHLCV, day_of(market, day), generation(market, day, number))
                else:
                    row = rows_at(REVISIONS, [f"2024-12-{day:02d}"], market=market, has_holes=False)
                    store.append(REVISIONS, row.with_columns(new_close=pl.lit(float(number))))
                notes.write(f"done {kind} {worker % 2} {day} {number}\n")
            except MdpError as error:
                notes.write(f"lost x {worker % 2} {day} {number} {error}\n")


def read(settings: BigQuerySettings, worker: int, _first: int, sightings) -> None:
    store, chance = open_store(settings), random.Random(worker)
    with sightings.open("a", buffering=1) as notes:
        while True:
            market, day = chance.choice(MARKETS), chance.choice(list(DAYS))
            try:
                number_of(market, day, store.read(OHLCV, day_of(market, day)))
                seen = [store.read(REVISIONS, day_of(market, day)).height for _ in range(2)]
                notes.write("right\n" if seen[0] <= seen[1] else f"wrong {seen}\n")
            except Exception as error:  # whatever it is, it was no right read
                notes.write(f"wrong {error!r}\n")


def test_a_minute_of_writers_readers_and_kills_loses_nothing_and_shows_nothing_wrong(settings, tmp_path, capsys):
    crew, chance = Crew(settings, tmp_path / "notes"), random.Random(2024)
    crew.notes.mkdir()
    for job in [*((write, worker) for worker in range(4)), *((read, worker) for worker in range(2))]:
        crew.begin(job)
    try:
        crew.wait(60)
        began = time.monotonic()
        while time.monotonic() < began + SECONDS:
            time.sleep(chance.uniform(4.0, 8.0))  # a process needs a second or two until it writes
            crew.kill_one(chance)
    finally:
        crew.end()
    seconds = time.monotonic() - began
    written, reads = crew.said("write"), crew.said("read")
    wrong = [line for line in reads if line != "right"]
    store = open_store(settings)
    lost = lost_replacements(store, written) + lost_appends(store, written)
    done = sum(line.startswith("done") for line in written)
    figures = {
        "seconds": round(seconds),
        "kills": crew.kills,
        "acknowledged": done,
        "broken off": sum(line.startswith("begin") for line in written)
        - sum(line.startswith(("done", "lost")) for line in written),
        "refused": sum(line.startswith("lost") for line in written),
        "reads": len(reads),
        "wrong reads": len(wrong),
        "lost": len(lost),
    }
    with capsys.disabled():
        print(f"\nBigQuery: {', '.join(f'{name} {value}' for name, value in figures.items())}")
    assert (wrong[:3], lost[:3]) == ([], [])
    assert [line for line in written if line.startswith("lost")][:3] == []
    assert done > 10
    assert len(reads) > 10
