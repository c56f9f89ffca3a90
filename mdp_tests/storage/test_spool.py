"""Pages on disk: the same rows again or none at all, whatever happened to the file in between."""

from __future__ import annotations

import logging
import multiprocessing
import os
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from mdp.domain.interval import Interval
from mdp.domain.market import Market
from mdp.domain.timeframe import Timeframe
from mdp.exchanges.frames import ANSWER_SCHEMA
from mdp.storage.spool import KEPT, PAGE_SCHEMA, FileSpool

BTC, ETH = Market.parse("binance:BTC-USDT"), Market.parse("binance:ETH-USDT")
START = datetime(2024, 1, 1, tzinfo=UTC)
NOW = datetime(2025, 1, 15, 12, tzinfo=UTC)
M1 = Timeframe.M1


def _window(number=0, slots=10):
    start = START + number * timedelta(minutes=slots)
    return Interval(start, start + timedelta(minutes=slots))


def _rows(window=None, price=100.0, source="rest"):
    window = window or _window()
    times = [window.start + index * timedelta(minutes=1) for index in range(window.slots(M1))]
    return pl.DataFrame(
        [
            ("binance", "BTC-USDT", "1m", time, price, price + 1, 0.5, 0.1 + index, None, 7.5, None, True, source, NOW)
            for index, time in enumerate(times)
        ],
        schema=PAGE_SCHEMA,
        orient="row",
    )  # fmt: skip


def _spool(folder, now=NOW, address="https://api.binance.com"):
    return FileSpool(folder, lambda: now, lambda _exchange: address)


def _files(folder):
    return sorted(path for path in Path(folder).rglob("*") if path.is_file())


def test_a_page_of_one_address_is_no_answer_of_another_and_no_address_is_written_down(tmp_path):
    _spool(tmp_path, address="http://user:secret@127.0.0.1:8790/binance").keep(BTC, M1, _window(), _rows())
    assert _spool(tmp_path).load(BTC, M1, _window()) is None
    _spool(tmp_path).discard(BTC, M1, _window())
    assert len(_files(tmp_path)) == 1
    assert not any("secret" in str(path) or b"secret" in path.read_bytes() for path in _files(tmp_path))


def test_a_page_is_what_a_source_returns():
    assert PAGE_SCHEMA == ANSWER_SCHEMA


@pytest.mark.parametrize(
    "rows",
    [
        _rows(),
        _rows().clear(),
        _rows()[::-1],
        _rows().head(1),
        pl.concat([_rows(source="rest"), _rows(source="archive")]),
        _rows().with_columns(source=pl.lit(None, pl.String)),
        _rows().with_columns(pl.lit("žluťoučký \n\x00 kůň").alias("source")),
    ],
    ids=["whole", "empty", "newest first", "one row", "two sources", "no source", "strange source"],
)
def test_a_page_comes_back_to_the_bit_in_its_order(tmp_path, rows):
    _spool(tmp_path).keep(BTC, M1, _window(), rows)
    again = _spool(tmp_path).load(BTC, M1, _window())
    assert again.schema == rows.schema
    assert again.equals(rows, null_equal=True)


def test_a_page_that_was_never_kept_is_none(tmp_path):
    assert _spool(tmp_path / "not there").load(BTC, M1, _window()) is None


def test_a_page_belongs_to_its_market_its_timeframe_and_its_exact_window(tmp_path):
    spool = _spool(tmp_path)
    spool.keep(BTC, M1, _window(), _rows())
    window, instant = _window(), timedelta(microseconds=1)
    for market, timeframe, other in [
        (ETH, M1, window),
        (Market.parse("bybit:BTC-USDT"), M1, window),
        (BTC, Timeframe.M5, window),
        (BTC, M1, Interval(window.start, window.end - instant)),
        (BTC, M1, Interval(window.start + instant, window.end)),
        (BTC, M1, _window(1)),
    ]:
        assert spool.load(market, timeframe, other) is None
    assert spool.load(BTC, M1, window) is not None


def test_a_page_kept_again_is_the_newer_one(tmp_path):
    spool = _spool(tmp_path)
    for price in (1.0, 2.0):
        spool.keep(BTC, M1, _window(), _rows(price=price))
    assert spool.load(BTC, M1, _window())["open"].unique().to_list() == [2.0]
    assert len(_files(tmp_path)) == 1


@pytest.mark.parametrize(("age", "is_there"), [(KEPT, True), (KEPT + timedelta(seconds=1), False), (-KEPT, False)])
def test_a_page_is_believed_for_a_day_and_not_if_it_comes_from_the_future(tmp_path, age, is_there):
    _spool(tmp_path).keep(BTC, M1, _window(), _rows())
    assert (_spool(tmp_path, NOW + age).load(BTC, M1, _window()) is not None) is is_there


def test_a_file_cut_or_changed_anywhere_is_no_page_and_is_removed(tmp_path):
    spool = _spool(tmp_path)
    spool.keep(BTC, M1, _window(), _rows())
    (path,) = _files(tmp_path)
    whole = path.read_bytes()
    chance = random.Random(7)
    spoilt = [whole[:length] for length in (0, 1, 3, 4, 5, 100, len(whole) // 2, len(whole) - 1)]
    spoilt += [bytes(len(whole)), whole + b"\0", whole * 2, b"\n", b"{}\n", b"not ours at all"]
    for place in chance.sample(range(len(whole)), 40):
        spoilt.append(whole[:place] + bytes([whole[place] ^ (1 << chance.randrange(8))]) + whole[place + 1 :])
    for content in spoilt:
        path.write_bytes(content)
        os.utime(path, (NOW.timestamp(), NOW.timestamp()))
        assert spool.load(BTC, M1, _window()) is None
        assert not path.exists()


def test_a_whole_page_under_another_pages_name_is_not_taken_for_it(tmp_path):
    spool = _spool(tmp_path)
    spool.keep(BTC, M1, _window(0), _rows())
    (path,) = _files(tmp_path)
    spool.keep(BTC, M1, _window(1), _rows(_window(1)))
    (other,) = set(_files(tmp_path)) - {path}
    other.write_bytes(path.read_bytes())
    os.utime(other, (NOW.timestamp(), NOW.timestamp()))
    assert spool.load(BTC, M1, _window(1)) is None
    assert spool.load(BTC, M1, _window(0)) is not None


def test_a_page_with_other_columns_is_not_taken(tmp_path):
    spool = _spool(tmp_path)
    for rows in (_rows().drop("trades"), _rows().with_columns(pl.col("open").cast(pl.Float32))):
        spool.keep(BTC, M1, _window(), rows)
        assert spool.load(BTC, M1, _window()) is None


def test_what_a_killed_writer_left_behind_is_not_read_and_goes_when_it_is_old(tmp_path):
    spool = _spool(tmp_path)
    spool.keep(BTC, M1, _window(), _rows())
    (path,) = _files(tmp_path)
    left = path.with_name(f".{path.name}.4711-0")
    path.rename(left)
    os.utime(left, (NOW.timestamp(), NOW.timestamp()))
    assert spool.load(BTC, M1, _window()) is None
    spool.discard(BTC, M1, _window())
    assert left.exists()  # its writer may still be at it
    _spool(tmp_path, NOW + KEPT + timedelta(seconds=1)).discard(BTC, M1, _window())
    assert not left.exists()


def test_discarding_forgets_the_pages_inside_a_window_and_no_others(tmp_path):
    spool = _spool(tmp_path)
    for number in range(5):
        spool.keep(BTC, M1, _window(number), _rows(_window(number)))
    spool.keep(ETH, M1, _window(2), _rows(_window(2)))
    spool.keep(BTC, Timeframe.M5, _window(2), _rows(_window(2)))
    part = Interval(_window(1).start, _window(3).end - timedelta(microseconds=1))
    spool.discard(BTC, M1, part)
    assert [spool.load(BTC, M1, _window(number)) is not None for number in range(5)] == [True, False, False, True, True]
    assert spool.load(ETH, M1, _window(2)) is not None
    assert spool.load(BTC, Timeframe.M5, _window(2)) is not None
    spool.discard(BTC, M1, Interval(_window(0).start, _window(4).end))
    spool.discard(BTC, M1, _window(0))
    assert [path.parts[-3:-1] for path in _files(tmp_path)] == [("BTC-USDT", "5m"), ("ETH-USDT", "1m")]


def test_discarding_takes_what_is_too_old_to_be_believed_with_it(tmp_path):
    _spool(tmp_path).keep(BTC, M1, _window(7), _rows(_window(7)))
    later = _spool(tmp_path, NOW + KEPT + timedelta(seconds=1))
    later.discard(BTC, M1, _window(0))
    assert _files(tmp_path) == []


@pytest.mark.parametrize("trouble", ["a file in the way", "read-only", "full"])
def test_a_disk_that_cannot_be_written_loses_the_page_and_says_so_once(tmp_path, trouble, caplog):
    folder = tmp_path / "spool"
    if trouble == "a file in the way":
        folder.write_text("here first")
    elif trouble == "read-only":
        folder = Path("/proc/spool")  # nobody may write here, not even root
    else:
        folder = Path("/dev/full/spool")
    spool = _spool(folder)
    with caplog.at_level(logging.WARNING):
        for number in range(3):
            spool.keep(BTC, M1, _window(number), _rows(_window(number)))
            assert spool.load(BTC, M1, _window(number)) is None
        spool.discard(BTC, M1, _window())
    assert len(caplog.records) == 1
    assert str(folder) in caplog.text


def test_a_page_that_could_not_be_renamed_leaves_nothing_behind(tmp_path):
    spool = _spool(tmp_path)
    spool.keep(BTC, M1, _window(), _rows())
    (path,) = _files(tmp_path)
    path.unlink()
    path.mkdir()
    (path / "something").write_text("in the way")
    spool.keep(BTC, M1, _window(), _rows())
    assert _files(tmp_path) == [path / "something"]


def _keep_and_load(folder, seed):
    spool, chance = _spool(Path(folder)), random.Random(seed)
    for _ in range(150):
        number = chance.randrange(3)
        window = _window(number)
        turn = chance.randrange(5)
        if turn == 0:
            spool.discard(BTC, M1, window)
        elif turn < 3:
            spool.keep(BTC, M1, window, _rows(window, price=float(number)))
        else:
            rows = spool.load(BTC, M1, window)
            assert rows is None or rows.equals(_rows(window, price=float(number)))


@pytest.mark.slow
def test_many_processes_on_the_same_pages_read_whole_ones_or_none(tmp_path):
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_keep_and_load, args=(str(tmp_path), seed)) for seed in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert not [path for path in _files(tmp_path) if path.name.startswith(".")]


def test_sweeping_removes_what_no_market_can_believe_any_more_and_nothing_else(tmp_path):
    _spool(tmp_path, NOW - KEPT - timedelta(seconds=1)).keep(BTC, M1, _window(0), _rows())
    _spool(tmp_path, NOW - KEPT).keep(BTC, M1, _window(1), _rows())
    (old, young) = _files(tmp_path)
    unfinished = old.with_name(f".{old.name}.123-0")
    foreign = old.with_name("notes.page.txt")
    for path in (unfinished, foreign):
        path.write_bytes(b"half")
        os.utime(path, (0, 0))
    spool = _spool(tmp_path, address="http://elsewhere")
    would = spool.sweep(dry_run=True)
    assert len(_files(tmp_path)) == 4
    assert (would.files, would.size_bytes) == (2, old.stat().st_size + 4)
    assert spool.sweep() == would
    assert _files(tmp_path) == sorted([young, foreign])
    assert _spool(tmp_path).load(BTC, M1, _window(1)) is not None
    assert spool.sweep().files == 0
    assert _spool(tmp_path / "nothing").sweep().files == 0
