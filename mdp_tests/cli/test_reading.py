"""The commands that look: what they print, what they write, and how they refuse."""

from __future__ import annotations

import json
import re
import sys

import polars as pl
import pytest

from mdp.cli.app import main
from mdp.cli.explain import _rows
from mdp.cli.output import print_table
from mdp.config.settings import load_settings
from mdp.domain.candles import CANDLE_SCHEMA, GAP_SCHEMA
from mdp.domain.revisions import find_revisions
from mdp.domain.timeframe import Timeframe
from mdp.ports import FETCHES, GAPS, OHLCV, REVISIONS, Slice
from mdp.storage import open_store
from mdp_tests.pipeline.test_failed_days import fetched
from mdp_tests.pipeline.test_report_by_day import gap
from mdp_tests.support.builders import MARKET, at, candles, every_minute, frame, window

pytestmark = pytest.mark.slow  # a second or two of commands and files

BTC = "binance:BTC-USDT"
DAY = ("--start", "2024-12-30", "--end", "2024-12-31")
HOUR = ("--start", "2024-12-30T10:00Z", "--end", "2024-12-30T11:00Z")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """A lake with one collected day: 10:00 was revised on the day after it came, 10:30 is missing."""
    folder = tmp_path_factory.mktemp("looking")
    store = open_store(load_settings(data_dir=folder))
    part = Slice(MARKET, (Timeframe.M1,), window("2024-12-30", "2024-12-31"))
    rows = candles(*every_minute("2024-12-30", "2024-12-31")).filter(pl.col("open_time") != at("2024-12-30T10:30"))
    answered = {"close": 99.0, "ingested_at": pl.lit(at("2026-01-03T23:59"), CANDLE_SCHEMA["ingested_at"])}
    is_revised = pl.col("open_time") == at("2024-12-30T10:00")
    new = rows.with_columns(
        pl.when(is_revised).then(value).otherwise(name).alias(name) for name, value in answered.items()
    )
    store.append(FETCHES, fetched("2024-12-30", at("2025-01-01")))
    store.append(REVISIONS, find_revisions(rows, new, revised_at=at("2026-01-04")))
    store.replace(OHLCV, part, new)
    store.replace(
        GAPS, part, frame([gap("2024-12-30T10:30", "2024-12-30T10:31", "unknown", detail="[red]x")], GAP_SCHEMA)
    )
    return folder


@pytest.fixture
def run(monkeypatch, capfd, data_dir):
    monkeypatch.setenv("MDP_DATA_DIR", str(data_dir))

    def run_(*arguments):
        monkeypatch.setattr(sys, "argv", ["mdp", *arguments])
        with pytest.raises(SystemExit) as exited:
            main()
        return exited.value.code, *capfd.readouterr()

    return run_


@pytest.mark.parametrize(("as_of", "close"), [((), 99.0), (("--as-of", "2026-01-03"), 100.0)])
def test_read_gives_what_was_stored_then(run, as_of, close):
    code, out, _ = run("read", BTC, "1m", *HOUR, *as_of, "-f", "json")
    rows = json.loads(out)
    assert (code, len(rows), rows[0]["close"]) == (0, 59, close)


def test_read_before_anything_was_stored_says_so(run):
    code, out, err = run("read", BTC, "1h", *HOUR, "--as-of", "2025-06-01", "-f", "csv")
    assert (code, len(out.splitlines())) == (0, 1)
    assert err.startswith("mdp: nothing was stored there as of 2025-06-01; see")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("read", BTC, "1m", *DAY, "--as-of", "2999-01-01"), "as_of: expected a time that is over"),
        (("read", BTC, "1m", *DAY, "--as-of", "2025-01-01", "--snapshot", "x"), "as_of: expected either as_of or"),
        (("aligned", "1h", *DAY, "-m", BTC, "-m", BTC), "markets: expected each once"),
        (("aligned", "1h", *DAY, "-c", "vwap"), "columns: expected some of open"),
        (("explain", BTC, "noon"), "time: expected a date such as"),
        (("explain", BTC, "2024-12-30T10:00"), "time: expected a time with its offset"),
        (("explain", "deribit:BTC-DVOL", "2024-12-30", "-t", "1h"), "timeframe: expected 1m"),
        (("explain", BTC, "9999-12-31"), "time: expected a time at which there are candles"),
        (("gaps", "--cause", "aliens"), "cause: expected one of unfetched"),
        (("gaps", "--start", "2024-12-30T10:00Z"), "start: expected a day such as"),
        (("revisions", "--start", "2025-01-02", "--end", "2025-01-01"), "start: expected a time before end"),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_code_2(run, arguments, complaint):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert complaint in err
    assert len(err.strip().splitlines()) == 1


def test_aligned_has_a_row_for_every_slot_of_all_markets(run):
    code, out, _ = run(
        "aligned", "1m", *HOUR, "-m", BTC, "-m", "okx:BTC-USDT", "-c", "close", "-c", "volume", "-f", "json"
    )
    rows = json.loads(out)
    assert (code, len(rows), len(rows[0])) == (0, 60, 5)
    assert rows[30] == dict.fromkeys(rows[0]) | {"open_time": "2024-12-30T10:30:00Z"}


class TestExplain:
    def test_a_missing_candle_is_explained_with_exit_code_0(self, run):
        code, out, err = run("explain", BTC, "2024-12-30T10:30:15Z")
        assert (code, err) == (0, "")
        assert "2024-12-30T10:30:15Z lies inside this candle." in out
        assert "2024-12-30T10:30:00Z to 2024-12-30T10:31:00Z, 1 slot of 1m: unknown, seen missing once" in out
        assert "[red]x" in out

    def test_old_and_new_values_of_a_revision_are_shown(self, run):
        _, out, _ = run("explain", BTC, "2024-12-30T10:00Z")
        assert "revised 2026-01-04 00:00:00:\n  close: 100 -> 99\n" in out
        assert "lies inside" not in out

    @pytest.mark.parametrize("columns", ["40", "120"])
    def test_no_number_and_no_time_is_broken_however_wide_the_terminal_is(self, capsys, monkeypatch, columns):
        monkeypatch.setenv("COLUMNS", columns)
        names = ("timeframe", "open_time", "open", "high", "low", "close", "volume", "minutes", "equals its minutes")
        values = ("1h", "2024-12-30 10:00:00", *["58255.645004"] * 4, "123456.12345678", "60/60", "yes")
        row = dict(zip(names, values, strict=True))
        print_table(_rows(pl.DataFrame([row] * 13), names))
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 1 + 12 + 1
        assert lines[1].split("  ")[0] == "1h"
        assert lines[1].count("58255.645004") == 4
        assert "2024-12-30 10:00:00" in lines[1]
        assert lines[-1].strip() == "and 1 more: --json has all"

    def test_a_candle_without_an_answer_beside_it_says_so(self, run):
        _, out, _ = run("explain", BTC, "2024-12-30T10:00Z")
        assert "equals what the exchange answered  no good answer is stored\n" in re.sub(
            " +\n", "\n", re.sub("  +", "  ", out)
        )

    def test_before_the_listing_that_is_said_first(self, run):
        _, out, _ = run("explain", BTC, "2015-01-01T10:00Z")
        assert "CANDLE\nBefore the exchange listed the market, at 2017-08-17 04:00:00. Not stored.\n" in out
        assert "nobody asked" not in out
        assert "before: all of the week is before the listing, 2017-08-17T04:00:00Z\n" in out

    def test_json_has_everything(self, run):
        code, out, _ = run("explain", BTC, "2024-12-30T10:00Z", "--timeframe", "1h", "--json")
        found = json.loads(out)
        assert (code, found["market"], found["timeframe"], found["state"]) == (0, BTC, "1h", "not made")
        assert found["slot"] == {"start": "2024-12-30T10:00:00Z", "end": "2024-12-30T11:00:00Z"}
        assert [one["minutes"] for one in found["buckets"]] == [59, 239, 1439]
        assert found["evidence"]["revisions"][0]["revised_at"] == "2026-01-04T00:00:00Z"
        assert found["others"] == {"bybit:BTC-USDT": None, "okx:BTC-USDT": None}


def test_gaps_are_listed_with_what_is_known_of_them(run):
    code, out, _ = run("gaps", "-m", BTC, "--start", "2024-12-29", "--end", "2024-12-31", "--json")
    rows = json.loads(out)
    assert code == 0
    assert [(row["start"], row["slots"], row["cause"], row["sightings"]) for row in rows] == [
        ("2024-12-29T00:00:00Z", 1440, "unfetched", None),
        ("2024-12-30T10:30:00Z", 1, "unknown", 1),
    ]
    _, out, err = run("gaps", "-m", BTC, "--cause", "no_trades", "-f", "csv")
    assert (len(out.splitlines()), err) == (1, "mdp: no minute is missing there between what is stored\n")


def test_gaps_as_a_table_are_narrow_and_to_the_minute(run):
    lines = run("gaps", "-m", BTC)[1].splitlines()
    assert lines[0].split() == ["market", "start", "end", "slots", "cause", "seen", "last_seen", "permanent", "source"]
    assert len(lines) > 2
    assert max(map(len, lines)) <= 140
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\dZ", time) for time in lines[1].split()[1:3])
    assert {"first_seen_at", "detail"} <= set(json.loads(run("gaps", "-m", BTC, "--json")[1])[0])


def test_revisions_are_listed_old_and_new(run):
    _, out, _ = run("revisions", "-m", BTC)
    assert "100.0 -> 99.0" in out
    assert out.count("->") == 1  # what did not change is left out
    assert out.endswith("1 row\n")
    _, out, _ = run("revisions", "-m", BTC, "--json", "--start", "2024-12-30T10:00Z", "--end", "2024-12-30T10:01Z")
    assert [(row["old_close"], row["new_close"]) for row in json.loads(out)] == [(100.0, 99.0)]
    _, out, err = run("revisions", "--start", "2024-12-30T10:01Z", "-f", "csv")
    assert (len(out.splitlines()), err) == (1, "mdp: nothing was revised there\n")


class TestCoverage:
    def test_the_table_counts_idle_and_permanent_minutes_where_there_are_any(self, run):
        _, out, _ = run("coverage", "-m", BTC)
        assert out.splitlines()[0].split()[-4:] == ["expected", "present", "coverage", "unknown"]
        assert out.splitlines()[1].split()[-4:] == ["1,440", "1,439", "99.93%", "1"]

    def test_json_has_them_too(self, run):
        _, out, _ = run("coverage", "-m", BTC, "--json")
        (row,) = json.loads(out)
        assert (row["idle"], row["permanent"], row["missing"]) == (0, 0, {"unknown": 1})

    def test_a_row_for_each_day(self, run):
        _, out, _ = run("coverage", "-m", BTC, "--start", "2024-12-29", "--end", "2024-12-31", "--days", "json")
        assert [(row["day"], row["present"], row["unfetched"], row["revised"]) for row in json.loads(out)] == [
            ("2024-12-29", 0, 1440, 0),
            ("2024-12-30", 1439, 0, 1),
        ]

    def test_the_page_is_written_whole_or_not_at_all(self, run, tmp_path):
        target = tmp_path / "coverage.html"
        assert run("coverage", "-m", BTC, *DAY, "--html", str(target))[0] == 0
        page = target.read_text(encoding="utf-8")
        assert page.startswith("<!DOCTYPE html>")
        assert "binance:BTC-USDT 2024-12-30: 1,439 of 1,440 minutes, 1 unknown, 1 revised" in page
        code, _, err = run("coverage", "-m", BTC, *DAY, "--html", str(tmp_path / "no" / "folder.html"))
        assert (code, err) == (1, f"mdp: {tmp_path}/no/folder.html: No such file or directory\n")
        assert [one.name for one in tmp_path.iterdir()] == ["coverage.html"]
