"""``mdp snapshot``, ``mdp maintain`` and ``mdp storage``, as a person types them."""

from __future__ import annotations

import json
import sys

import polars as pl
import pytest

from mdp.cli.app import main
from mdp.cli.maintain import size_text
from mdp.config.settings import load_settings
from mdp.domain.timeframe import Timeframe
from mdp.ports import OHLCV, TABLES, Slice
from mdp.storage import open_store
from mdp_tests.support.builders import MARKET, candle, candles, every_minute, window

BTC = "binance:BTC-USDT"
DAY = ("--start", "2024-12-30", "--end", "2024-12-31")
MADE = ("snapshot", "create", "one", *DAY, "-m", BTC, "-t", "1m", "-t", "1h")
PART = Slice(MARKET, (Timeframe.M1, Timeframe.H1), window("2024-12-30", "2024-12-31"))


@pytest.fixture
def lake(tmp_path, monkeypatch):
    """A lake with ten minutes and an hour, found by the command line."""
    monkeypatch.setenv("MDP_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    store = open_store(load_settings())
    hour = candle("2024-12-30T00:00", timeframe="1h", source="resampled")
    store.replace(OHLCV, PART, candles(*every_minute("2024-12-30T00:00", "2024-12-30T00:10"), hour))
    return store


@pytest.fixture
def run(monkeypatch, capfd, lake):
    def run_(*arguments):
        monkeypatch.setattr(sys, "argv", ["mdp", *arguments])
        with pytest.raises(SystemExit) as exited:
            main()
        return exited.value.code, *capfd.readouterr()

    return run_


def test_a_snapshot_lives_from_its_making_to_its_end(run):
    code, out, err = run(*MADE, "--note", "for the paper")
    assert code == 0
    assert "for the paper" in out
    assert err == "mdp: ohlcv binance:BTC-USDT 1m: 1,430 minutes were not collected, and will not be in it\n"
    (listed,) = json.loads(run("snapshot", "list", "--json")[1])
    assert (listed["name"], listed["rows"], listed["markets"], listed["timeframes"]) == ("one", 11, [BTC], ["1m", "1h"])
    shown = json.loads(run("snapshot", "show", "one", "--json")[1])
    assert [(part["table"], part["timeframe"], part["rows"]) for part in shown["parts"]] == [
        ("gaps", "1m", 0), ("ohlcv", "1m", 10), ("ohlcv", "1h", 1),
    ]  # fmt: skip
    assert shown["id"] == listed["id"]
    assert listed["id"][:12] in run("snapshot", "list")[1]
    code, out, _ = run("snapshot", "verify", "one")
    assert (code, out) == (0, f"one: 3 parts, 11 rows, id {listed['id']}: everything is as it says\n")
    assert json.loads(run("snapshot", "verify", "one", "--json")[1])["holds"] is True
    code, out, _ = run("snapshot", "delete", "one")
    assert code == 0
    assert listed["id"] in out
    assert json.loads(run("snapshot", "list", "--json")[1]) == []


@pytest.mark.slow
def test_an_exported_snapshot_is_verified_by_its_folder_and_a_flipped_byte_is_named(run, tmp_path, monkeypatch, lake):
    run(*MADE)
    before = lake.read(OHLCV, PART)
    folder = tmp_path / "out"
    code, out, _ = run("snapshot", "export", "one", str(folder))
    assert code == 0
    assert "2 files, 11 rows" in out
    run("snapshot", "delete", "one")
    assert run("snapshot", "verify", str(folder))[0] == 0
    monkeypatch.chdir(tmp_path)
    assert run("snapshot", "verify", "out")[0] == 0, "a folder without a slash, and no snapshot of that name"
    code, out, _ = run("snapshot", "load", str(folder), "--name", "theirs")
    assert code == 0
    assert out.startswith("snapshot theirs: [2024-12-30T00:00:00Z, 2024-12-31T00:00:00Z), 11 rows")
    assert run("snapshot", "verify", "theirs")[0] == 0
    assert lake.read(OHLCV, PART).equals(before), "the tables stay as they are"
    assert [path.name for path in (tmp_path / "data" / "snapshots").iterdir()] == ["theirs"], "nothing else is left"
    path = next(folder.glob("ohlcv/**/2024-12.parquet"))
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(body)
    code, out, _ = run("snapshot", "verify", str(folder), "--json")
    found = json.loads(out)
    assert (code, found["holds"]) == (1, False)
    assert found["differences"][0]["where"].endswith("timeframe=1m/2024-12.parquet")
    code, out, _ = run("snapshot", "verify", "./out")
    assert code == 1
    assert "DIFFERS ohlcv/exchange=binance/symbol=BTC-USDT/timeframe=1m/2024-12.parquet: sha256: expected" in out


BAD_INPUT = [
    (("create", "two", *DAY, "-m", "binance:DOGE-USDT"), 2, "market: expected one of"),
    (("create", "two", *DAY, "-t", "2m"), 2, "timeframe: expected one of 1m"),
    (("create", "a/b", *DAY), 2, "snapshot: expected 1 to 100 letters"),
    (("create", "two", "--start", "2024-12-31", "--end", "2024-12-30"), 2, "start: expected a time before end"),
    (("create", "two", "--start", "2023-12-30", "--end", "2023-12-31"), 2, "window: expected a range of which"),
    (("create", "two", "--start", "2024-12-30", "--end", "2099-01-01"), 2, "end: expected a time that is over"),
    (("show", "two"), 2, "snapshot 'two': expected one of: one"),
    (("verify", "two"), 2, "snapshot 'two': expected one of: one"),
    (("verify", "./two"), 2, "folder: expected the folder of an exported snapshot"),
    (("delete", "two"), 2, "snapshot 'two': expected one of: one"),
    (("export", "two", "nowhere"), 2, "snapshot 'two': expected one of: one"),
    (("create", "ONE", *DAY), 2, "name: expected a name that differs from 'one' not only in case"),
    (("create", "one", *DAY), 2, "snapshot 'one': there is one of that name already"),
    (("load", "nowhere"), 2, "folder: expected the folder of an exported snapshot"),
]


@pytest.mark.slow
def test_bad_input_gets_one_clear_line(run):
    run(*MADE)
    for arguments, code, complaint in BAD_INPUT:
        found, out, err = run("snapshot", *arguments)
        assert (found, out) == (code, ""), arguments
        assert err.startswith(f"mdp: {complaint}"), arguments
        assert err.count("\n") == 1, arguments


@pytest.mark.slow
def test_where_the_store_is_central_a_folder_cannot_be_loaded_and_that_is_said(run, tmp_path, monkeypatch):
    monkeypatch.setenv("MDP_STORE", "bigquery")
    code, out, err = run("snapshot", "load", str(tmp_path))
    assert (code, out) == (2, "")
    assert err.startswith("mdp: MDP_STORE: expected duckdb")


@pytest.mark.slow
def test_an_empty_snapshot_needs_to_be_asked_for(run):
    days = ("--start", "2023-12-30", "--end", "2023-12-31")
    code, _, err = run("snapshot", "create", "two", *days, "-m", BTC, "-t", "1d", "--allow-empty")
    assert (code, err) == (0, "mdp: nothing is stored of ohlcv binance:BTC-USDT 1d\n")


@pytest.mark.slow
def test_maintenance_is_reported_table_by_table(run):
    code, out, err = run("maintain", "--json")
    assert (code, err) == (0, "")
    tables = {one["table"]: one for one in json.loads(out)["tables"]}
    assert list(tables) == [table.name for table in TABLES]
    assert tables["ohlcv"]["after"]["rows"] == 11
    code, out, _ = run("maintain", "--dry-run")
    assert code == 0
    assert "nothing was changed" in out
    assert "ohlcv" in out


@pytest.mark.slow
def test_maintenance_of_a_damaged_table_fails_by_its_name_and_the_rest_is_done(run, lake):
    next(lake.lake_dir.glob("ohlcv/_delta_log/*.json")).write_text("{")
    code, out, err = run("maintain")
    assert code == 1
    assert err.startswith("mdp: not looked after: ohlcv: ")
    assert err.endswith("; the rest was done\n")
    (row,) = [line for line in out.splitlines() if line.startswith("ohlcv ")]
    assert "FAILED" in row
    assert "FAILED" not in "".join(line for line in out.splitlines() if line != row)


@pytest.mark.slow
def test_what_fills_the_disk_is_told(run, lake):
    code, out, _ = run("storage", "--json")
    found = json.loads(out)
    assert code == 0
    assert found["tables"]["ohlcv"]["rows"] == 11
    assert found["tables"]["ohlcv"]["size_bytes"] == sum(
        path.stat().st_size for path in lake.lake_dir.rglob("*.parquet")
    )
    assert found["free_bytes"] > 0
    assert {one["name"] for one in found["besides"]} >= {"snapshots, beside the lake", "Dagster"}
    assert "bytes a row" in run("storage")[1]


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1_000, "1.0 kB"), (999_949, "999.9 kB"), (999_950, "1.0 MB"), (10**16, "10000.0 TB")],
)
def test_sizes_are_written_for_people(size, text):
    assert size_text(size) == text


@pytest.mark.slow
def test_what_is_exported_is_what_is_read(run, tmp_path, lake):
    run(*MADE)
    run("snapshot", "export", "one", str(tmp_path / "out"))
    part = Slice(MARKET, (Timeframe.M1,), window("2024-12-30", "2024-12-31"))
    rows = pl.read_parquet(tmp_path / "out/ohlcv/**/timeframe=1m/*.parquet", hive_partitioning=False)
    assert rows.equals(lake.read(OHLCV, part))


@pytest.mark.slow
def test_a_list_names_the_lengths_that_can_be_read_and_one_minute_is_one(run, lake):
    day = Slice(MARKET, (Timeframe.M1,), window("2024-12-29", "2024-12-30"))
    lake.replace(OHLCV, day, candles(*every_minute("2024-12-29T00:01", "2024-12-30T00:00")))
    days = ("--start", "2024-12-29", "--end", "2024-12-30", "-m", BTC)
    assert "1m: 1 minute was not collected" in run("snapshot", "create", "minutes", *days, "-t", "1m")[2]
    run("snapshot", "create", "days", *days, "-t", "1d", "--allow-empty")
    listed = json.loads(run("snapshot", "list", "--json")[1])
    assert {one["name"]: one["timeframes"] for one in listed} == {"days": ["1d"], "minutes": ["1m"]}
    header, first, _ = run("snapshot", "list")[1].splitlines()
    assert first[header.index("timeframes") :].split()[0] == "1d"
    assert max(map(len, run("snapshot", "show", "minutes")[1].splitlines())) <= 140
