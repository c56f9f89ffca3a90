"""A snapshot stays what it is: the past is told anew, files are joined and removed, its folder goes elsewhere."""

from __future__ import annotations

import hashlib
import io
import json
import os
from datetime import date

import polars as pl
import pytest

from mdp.domain.digests import digest
from mdp.domain.interval import Interval
from mdp.domain.market import Market
from mdp.domain.timeframe import Timeframe
from mdp.pipeline.snapshots import manifest_of, read_snapshot
from mdp.ports import GAPS, OHLCV, REVISIONS, Slice
from mdp.storage import open_store
from mdp_tests.support.simulator_control import Control
from mdp_tests.support.simulator_process import running_simulator
from mdp_tests.support.workplace import Workplace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

BTC = Market.parse("binance:BTC-USDT")
DAYS = Interval.of_days(date(2021, 4, 22), date(2021, 4, 23))
BOUNDS = ("--start", "2021-04-22", "--end", "2021-04-24")
NO_ARCHIVES = {"MDP_EXCHANGES__BINANCE__ARCHIVES": "false"}
TIMEFRAMES = tuple(Timeframe)


def ran(workplace, *arguments, code=0):
    result = workplace.run(*arguments)
    assert result.returncode == code, f"{arguments}: {result.stdout}{result.stderr}"
    return result.stdout


def arrow(rows):
    body = io.BytesIO()
    rows.write_ipc_stream(body)
    return hashlib.sha256(body.getvalue()).hexdigest()


def held(store, name):
    """Every candle and gap of a snapshot: its digest, and the bytes of its Arrow stream."""
    tables = ((OHLCV, TIMEFRAMES), (GAPS, (Timeframe.M1,)))
    read = {table.name: read_snapshot(store, name, table, Slice(BTC, lengths, DAYS)) for table, lengths in tables}
    return {name: (digest(rows), arrow(rows)) for name, rows in read.items()}


def stored(store):
    return store.read(OHLCV, Slice(BTC, TIMEFRAMES, DAYS))


def retain_for(hours):
    return {"MDP_MAINTENANCE__RETENTION_HOURS": str(hours), "MDP_MAINTENANCE__COMPACT_FILES": "1"}


@pytest.fixture(scope="module")
def restated(tmp_path_factory):
    """A lake whose past was told anew after a snapshot of it was taken, and what the snapshot held at first."""
    with running_simulator("--scenario", "restated", "--now", "2025-01-08T00:00Z") as simulator:
        workplace = Workplace(tmp_path_factory.mktemp("restated"), simulator.url, NO_ARCHIVES | retain_for(1))
        ran(workplace, "backfill", "-m", str(BTC), *BOUNDS)
        ran(workplace, "snapshot", "create", "before", "-m", str(BTC), *BOUNDS, "--note", "as first told")
        store = open_store(workplace.settings)
        first = held(store, "before"), stored(store)
        Control(simulator.url).set_now("2025-01-08T13:00Z")
        ran(workplace, "backfill", "-m", str(BTC), *BOUNDS)
        yield workplace, *first


def age_lake(workplace, days):
    """Let all that was ever written to the lake, and each entry of its logs, be so many days older."""
    lake, shift_s = workplace.settings.lake_dir, days * 86_400
    for path in lake.rglob("*"):
        if path.is_file():
            status = path.stat()
            os.utime(path, (status.st_atime - shift_s, status.st_mtime - shift_s))
    for log in lake.glob("*/_delta_log/*.json"):
        times = log.stat().st_atime, log.stat().st_mtime
        entries = [json.loads(line) for line in log.read_text().splitlines()]
        for entry in entries:
            if "remove" in entry:
                entry["remove"]["deletionTimestamp"] -= shift_s * 1_000
            if "commitInfo" in entry:
                entry["commitInfo"]["timestamp"] -= shift_s * 1_000
        log.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
        os.utime(log, times)


def test_a_snapshot_is_the_same_bytes_whatever_becomes_of_the_tables(restated):
    workplace, first, before = restated
    store = open_store(workplace.settings)
    now = stored(store)
    changed = now.filter(pl.col("timeframe") == "1m").join(before, on=["timeframe", "open_time", "close"], how="anti")
    assert len(store.read(REVISIONS, Slice(BTC, (Timeframe.M1,), DAYS))) == 70
    assert not changed.is_empty()
    assert held(store, "before") == first
    old_files = set(workplace.settings.lake_dir.rglob("ohlcv/**/*.parquet"))

    age_lake(workplace, days=3)
    report = json.loads(ran(workplace, "maintain", "--json"))
    removed = {one["table"]: one["vacuum"]["files"] for one in report["tables"]}
    left = set(workplace.settings.lake_dir.rglob("ohlcv/**/*.parquet"))
    print(f"{sum(removed.values())} files removed, of ohlcv {len(old_files - left)}")
    assert removed["ohlcv"] > 0
    store = open_store(workplace.settings)
    assert stored(store).equals(now), "maintenance changes no row"
    assert held(store, "before") == first
    assert read_snapshot(store, "before", OHLCV, Slice(BTC, TIMEFRAMES, DAYS)).equals(before)
    ran(workplace, "snapshot", "verify", "before")
    manifest = manifest_of(store, "before")
    minutes = next(part for part in manifest.parts if (part.table, part.timeframe) == ("ohlcv", Timeframe.M1))
    assert (minutes.rows, minutes.expected, minutes.missing, minutes.sources) == (2880, 2880, {}, {"rest": 2880})

    ran(workplace, "snapshot", "create", "after", "-m", str(BTC), *BOUNDS)
    assert manifest_of(store, "after").id != manifest.id
    places = {one["name"]: one["size_bytes"] for one in json.loads(ran(workplace, "storage", "--json"))["besides"]}
    assert places["snapshots, beside the lake"] > 0, "what only the snapshot still holds takes room"


def test_an_export_is_verified_and_loaded_elsewhere_and_a_flipped_byte_is_named(restated, tmp_path):
    workplace, first, _ = restated
    ran(workplace, "snapshot", "export", "before", str(tmp_path / "out"))
    (tmp_path / "far").mkdir()
    away = tmp_path / "far" / "away"
    (tmp_path / "out").rename(away)
    elsewhere = Workplace(tmp_path / "elsewhere", extra=NO_ARCHIVES)
    ran(elsewhere, "snapshot", "verify", str(away))
    assert not elsewhere.data_dir.exists() or not list(elsewhere.data_dir.rglob("*.parquet")), "it needs no lake"
    ran(elsewhere, "snapshot", "load", str(away), "--name", "theirs")
    ran(elsewhere, "snapshot", "verify", "theirs")
    assert held(open_store(elsewhere.settings), "theirs") == first
    assert (
        manifest_of(open_store(elsewhere.settings), "theirs").id
        == manifest_of(open_store(workplace.settings), "before").id
    )

    path = away / "ohlcv/exchange=binance/symbol=BTC-USDT/timeframe=5m/2021-04.parquet"
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(body)
    said = ran(elsewhere, "snapshot", "verify", str(away), code=1)
    assert "timeframe=5m/2021-04.parquet" in said
    assert "1h/2021.parquet" not in said
    assert "5m/2021-04.parquet" in elsewhere.run("snapshot", "load", str(away), "--name", "again").stderr
    assert set(open_store(elsewhere.settings).snapshots()) == {"theirs"}
