"""A damaged lake is made whole: the same as one that never was, with revisions, and nothing to do afterwards."""

from __future__ import annotations

import json
import shutil
from datetime import date, timedelta

import polars as pl
import pytest

from mdp.domain.interval import Interval
from mdp.domain.market import Market
from mdp.domain.timeframe import RESAMPLED, Timeframe
from mdp.ports import OHLCV, RAW_OHLCV, REVISIONS, Slice
from mdp.storage import open_store
from mdp_tests.support.builders import at, window
from mdp_tests.support.workplace import Workplace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

BTC = Market.parse("binance:BTC-USDT")
DAYS = Interval.of_days(date(2024, 12, 30), date(2025, 1, 3))
MINUTES = Slice(BTC, (Timeframe.M1,), DAYS)
HOLE = Interval(at("2024-12-31T03:00"), at("2024-12-31T03:00") + timedelta(minutes=2_500))
TWICE = window("2025-01-03", "2025-01-04")
IN_CANDLES, IN_BOTH = at("2024-12-30T12:00"), at("2025-01-02T20:00")


@pytest.fixture(scope="module")
def places(tmp_path_factory, simulator_url):
    """A lake that is whole, and a copy of it."""
    archive = {"MDP_EXCHANGES__BINANCE__ARCHIVE_URL": f"{simulator_url}/binance-archive"}
    folder = tmp_path_factory.mktemp("heal")
    whole = Workplace(folder / "whole", simulator_url, archive)
    whole.data_dir.mkdir()
    result = whole.run("backfill", "-m", str(BTC), "--start", "2024-12-30", "--end", "2025-01-04")
    assert result.returncode == 0, result.stdout + result.stderr
    shutil.copytree(whole.data_dir, folder / "ill")
    return whole, Workplace(folder / "ill", simulator_url, archive)


def is_inside(interval):
    return pl.col("open_time").is_between(interval.start, interval.end, closed="left")


def with_other_close(rows, moment):
    """Half way to the high or the low, so that no rule is broken."""
    other = pl.when(pl.col("close") < pl.col("high")).then("high").otherwise("low")
    halfway = (pl.col("close") + other) / 2
    return rows.with_columns(pl.when(pl.col("open_time") == moment).then(halfway).otherwise("close").alias("close"))


def damage(workplace):
    store = open_store(workplace.settings)
    every = Slice(BTC, (Timeframe.M1, *RESAMPLED), DAYS)
    for table, part in ((RAW_OHLCV, MINUTES), (OHLCV, every)):
        store.replace(table, part, store.read(table, part).filter(~is_inside(HOLE)))
    for table, moment in ((OHLCV, IN_CANDLES), (RAW_OHLCV, IN_BOTH), (OHLCV, IN_BOTH)):
        store.replace(table, MINUTES, with_other_close(store.read(table, MINUTES), moment))
    day = Slice(BTC, (Timeframe.M1,), TWICE)
    rows = store.read(OHLCV, day)
    store.replace(OHLCV, day, pl.concat([rows, rows]))


def files_of(workplace):
    """Every file of the lake: a table of another version has another one."""
    return {str(path): path.stat().st_mtime_ns for path in workplace.settings.lake_dir.rglob("*") if path.is_file()}


def test_a_hole_two_corrupted_closes_and_a_day_stored_twice_are_healed_and_a_second_run_changes_nothing(places):
    whole, ill = places
    good = open_store(whole.settings).read(OHLCV, MINUTES)
    damage(ill)
    looked = ill.run("heal", "--dry-run", "--json")
    assert looked.returncode == 3, looked.stderr
    reasons = {one["reason"] for one in json.loads(looked.stdout)["found"]}
    assert reasons == {
        "raw rows are not those received", "minutes are not those of the raw rows", "minutes stored more than once",
        "minutes neither stored nor in a gap", "longer candles are not those of the minutes",
    }  # fmt: skip

    healed = ill.run("heal", "-m", str(BTC), "--json")
    assert healed.returncode == 0, healed.stdout + healed.stderr
    report = json.loads(healed.stdout)
    (market,) = report["markets"]
    assert (market["expected"], market["after"]["present"], market["revised"]) == (7200, 7200, 2)
    assert market["before"]["present"] == 7200 - 2500
    assert ill.digests(str(BTC), DAYS) == whole.digests(str(BTC), DAYS)

    revisions = open_store(ill.settings).read(REVISIONS, MINUTES)
    told = dict(good.select("open_time", "close").iter_rows())
    assert revisions["open_time"].to_list() == [IN_CANDLES, IN_BOTH]
    assert revisions["new_close"].to_list() == [told[IN_CANDLES], told[IN_BOTH]]
    assert (revisions["old_close"] != revisions["new_close"]).all()

    before = files_of(ill)
    again = ill.run("heal")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "FOUND" not in again.stdout
    assert files_of(ill) == before
    print(f"{len(report['found'])} ailments, {len(revisions)} revisions, {market['after']['present']} minutes")


def test_days_that_were_never_collected_are_collected_when_they_are_named(places):
    whole, _ = places
    result = whole.run("heal", "-m", str(BTC), "--start", "2025-01-03", "--end", "2025-01-05")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "never asked for" in result.stdout
    assert (
        len(open_store(whole.settings).read(OHLCV, Slice(BTC, (Timeframe.M1,), window("2025-01-04", "2025-01-05"))))
        == 1440
    )


def test_a_start_without_an_end_is_refused_by_name(places):
    whole, _ = places
    result = whole.run("heal", "--start", "2025-01-03")
    assert result.returncode == 2
    assert "start, end: expected both" in result.stderr
