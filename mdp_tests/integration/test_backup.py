"""Backup, wipe, restore: what comes back is what was there, while somebody writes, on SQLite and in Postgres.

Not here: damage, broken-off backups, which of them stay (``mdp_tests.pipeline``).
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import time
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from urllib.parse import quote

import dagster as dg
import polars as pl
import pytest
from sqlalchemy import create_engine, text

from mdp.bus import open_live_reader
from mdp.cli.processes import dagster_environment
from mdp.config.settings import load_settings
from mdp.domain.interval import Interval
from mdp.domain.market import Market
from mdp.domain.timeframe import Timeframe
from mdp.errors import BusUnavailable, InputError, StorageError
from mdp.logs.secrets import hiding
from mdp.pipeline.backing_up.creating import create_backup
from mdp.pipeline.backing_up.places import backups_in
from mdp.pipeline.backing_up.postgres import PostgresStorage
from mdp.pipeline.backing_up.restoring import restore_backup
from mdp.pipeline.backing_up.verifying import verify_backup
from mdp.ports import OHLCV, Slice
from mdp.sources import utc_now
from mdp.storage import open_store
from mdp_tests.support.postgres import DATABASE, PASSWORD, USER, program, running_postgres
from mdp_tests.support.simulator_process import running_simulator
from mdp_tests.support.workplace import Workplace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

BTC, INDEX = "binance:BTC-USDT", "deribit:BTC-DVOL"
DAYS = Interval.of_days(date(2025, 1, 1), date(2025, 1, 2))
BOUNDS = ("--start", "2025-01-01", "--end", "2025-01-03")
LAYERS = ("raw_ohlcv", "ohlcv", "raw_dvol", "dvol")
NO_ARCHIVES = {"MDP_EXCHANGES__BINANCE__ARCHIVES": "false"}


def ran(workplace, *arguments, code=0):
    result = workplace.run(*arguments)
    assert result.returncode == code, f"{arguments}: {result.stdout}{result.stderr}"
    return result.stdout


@contextmanager
def environment_of(workplace, monkeypatch):
    with monkeypatch.context() as patched:
        for name in ("DAGSTER_HOME", *(name for name in workplace.environment if name.startswith("MDP_"))):
            patched.setenv(name, workplace.environment.get(name, ""))
        settings = load_settings()
        for name, value in dagster_environment(settings).items():
            patched.setenv(name, value)
        yield settings


def back_up(workplace, place, monkeypatch):
    with environment_of(workplace, monkeypatch) as settings:
        return create_backup(settings, open_store(settings), place, utc_now, patience_s=0)


def shown(workplace, monkeypatch):
    """What Dagster's page shows: which partitions are green, every run and how it ended, how much each said."""
    with environment_of(workplace, monkeypatch), dg.DagsterInstance.get() as opened:
        green = {name: sorted(opened.get_materialized_partitions(dg.AssetKey(name))) for name in LAYERS}
        runs = {run.run_id: (run.job_name, run.status, dict(run.tags)) for run in opened.get_runs()}
        events = {run_id: len(opened.all_logs(run_id)) for run_id in runs}
    return green, runs, events


def digests(workplace, markets=(BTC, INDEX)):
    return {market: workplace.digests(market, DAYS) for market in markets}


def test_backup_wipe_restore_and_a_further_backfill(tmp_path, simulator_url, monkeypatch):
    place = Workplace(tmp_path / "data", simulator_url)
    ran(place, "backfill", "-m", BTC, "-m", INDEX, *BOUNDS)
    ran(place, "snapshot", "create", "study", "-m", BTC, *BOUNDS)
    ran(place, "keys", "create", "reader")
    before, page = digests(place), shown(place, monkeypatch)
    keys = place.settings.keys_file.read_text()
    assert all(page[0][layer] for layer in LAYERS)

    made = json.loads(ran(place, "backup", "create", str(tmp_path / "backups"), "--json"))
    assert (made["snapshots"], made["dagster"]) == (["study"], "sqlite")
    assert {part["market"] for part in made["parts"]} == {BTC, INDEX}
    again = back_up(place, tmp_path / "backups", monkeypatch)
    print(f"{made['size']:,} bytes; the second backup copied {again.manifest.copied:,}")
    assert again.manifest.copied < made["copied"] / 10, "what did not change is not copied again"
    shutil.rmtree(place.data_dir)
    shutil.rmtree(made["backup"])

    elsewhere = Workplace(tmp_path / "another machine", simulator_url)
    ran(elsewhere, "backup", "restore", str(tmp_path / "backups"))
    assert digests(elsewhere) == before
    assert shown(elsewhere, monkeypatch) == page
    ran(elsewhere, "snapshot", "verify", "study")
    assert elsewhere.settings.keys_file.read_text() == keys
    assert elsewhere.settings.keys_file.stat().st_mode & 0o77 == 0, "keys are their owner's to read"

    ran(elsewhere, "backfill", "-m", BTC, "--start", "2025-01-03", "--end", "2025-01-04")
    assert digests(elsewhere) == before
    assert len(shown(elsewhere, monkeypatch)[0]["ohlcv"]) == len(page[0]["ohlcv"]) + 1


def stored_days(workplace):
    """Days of which a whole day of candles is in the lake."""
    whole = Slice(Market.parse(BTC), (Timeframe.M1,), Interval.of_days(date(2024, 12, 1), date(2025, 1, 7)))
    times = open_store(workplace.settings).read(OHLCV, whole)["open_time"]
    counts = times.dt.date().value_counts()
    return {str(day) for day, count in counts.iter_rows() if count == 1440}


def test_a_backup_beside_a_writer_is_a_state_that_was_and_a_killed_one_does_not_count(tmp_path, monkeypatch):
    """Nothing that Dagster calls stored is absent, and what was at work is taken up where it was."""
    bounds = ("--start", "2025-01-01", "--end", "2025-01-08")
    with running_simulator("--latency-ms", "30") as simulator:
        place = Workplace(tmp_path / "data", simulator.url, NO_ARCHIVES)
        place.data_dir.mkdir()
        writer = place.start("backfill", "-m", BTC, *bounds)
        while not list(place.data_dir.glob("lake/ohlcv/_delta_log/*1.json")):
            assert writer.poll() is None, (place.data_dir / "backfill.out").read_text()
            time.sleep(0.02)
        killed = subprocess.Popen(place.command("backup", "create", str(tmp_path / "backups")), env=place.environment)
        made = []
        while writer.poll() is None and len(made) < 3:
            if killed is None or killed.poll() is not None or list((tmp_path / "backups").glob(".*unfinished")):
                if killed is not None:
                    killed.send_signal(signal.SIGKILL)
                    killed.wait(10)
                    killed = None
                made.append(back_up(place, tmp_path / "backups", monkeypatch))
            time.sleep(0.05)
        if killed is not None:
            killed.send_signal(signal.SIGKILL)
            killed.wait(10)
            made.append(back_up(place, tmp_path / "backups", monkeypatch))
        assert writer.wait(120) == 0, (place.data_dir / "backfill.out").read_text()
        assert not list((tmp_path / "backups").glob(".*unfinished"))
        truth = digests(place, (BTC,))
        print([(one.manifest.was_quiet, one.manifest.rows) for one in made], len(backups_in(tmp_path / "backups")))
        for number, one in enumerate(made):
            assert verify_backup(one.folder).faults == ()
            elsewhere = Workplace(tmp_path / f"restored-{number}", simulator.url, NO_ARCHIVES)
            restore_backup(one.folder, elsewhere.settings, elsewhere.data_dir, utc_now)
            green = shown(elsewhere, monkeypatch)[0]["ohlcv"]
            assert {key.partition("|")[0] for key in green} <= stored_days(elsewhere), "green, and not there"
        elsewhere = Workplace(tmp_path / "restored-0", simulator.url, NO_ARCHIVES)
        ran(elsewhere, "backfill", "-m", BTC, *bounds)
        assert digests(elsewhere, (BTC,)) == truth
        assert not any(one[1].value == "STARTED" for one in shown(elsewhere, monkeypatch)[1].values())


def test_runs_in_postgres_come_back_and_a_server_that_has_some_is_left_alone(tmp_path, simulator_url, monkeypatch):
    with running_postgres(tmp_path / "postgres") as server:
        extra = {"MDP_DAGSTER__INSTANCE": "postgres", "MDP_DAGSTER__POSTGRES_URL": server.url}
        place = Workplace(tmp_path / "data", simulator_url, extra)
        ran(place, "init")
        ran(place, "backfill", "-m", BTC, "--start", "2025-01-01", "--end", "2025-01-02")
        before, page = digests(place, (BTC,)), shown(place, monkeypatch)
        assert page[0]["ohlcv"]
        made = back_up(place, tmp_path / "backups", monkeypatch)
        assert made.manifest.dagster == "postgres"
        bodies = [path.read_bytes() for path in made.folder.rglob("*") if path.is_file()]
        assert not any(PASSWORD.encode() in body for body in bodies)
        shutil.rmtree(place.data_dir)

        elsewhere = Workplace(tmp_path / "elsewhere", simulator_url, extra)
        with environment_of(elsewhere, monkeypatch) as settings:
            with pytest.raises(InputError, match=r"without runs, or --replace.* with 1 runs"):
                restore_backup(made.folder, settings, elsewhere.data_dir, utc_now)
            assert not list(elsewhere.data_dir.glob("*"))
            ask = [str(program("psql")), "-h", server.host, "-p", str(server.port), "-U", USER, "-d", DATABASE]
            own = {**os.environ, "PGPASSWORD": PASSWORD}
            wipe = "DROP SCHEMA public CASCADE; CREATE SCHEMA public"
            subprocess.run([*ask, "-c", wipe], check=True, env=own, capture_output=True, timeout=60)
            restore_backup(made.folder, settings, elsewhere.data_dir, utc_now)
        assert digests(elsewhere, (BTC,)) == before
        assert shown(elsewhere, monkeypatch) == page
        ran(elsewhere, "backfill", "-m", BTC, "--start", "2025-01-02", "--end", "2025-01-03")
        assert len(shown(elsewhere, monkeypatch)[0]["ohlcv"]) == len(page[0]["ohlcv"]) + 1


def test_a_database_is_reached_as_dagster_reaches_it_whatever_its_address_says(tmp_path):
    with running_postgres(tmp_path / "postgres") as server:
        in_query = f"postgresql+psycopg2://{USER}:{PASSWORD}@/{DATABASE}?host={server.host}&port={server.port}"
        of_schema = f"{server.url}?options=-csearch_path%3Down&tcp_user_timeout=15000"
        with create_engine(server.url).begin() as ours:
            ours.execute(text("CREATE SCHEMA own"))
        for count, url in enumerate((in_query, of_schema), start=1):
            with create_engine(url).begin() as as_dagster:
                as_dagster.execute(text(f"CREATE TABLE runs AS SELECT generate_series(1, {count})"))
            assert PostgresStorage(url).runs() == count
        PostgresStorage(in_query).dump(tmp_path / "dump")
        PostgresStorage(in_query).restore(tmp_path / "dump")
        assert [PostgresStorage(url).runs() for url in (in_query, of_schema)] == [1, 2]


def test_a_password_may_hold_any_sign_and_is_shown_by_nobody(tmp_path):
    password = r"Zq8/k'D3 \\x@%#="
    with running_postgres(tmp_path / "postgres") as server:
        with create_engine(server.url).begin() as ours:
            ours.exec_driver_sql(
                f"CREATE USER other PASSWORD '{password.replace(chr(39), chr(39) * 2)}'".replace("%", "%%")
            )
        url = f"postgresql+psycopg2://other:{quote(password, safe='/')}@{server.host}:{server.port}/{DATABASE}"
        assert PostgresStorage(url).runs() == 0
        settings = load_settings(simulated=True, dagster={"instance": "postgres", "postgres_url": url})
        server.stop()
        with pytest.raises(StorageError) as refused:
            PostgresStorage(url).runs()
    for shown in (str(refused.value), hiding(settings)(f"{url} {password}")):
        assert "Zq8" not in shown


def buffered(place, moment):
    """The close that the live buffer of a restored place has at a minute; None while it has none."""

    async def scene():
        async with open_live_reader(place.settings) as bus:
            held = await bus.buffer(Market.parse(BTC), Timeframe.M1)
            closed = held.closed if held else ()
            return next((one.close for one in closed if one.open_us == int(moment.timestamp() * 1_000_000)), None)

    try:
        return asyncio.run(scene())
    except BusUnavailable:
        return None


def test_after_a_restore_a_feed_fills_its_buffers_from_the_restored_lake(tmp_path, monkeypatch):
    moment = datetime(2025, 1, 2, 23, tzinfo=UTC)
    with running_simulator("--now", "2025-01-03T00:02Z") as simulator:
        place = Workplace(tmp_path / "data", simulator.url, NO_ARCHIVES)
        ran(place, "backfill", "-m", BTC, "--start", "2025-01-02", "--end", "2025-01-03")
        store = open_store(place.settings)
        hour = Slice(Market.parse(BTC), (Timeframe.M1,), Interval(moment, moment + timedelta(minutes=1)))
        row = store.read(OHLCV, hour)
        close = float(row["low"][0]) + 0.00390625  # which no exchange ever said, so it can only be the lake's
        store.append_live(OHLCV, row.with_columns(close=pl.lit(close)))
        made = back_up(place, tmp_path / "backups", monkeypatch)
        shutil.rmtree(place.data_dir)

        elsewhere = Workplace(tmp_path / "elsewhere", simulator.url, NO_ARCHIVES)
        restore_backup(made.folder, elsewhere.settings, elsewhere.data_dir, utc_now)
        feed = elsewhere.start("feed", "binance")
        try:
            deadline = time.monotonic() + 90
            while (found := buffered(elsewhere, moment)) is None and time.monotonic() < deadline:
                assert feed.poll() is None, (elsewhere.data_dir / "feed.out").read_text()
                time.sleep(0.2)
        finally:
            feed.send_signal(signal.SIGTERM)
            feed.wait(20)
    assert found == close
