"""Bad input gets one clear line on stderr, a non-zero exit, and loses nothing."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from mdp.cli.app import app, main
from mdp.config.settings import load_settings
from mdp.domain.timeframe import Timeframe
from mdp.errors import InputError
from mdp.ports import OHLCV, Slice
from mdp.reading import parse_markets
from mdp.storage import open_store
from mdp_tests.support.builders import MARKET, candle, candles, window

BTC = "binance:BTC-USDT"
DAY = ("--start", "2024-12-30", "--end", "2024-12-31")
TOMORROW = (datetime.now(UTC) + timedelta(days=1)).date().isoformat()
AFTER = (datetime.now(UTC) + timedelta(days=2)).date().isoformat()


@pytest.fixture
def lake(tmp_path, monkeypatch):
    """A lake with two candles, found by the command line."""
    monkeypatch.setenv("MDP_DATA_DIR", str(tmp_path))
    store = open_store(load_settings())
    part = Slice(MARKET, (Timeframe.H1,), window("2024-12-30", "2024-12-31"))
    rows = [candle(f"2024-12-30T{hour:02}:00", timeframe="1h") for hour in (0, 1)]
    store.replace(OHLCV, part, candles(*rows))
    return tmp_path


@pytest.fixture
def run(monkeypatch, capfd):
    def run_(*arguments):
        monkeypatch.setattr(sys, "argv", ["mdp", *arguments])
        with pytest.raises(SystemExit) as exited:
            main()
        return exited.value.code, *capfd.readouterr()

    return run_


@pytest.mark.usefixtures("lake")
@pytest.mark.parametrize("setting", [("MDP_SIMULATED", "false"), ("MDP_ENV", "central-dev")])
def test_up_without_simulated_exchanges_names_the_setting_that_says_so(run, monkeypatch, setting):
    monkeypatch.setenv(*setting)
    code, _, err = run("up")
    assert (code, err.partition(", as in")[0]) == (2, "mdp: MDP_SIMULATED: expected true")


@pytest.mark.usefixtures("lake")
@pytest.mark.parametrize("form", [(), ("--json",)])
def test_verifying_where_no_file_is_stored_says_that_nothing_was_verified(run, form):
    code, out, err = run("verify-archives", *form)
    assert (code, err) == (0, "mdp: no archive files are stored there: nothing was verified\n")
    assert out == "" if not form else json.loads(out)["same"] == 0


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("read", "binance:DOGE-USDT", "1h", *DAY), "market: expected one of binance:BTC-USDT,"),
        (("read", "BTCUSDT", "1h", *DAY), "market: expected one of binance:BTC-USDT,"),
        (("read", BTC, "2h", *DAY), "timeframe: expected one of 1m, 5m, 15m, 1h, 4h, 1d, got '2h'"),
        (("read", "deribit:BTC-DVOL", "1h", *DAY), "timeframe: expected 1m, the only timeframe of the index"),
        (("read", BTC, "1h", "--start", "2024-12-31", "--end", "2024-12-30"), "start: expected a time before end"),
        (("read", BTC, "1h", "--start", "2024-12-30", "--end", "2024-12-30"), "start: expected a time before end"),
        (("read", BTC, "1h", "--start", "2024-12-32", "--end", "2025-01-01"), "start: expected a date such as"),
        (("read", BTC, "1h", "--start", "2024-02-30", "--end", "2025-01-01"), "start: expected a date such as"),
        (("read", BTC, "1h", "--start", "2024-12-30T08:00", "--end", "2025-01-01"), "such as 2024-12-30T08:00Z, got"),
        (("read", BTC, "1h", "--start", "2024-12-30"), "Missing"),
        (("read", BTC, "1h", *DAY, "--format", "xml"), "'xml' is not one of 'table', 'csv'"),
        (("backfill", "-m", BTC, "--start", TOMORROW, "--end", AFTER), "end: expected at most "),
        (("backfill", "-m", BTC, "--start", "2024-12-30T10:00Z", "--end", "2025-01-01"), "start: expected a day such"),
        (("backfill", "-m", BTC, "--start", "2010-01-01", "--end", "2010-01-02"), "start: expected 2017-08-01 or"),
        (("coverage", "-m", "binance:XRP-USDT"), "market: expected one of"),
        (("sql", "SELEC 1"), "sql: expected SQL that DuckDB can run"),
        (("sql", "SELECT * FROM no_such_table"), "sql: expected SQL that DuckDB can run"),
        (("simulate", "--now", "yesterday"), "now: expected a date such as"),
        (("simulate", "--port", "0", "--data", "/no/such/folder"), "--data"),
        (("fly",), "No such command 'fly'"),
    ],
)  # fmt: skip
def test_a_wrong_argument_is_one_line_and_exit_code_2(lake, run, arguments, complaint):
    code, out, err = run(*arguments)
    assert code == 2
    assert out == ""
    assert complaint in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("MDP_ENV", "prod", "MDP_ENV: expected one of local-dev,"),
        ("MDP_WORKERS", "many", "MDP_WORKERS: expected"),
        ("MDP_STORE", "postgres", "MDP_STORE: expected"),
        ("MDP_WROKERS", "2", "MDP_WROKERS"),
    ],
)
def test_a_wrong_setting_is_one_line_and_exit_code_2(lake, run, monkeypatch, name, value, complaint):
    monkeypatch.setenv(name, value)
    code, out, err = run("read", BTC, "1h", *DAY)
    assert (code, out) == (2, "")
    assert complaint in err
    assert len(err.strip().splitlines()) == 1


def test_a_data_directory_that_cannot_be_written_stops_a_backfill_before_it_starts(run, monkeypatch):
    monkeypatch.setenv("MDP_DATA_DIR", "/proc/nowhere")
    code, _, err = run("backfill", "-m", BTC, *DAY)
    assert code == 2
    assert err.startswith("mdp: MDP_DATA_DIR: expected a directory that can be written")


def test_an_output_file_that_cannot_be_written_is_one_line(lake, run):
    code, out, err = run("read", BTC, "1h", *DAY, "-f", "csv", "-o", "/no/such/folder/candles.csv")
    assert (code, out) == (1, "")
    assert err == "mdp: /no/such/folder/candles.csv: No such file or directory\n"


def test_an_output_file_that_was_there_survives_a_failed_write(lake, run, tmp_path):
    target = tmp_path / "candles.csv"
    target.mkdir()
    (target / "kept").write_text("kept")
    code, _, err = run("read", BTC, "1h", *DAY, "-f", "csv", "-o", str(target))
    assert code == 1
    assert str(target) in err
    assert (target / "kept").read_text() == "kept"
    assert [path.name for path in tmp_path.glob(".candles*")] == []


@pytest.mark.parametrize(
    "damage", [lambda body: body[: len(body) // 2], lambda body: b"\x00" * len(body), lambda body: b""]
)
def test_a_corrupt_file_is_named_and_nothing_of_it_is_shown(lake, run, damage):
    (file,) = (lake / "lake" / "ohlcv").rglob("*.parquet")
    file.write_bytes(damage(file.read_bytes()))
    code, out, err = run("read", BTC, "1h", *DAY)
    assert (code, out) == (1, "")
    named, advice = err.splitlines()
    assert file.name in named
    assert advice.startswith("mdp: what to do: `mdp heal`")


def test_nothing_stored_is_an_empty_answer_that_says_where_to_look(lake, run):
    code, out, err = run("read", BTC, "1h", "--start", "2023-01-01", "--end", "2023-01-02", "-f", "csv")
    assert code == 0
    assert out.splitlines() == [",".join(OHLCV.schema.names())]
    assert err == "mdp: nothing is stored there; see `mdp coverage -m binance:BTC-USDT`\n"


def test_a_user_cannot_change_the_lake_through_sql(lake, run):
    before = {path: path.read_bytes() for path in (lake / "lake").rglob("*") if path.is_file()}
    target = lake / "stolen.csv"
    for statement in ("DROP VIEW ohlcv", "DELETE FROM ohlcv", f"COPY ohlcv TO '{target}'"):
        run("sql", statement)
    assert {path: path.read_bytes() for path in (lake / "lake").rglob("*") if path.is_file()} == before
    assert not target.exists()


def test_a_market_that_is_named_twice_counts_once(lake, run):
    code, out, _ = run("coverage", "-m", BTC, "-m", "binance:BTC/USDT", "--json")
    assert code == 0
    assert [row["market"] for row in json.loads(out)] == [BTC]


def test_markets_are_told_apart_by_what_they_mean_and_keep_their_order():
    settings = load_settings()
    texts = ["okx:SOL-USDT", BTC, "binance:BTC/USDT", "okx:SOL-USDT"]
    assert [str(market) for market in parse_markets(texts, settings)] == ["okx:SOL-USDT", BTC]
    for nothing in (None, []):
        assert [str(market) for market in parse_markets(nothing, settings)] == list(settings.markets)
    with pytest.raises(InputError, match="market: expected one of"):
        parse_markets([BTC, "binance:XRP-USDT"], settings)


def test_a_collected_market_without_partitions_is_refused_by_name(lake, run, monkeypatch):
    monkeypatch.setenv("MDP_MARKETS", '["binance:XRP-USDT"]')
    code, out, err = run("coverage")
    assert (code, out) == (2, "")
    assert err.startswith("mdp: MDP_MARKETS: expected markets among binance:BTC-USDT, ")
    assert err.endswith("which 'binance:XRP-USDT' is not, got ['binance:XRP-USDT']\n")


def test_the_simulator_listens_where_the_settings_say_unless_told_otherwise(lake, run, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        taken, other = first.getsockname()[1], second.getsockname()[1]
        monkeypatch.setenv("MDP_SIMULATOR__PORT", str(taken))
        for arguments, port in (((), taken), (("--port", str(other)), other)):
            code, out, err = run("simulate", *arguments)
            assert (code, out) == (2, "")
            assert err.startswith("mdp: --port: expected a free port")
            assert err.endswith(f"got {port}\n")


def test_json_and_csv_write_times_with_z_and_numbers_as_they_are(lake, run):
    _, out, _ = run("read", BTC, "1h", *DAY, "-f", "csv")
    assert out.splitlines()[1].startswith("binance,BTC-USDT,1h,2024-12-30T00:00:00Z,100.0,")
    _, out, _ = run("read", BTC, "1h", *DAY, "-f", "json")
    assert '"open_time":"2024-12-30T01:00:00Z"' in out


def test_the_help_names_every_command(run):
    code, out, _ = run("--help")
    assert code == 0
    for command in ("read", "coverage", "sql", "backfill", "simulate", "up", "env"):
        assert f" {command} " in out


def test_the_environment_for_dagster_can_be_evaluated_by_a_shell(run, monkeypatch, tmp_path):
    folder = tmp_path / 'it\'s "$HOME" here'
    monkeypatch.setenv("MDP_DATA_DIR", str(folder))
    _, out, _ = run("env")
    shown = subprocess.run(
        ["sh", "-c", f'{out}\nprintf %s "$DAGSTER_STORAGE_DIR"'], capture_output=True, text=True, check=True
    )
    assert shown.stdout == str(folder / "dagster")


def test_a_wrong_format_is_named_by_its_option_in_words_of_ours(run):
    expected = "'xml' is not one of 'table', 'csv', 'json', 'parquet', 'arrow'"
    said = f"mdp: Invalid value for '--format' / '-f': {expected} (see `mdp --help`)\n"
    assert run("gaps", "-f", "xml") == (2, "", said)


@pytest.mark.slow
@pytest.mark.usefixtures("lake")
def test_a_snapshot_that_is_not_there_is_a_wrong_argument(run):
    code, _, err = run("read", BTC, "1h", *DAY, "--snapshot", "nope")
    assert (code, err) == (2, "mdp: snapshot 'nope': expected one of: there are none\n")


@pytest.mark.slow
def test_the_library_that_repeats_says_nothing_on_the_command_line():
    program = """
import stamina, mdp.cli.app
for attempt in stamina.retry_context(on=OSError, attempts=2, wait_initial=0, wait_max=0):
    with attempt:
        if attempt.num == 1:
            raise OSError("once")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == ("", "")


@pytest.mark.parametrize("command", ["sql", "heal", "backfill", "maintain", "revisions"])
def test_a_help_text_breaks_its_lines_where_the_terminal_ends(command):
    info = next(one for one in app.registered_commands if one.callback.__name__ == command)
    assert all("\n" not in paragraph for paragraph in info.help.split("\n\n"))
    assert " ".join(info.help.split()) == " ".join(info.callback.__doc__.split())
