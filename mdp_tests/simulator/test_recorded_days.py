"""Recorded days: carried unchanged, served unchanged, refused when damaged."""

from __future__ import annotations

import gzip
import hashlib
import json
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from mdp.errors import InputError
from mdp.simulator.candles import UNITS
from mdp.simulator.recorded_days import CARRIED, load_recorded_days, read_checked
from mdp_tests.simulator.conftest import RECORDED

DAYS = CARRIED / "binance" / "BTCUSDT" / "1m"
FILES = sorted(DAYS.glob("*.csv.gz"))
EPOCH = date(1970, 1, 1)

LINE = (
    "1735084800000,98663.58000000,98749.31000000,98663.58000000,98700.61000000,16.47331000,1735084859999,"
    "1626150.51951200,2161,8.26421000,815784.98611290,0"
)
NEXT_LINE = LINE.replace("1735084800000", "1735084860000").replace("1735084859999", "1735084919999")


def write_day(root: Path, content: bytes, name="BTCUSDT-1m-2024-12-25.csv.gz") -> Path:
    folder = root / "binance" / "BTCUSDT" / "1m"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(gzip.compress(content))
    return folder


class TestProvenance:
    def test_the_days_promised_are_the_days_carried(self):
        weeks = [date(2024, 12, 25) + timedelta(days=number) for number in range(14)]
        single = ("2017-09-06", "2017-12-04", "2018-02-08", "2018-02-09", "2020-12-21", "2021-04-25", "2023-03-24")
        promised = [*single, *(str(day) for day in weeks)]
        assert [path.name for path in FILES] == [f"BTCUSDT-1m-{day}.csv.gz" for day in promised]

    @pytest.mark.parametrize("path", sorted(CARRIED.rglob("*.csv.gz")), ids=lambda path: path.name)
    def test_what_is_inside_is_what_was_recorded(self, path):
        entry = json.loads((path.parent / "metadata.json").read_text())["files"][path.name]
        content = gzip.decompress(path.read_bytes())
        assert hashlib.sha256(content).hexdigest() == entry["sha256"]
        assert (len(content), content.count(b"\n")) == (entry["bytes"], entry["rows"])
        assert entry["licence"] == "MIT"
        repository, commit, source = entry["source"].replace(" : ", " @ ").split(" @ ")
        assert repository.count("/") == 1
        assert len(commit) == 40
        assert source.startswith("data/")

    @pytest.mark.parametrize("path", sorted(CARRIED.rglob("*.csv.gz")), ids=lambda path: path.name)
    def test_the_same_bytes_make_the_same_file(self, path):
        assert path.read_bytes()[4:8] == bytes(4), "gzip header carries a time"

    def test_the_levels_are_the_ones_described(self):
        folder = CARRIED / "binance" / "BTCUSDT" / "levels"
        metadata = json.loads((folder / "metadata.json").read_text())
        for name, entry in metadata["files"].items():
            assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == entry["sha256"]
        assert all(len(source["sha256"]) == 64 and source["source"] for source in metadata["sources"].values())

    def test_the_licence_travels_with_the_days(self):
        assert (DAYS / "LICENSE").read_text().startswith("MIT License")

    def test_the_real_closes_agree_with_the_recorded_days(self):
        closes = pl.read_csv(CARRIED / "binance" / "BTCUSDT" / "levels" / "closes.csv")
        recorded = RECORDED.by_market["BTCUSDT"]
        at_midnight = {
            (day + 1) * 86_400_000: minutes.column("close")[-1] / UNITS
            for day, minutes in recorded.items()
            if minutes.open_ms[-1] % 86_400_000 == 86_340_000
        }
        both = [
            (price, at_midnight[time])
            for time, price in closes.select("time_ms", "price").iter_rows()
            if time in at_midnight
        ]
        assert len(both) >= 10
        assert all(real == ours for real, ours in both)


class TestReading:
    @pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
    def test_every_digit_of_every_row_survives(self, path):
        day = (date.fromisoformat(path.name[11:21]) - EPOCH).days
        minutes = RECORDED.by_market["BTCUSDT"][day]
        scale = 1_000 if path.name[11:15] == "2025" else 1
        rows = [line.split(",") for line in gzip.decompress(path.read_bytes()).decode().splitlines()]
        assert len(minutes) == len(rows)
        positions = {"open": 1, "high": 2, "low": 3, "close": 4, "volume": 5, "quote_volume": 7, "taker_volume": 9}
        for name, position in {**positions, "taker_quote_volume": 10}.items():
            assert minutes.column(name).tolist() == [int(row[position].replace(".", "")) for row in rows]
        assert minutes.column("trades").tolist() == [int(row[8]) for row in rows]
        assert minutes.open_ms.tolist() == [int(row[0]) // scale for row in rows]
        assert minutes.column("close_ms").tolist() == [int(row[6]) // scale for row in rows]

    def test_outages_stay_holes_and_idle_minutes_stay(self):
        recorded = RECORDED.by_market["BTCUSDT"]
        outage = recorded[(date(2018, 2, 8) - EPOCH).days]
        assert len(outage) == 29
        idle = recorded[(date(2017, 9, 6) - EPOCH).days]
        assert (len(idle), int((idle.column("volume") == 0).sum())) == (1_021, 146)
        assert (np.diff(idle.open_ms) != 60_000).sum() == 1

    def test_another_folder_replaces_the_carried_days(self, tmp_path):
        write_day(tmp_path, f"{LINE}\n{NEXT_LINE}\n".encode())
        days = load_recorded_days(tmp_path).by_market
        assert list(days) == ["BTCUSDT"]
        assert [len(minutes) for minutes in days["BTCUSDT"].values()] == [2]

    def test_a_day_may_hold_nothing(self, tmp_path):
        write_day(tmp_path, b"")
        assert [len(minutes) for minutes in load_recorded_days(tmp_path).by_market["BTCUSDT"].values()] == [0]

    def test_rows_off_the_grid_are_kept_as_they_are(self, tmp_path):
        write_day(tmp_path, LINE.replace("1735084800000", "1735084814800").encode())
        (minutes,) = load_recorded_days(tmp_path).by_market["BTCUSDT"].values()
        assert minutes.open_ms.tolist() == [1_735_084_814_800]


class TestRefusing:
    def test_a_missing_folder_is_named(self, tmp_path):
        with pytest.raises(InputError, match=r"--data: expected an existing folder .* got '.*nowhere'"):
            load_recorded_days(tmp_path / "nowhere")

    def test_a_folder_without_days_is_told_what_belongs_there(self, tmp_path):
        with pytest.raises(InputError, match=r"BTCUSDT-1m-YYYY-MM-DD\.csv\.gz"):
            load_recorded_days(tmp_path)

    @pytest.mark.parametrize(
        ("content", "complaint"),
        [
            (b"not,enough,columns\n", "12 columns"),
            (LINE.replace("98700.61000000", "").encode(), "close in line 1"),
            (f"{LINE}\n{NEXT_LINE.replace('2161', 'many')}".encode(), "trades in line 2"),
            (LINE.replace("16.47331000", "16.47").encode(), "volume in line 1"),
            (f"{NEXT_LINE}\n{LINE}".encode(), "ascending"),
            (f"{LINE}\n{LINE}".encode(), "each once"),
            (LINE.replace("1735084800000", "1735171200000").encode(), "its own UTC day"),
        ],
        ids=["columns", "empty", "words", "places", "unordered", "twice", "other-day"],
    )
    def test_a_damaged_file_is_named_with_what_is_wrong(self, tmp_path, content, complaint):
        write_day(tmp_path, content)
        with pytest.raises(InputError, match=complaint) as caught:
            load_recorded_days(tmp_path)
        assert "BTCUSDT-1m-2024-12-25.csv.gz" in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_a_file_that_is_no_gzip_is_named(self, tmp_path):
        folder = write_day(tmp_path, LINE.encode())
        path = folder / "BTCUSDT-1m-2024-12-25.csv.gz"
        for damage in (b"plain text", path.read_bytes()[:40]):
            path.write_bytes(damage)
            with pytest.raises(InputError, match="readable gzip"):
                load_recorded_days(tmp_path)

    def test_a_name_that_is_no_day_is_refused(self, tmp_path):
        write_day(tmp_path, LINE.encode(), name="BTCUSDT-1m-2024-13-25.csv.gz")
        with pytest.raises(InputError, match="a name such as"):
            load_recorded_days(tmp_path)

    def test_a_file_other_than_the_recorded_one_is_refused(self, tmp_path):
        folder = write_day(tmp_path, LINE.encode())
        name = "BTCUSDT-1m-2024-12-25.csv.gz"
        (folder / "metadata.json").write_text(json.dumps({"files": {name: {"sha256": "0" * 64}}}))
        with pytest.raises(InputError, match="SHA-256"):
            load_recorded_days(tmp_path)

    def test_a_file_listed_but_not_there_is_refused(self, tmp_path):
        folder = write_day(tmp_path, LINE.encode())
        (folder / "metadata.json").write_text(
            json.dumps({"files": {"BTCUSDT-1m-2024-12-26.csv.gz": {"sha256": "0" * 64}}})
        )
        with pytest.raises(InputError, match=r"2024-12-26\.csv\.gz"):
            load_recorded_days(tmp_path)

    def test_a_digest_list_that_cannot_be_read_is_refused(self, tmp_path):
        folder = write_day(tmp_path, LINE.encode())
        for text in ("{", "[]", '{"files": {"x": 1}}'):
            (folder / "metadata.json").write_text(text)
            with pytest.raises(InputError, match=r"metadata\.json"):
                load_recorded_days(tmp_path)

    def test_reading_without_a_digest_checks_nothing_but_the_gzip(self, tmp_path):
        path = tmp_path / "a.gz"
        path.write_bytes(gzip.compress(b"abc"))
        assert read_checked(path, None) == b"abc"
