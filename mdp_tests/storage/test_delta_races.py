"""Two writers at the same time, moment by moment: a rival who commits while a slice is being worked out.

Not here: real processes (``test_delta_processes``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pytest
import stamina
from polars.testing import assert_frame_equal

from mdp.errors import WriteConflict
from mdp.ports import OHLCV, Table
from mdp.storage import DeltaStore
from mdp.storage.delta_log import DeltaLog
from mdp.storage.delta_table import LakeTable
from mdp.storage.parquet import FileReader
from mdp_tests.contracts.rows import DAY, EVER, OTHER_MARKET, part, rows_at

MONTH = part("2024-12-01", "2025-01-01")


class Overtaken(DeltaStore):
    """A store that lets a rival act each time it has written its files and not yet committed them."""

    def __init__(self, lake_dir: Path, rival: Callable[[], None]) -> None:
        super().__init__(lake_dir)
        self.rival = rival
        self.attempts = 0

    def _table(self, table):
        return OvertakenTable(self, table)


class OvertakenTable(LakeTable):
    def __init__(self, store: Overtaken, table: Table) -> None:
        super().__init__(store.directory(table), table, FileReader())
        self.store = store

    def write(self, pieces):
        written = super().write(pieces)
        self.store.attempts += 1
        self.store.rival()
        return written


class Ambushed(DeltaStore):
    """A store that lets a rival act at the last moment: after it has looked at the log, before it commits."""

    def __init__(self, lake_dir: Path, rival: Callable[[], None]) -> None:
        super().__init__(lake_dir)
        self.rival = rival

    def _table(self, table):
        directory = self.directory(table)
        return LakeTable(directory, table, FileReader(), AmbushedLog(directory, table, self.rival))


class AmbushedLog(DeltaLog):
    def __init__(self, directory: Path, table: Table, rival: Callable[[], None]) -> None:
        super().__init__(directory, table)
        self.rival = rival

    def _try_commit(self, change):
        self.rival()
        return super()._try_commit(change)


@pytest.fixture(autouse=True)
def _without_waiting() -> Iterator[None]:
    with stamina.set_testing(True, attempts=3):
        yield


@pytest.fixture
def rival(tmp_path: Path) -> DeltaStore:
    return DeltaStore(tmp_path / "lake")


def once(action: Callable[[], None]) -> Callable[[], None]:
    actions = [action]
    return lambda: actions.pop()() if actions else None


def data_files(store: DeltaStore) -> set[str]:
    root = store.directory(OHLCV)
    return {path.relative_to(root).as_posix() for path in root.rglob("exchange=*/**/*.parquet")}


STORES = (Overtaken, Ambushed)
EMPTY = OHLCV.schema.to_frame()


@pytest.mark.parametrize("make", STORES)
@pytest.mark.parametrize("before", [EMPTY, rows_at(OHLCV, ["2024-12-30"])], ids=["empty", "filled"])
def test_two_replacements_of_one_slice_leave_one_copy_the_later(rival, make, before):
    rival.replace(OHLCV, DAY, before)
    theirs, ours = rows_at(OHLCV, ["2024-12-30T01:00"], seed=1), rows_at(OHLCV, ["2024-12-30T02:00"], seed=2)
    store = make(rival.lake_dir, once(lambda: rival.replace(OHLCV, DAY, theirs)))
    store.replace(OHLCV, DAY, ours)
    assert_frame_equal(rival.read(OHLCV, EVER), ours)
    assert len(rival.live_files(OHLCV)) == 1


@pytest.mark.parametrize("make", STORES)
def test_files_of_an_attempt_that_lost_are_removed(rival, make):
    store = make(rival.lake_dir, once(lambda: rival.replace(OHLCV, DAY, rows_at(OHLCV, ["2024-12-30"]))))
    store.replace(OHLCV, DAY, rows_at(OHLCV, ["2024-12-30"], seed=1))
    of_rival_and_ours = 2
    assert len(data_files(rival)) == of_rival_and_ours
    assert {file.path for file in rival.live_files(OHLCV)} < data_files(rival)


@pytest.mark.parametrize("make", STORES)
def test_another_day_of_the_same_month_is_not_lost(rival, make):
    rival.replace(OHLCV, MONTH, rows_at(OHLCV, ["2024-12-01"]))
    next_day = part("2024-12-31", "2025-01-01")
    store = make(rival.lake_dir, once(lambda: rival.replace(OHLCV, next_day, rows_at(OHLCV, ["2024-12-31"]))))
    store.replace(OHLCV, DAY, rows_at(OHLCV, ["2024-12-30"]))
    assert rival.read(OHLCV, EVER)["open_time"].dt.day().to_list() == [1, 30, 31]


@pytest.mark.parametrize("make", STORES)
def test_a_deletion_is_worked_out_again_when_the_month_got_another_day(rival, make):
    # What is deleted is all there is: nothing is written, and the rival's file holds the deleted day once more.
    rival.replace(OHLCV, DAY, rows_at(OHLCV, ["2024-12-30"]))
    next_day = part("2024-12-31", "2025-01-01")
    store = make(rival.lake_dir, once(lambda: rival.replace(OHLCV, next_day, rows_at(OHLCV, ["2024-12-31"]))))
    store.replace(OHLCV, DAY, EMPTY)
    assert rival.read(OHLCV, EVER)["open_time"].dt.day().to_list() == [31]


@pytest.mark.parametrize("make", STORES)
def test_two_deletions_of_one_slice_both_succeed(rival, make):
    rival.replace(OHLCV, MONTH, rows_at(OHLCV, ["2024-12-30", "2024-12-31"]))
    store = make(rival.lake_dir, once(lambda: rival.replace(OHLCV, DAY, EMPTY)))
    store.replace(OHLCV, DAY, EMPTY)
    assert rival.read(OHLCV, EVER)["open_time"].dt.day().to_list() == [31]


@pytest.mark.parametrize("make", STORES)
def test_rows_appended_to_the_slice_meanwhile_are_replaced_too(rival, make):
    store = make(rival.lake_dir, once(lambda: rival.append(OHLCV, rows_at(OHLCV, ["2024-12-30", "2024-12-31"]))))
    store.replace(OHLCV, DAY, rows_at(OHLCV, ["2024-12-30T01:00"]))
    assert (
        rival.read(OHLCV, EVER)["open_time"].to_list()
        == rows_at(OHLCV, ["2024-12-30T01:00", "2024-12-31"])["open_time"].to_list()
    )


ELSEWHERE = {
    "another market": (part("2024-12-30", "2024-12-31", market=OTHER_MARKET), {"market": OTHER_MARKET}),
    "another timeframe": (part("2024-12-30", "2024-12-31", "1h"), {"timeframe": "1h"}),
    "another month": (part("2024-11-30", "2024-12-01"), {}),
}


@pytest.mark.parametrize(("where", "kind"), ELSEWHERE.values(), ids=ELSEWHERE)
def test_a_writer_elsewhere_costs_no_second_working_out(rival, where, kind):
    theirs = rows_at(OHLCV, [where.window.start], **kind)
    ours = rows_at(OHLCV, ["2024-12-30"], seed=1)
    store = Overtaken(rival.lake_dir, lambda: rival.replace(OHLCV, where, theirs))
    store.replace(OHLCV, DAY, ours)
    assert store.attempts == 1
    assert_frame_equal(rival.read(OHLCV, DAY), ours)
    assert_frame_equal(rival.read(OHLCV, where), theirs)


@pytest.mark.parametrize(("where", "kind"), ELSEWHERE.values(), ids=ELSEWHERE)
def test_a_writer_elsewhere_at_the_last_moment_hinders_nobody(rival, where, kind):
    theirs, ours = rows_at(OHLCV, [where.window.start], **kind), rows_at(OHLCV, ["2024-12-30"], seed=1)
    store = Ambushed(rival.lake_dir, once(lambda: rival.replace(OHLCV, where, theirs)))
    with stamina.set_testing(True, attempts=1):
        store.replace(OHLCV, DAY, ours)
    assert_frame_equal(rival.read(OHLCV, DAY), ours)
    assert_frame_equal(rival.read(OHLCV, where), theirs)


@pytest.mark.slow
def test_a_table_whose_writers_never_rest_is_a_conflict_and_not_a_wait_for_ever(rival):
    seeds = iter(range(1_000))
    store = Ambushed(rival.lake_dir, lambda: rival.append(OHLCV, rows_at(OHLCV, ["2023-01-01"], seed=next(seeds))))
    with pytest.raises(WriteConflict, match="other writers of the table won"):
        store.append(OHLCV, rows_at(OHLCV, ["2024-12-30"]))
    assert rival.read(OHLCV, DAY).is_empty()


def test_appends_never_hinder_each_other(rival):
    for make in STORES:
        store = make(rival.lake_dir, once(lambda: rival.append(OHLCV, rows_at(OHLCV, ["2024-12-30"], seed=1))))
        store.append(OHLCV, rows_at(OHLCV, ["2024-12-30"], seed=2))
    assert rival.read(OHLCV, DAY).height == 4


def test_who_always_loses_gives_up_and_leaves_nothing(rival):
    theirs = iter(rows_at(OHLCV, ["2024-12-30"], seed=seed) for seed in range(9))
    store = Overtaken(rival.lake_dir, lambda: rival.replace(OHLCV, DAY, next(theirs)))
    with pytest.raises(WriteConflict, match=r"ohlcv binance:BTC-USDT 1m \[2024-12-30"):
        store.replace(OHLCV, DAY, rows_at(OHLCV, ["2024-12-30"], seed=99))
    assert store.attempts == 3
    assert_frame_equal(rival.read(OHLCV, EVER), rows_at(OHLCV, ["2024-12-30"], seed=2))
    assert len(data_files(rival)) == 3


@pytest.mark.slow
def test_the_threads_of_a_process_may_share_a_store(rival):
    with stamina.set_testing(False), ThreadPoolExecutor(8) as threads:
        days = [(part(f"2024-12-{day:02d}", f"2024-12-{day + 1:02d}"), f"2024-12-{day:02d}") for day in range(1, 25)]
        list(threads.map(lambda day: rival.replace(OHLCV, day[0], rows_at(OHLCV, [day[1]])), days))
        found = list(threads.map(lambda day: rival.read(OHLCV, day[0]), days))
    assert_frame_equal(pl.concat(found), rival.read(OHLCV, MONTH))
    assert rival.read(OHLCV, MONTH).height == 24
