"""Recorded minutes, resampled, are Binance's own longer candles.

Open, high, low, close, trades and volume (which has 8 decimals) exactly, quote volume to 1e-12. What is compared with
what is written down bucket by bucket, so that a file that went missing cannot make the comparison quietly smaller.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from datetime import date
from functools import cache
from pathlib import Path

import polars as pl
import pytest

from mdp.domain.candles import CANDLE_SCHEMA, RAW_SCHEMA
from mdp.domain.gaps import find_gaps
from mdp.domain.interval import Interval
from mdp.domain.resample import resample_all
from mdp.domain.rules import Asked, split_by_rules, to_candles
from mdp.domain.timeframe import Timeframe
from mdp_tests.support.builders import NOW, window

HERE = Path(__file__).parent
RECORDED = Path(__file__).parents[3] / "mdp" / "simulator" / "recorded" / "binance" / "BTCUSDT" / "1m"

COLUMNS = ["open_time", "open", "high", "low", "close", "volume", "close_time", "quote_volume", "trades"]
EXACT = ["open", "high", "low", "close", "trades"]

NATIVE = {
    "BTCUSDT_4h_2017-07-01.json": (Timeframe.H4, window("2017-08-17T04:00", "2017-10-01")),
    "BTCUSDT_1d_2016-01-01.json": (Timeframe.D1, window("2017-08-17", "2018-01-01")),
    "BTCUSDT_4h_2018-02-08.json": (Timeframe.H4, window("2018-02-08", "2018-02-10")),
    "BTCUSDT_1d_2018-02-08.json": (Timeframe.D1, window("2018-02-08", "2018-02-10")),
    "BTCUSDT_4h_2020-12-21.json": (Timeframe.H4, window("2020-12-21", "2020-12-22")),
    "BTCUSDT_4h_2021-04-01.json": (Timeframe.H4, window("2021-04-01", "2021-07-01")),
    "BTCUSDT_1h_2023-03-01.json": (Timeframe.H1, window("2023-03-01", "2023-04-01")),
    "BTCUSDT_1d_2024-12-25.json": (Timeframe.D1, window("2024-12-25", "2025-01-08")),
    "BTCUSDT_15m_2024-12-30.json": (Timeframe.M15, window("2024-12-30", "2025-01-06")),
    "BTCUSDT_1h_2025-01-01.json": (Timeframe.H1, window("2025-01-01", "2025-02-01")),
}
"""Each file of native candles, its timeframe, and the stretch it tells about."""

MINUTES = {
    "2017-09-06": 1021, "2017-12-04": 1392, "2018-02-08": 29, "2018-02-09": 840, "2020-12-21": 1188,
    "2021-04-25": 1156, "2023-03-24": 1360, "2024-12-25": 1440, "2024-12-26": 1440, "2024-12-27": 1440,
    "2024-12-28": 1440, "2024-12-29": 1440, "2024-12-30": 1440, "2024-12-31": 1440, "2025-01-01": 1440,
    "2025-01-02": 1440, "2025-01-03": 1440, "2025-01-04": 1440, "2025-01-05": 1440, "2025-01-06": 1440,
    "2025-01-07": 1440,
}  # fmt: skip
"""Each recorded day and how many of its 1,440 minutes the exchange has."""

COMPARED = {
    ("2017-09-06", "BTCUSDT_4h_2017-07-01.json"): 6,
    ("2017-09-06", "BTCUSDT_1d_2016-01-01.json"): 1,
    ("2017-12-04", "BTCUSDT_1d_2016-01-01.json"): 1,
    ("2018-02-08", "BTCUSDT_4h_2018-02-08.json"): 1,  # 28 minutes and 15 seconds, then 33 hours of silence
    ("2018-02-08", "BTCUSDT_1d_2018-02-08.json"): 1,
    ("2018-02-09", "BTCUSDT_4h_2018-02-08.json"): 4,
    ("2018-02-09", "BTCUSDT_1d_2018-02-08.json"): 1,
    ("2020-12-21", "BTCUSDT_4h_2020-12-21.json"): 6,
    ("2021-04-25", "BTCUSDT_4h_2021-04-01.json"): 6,
    ("2023-03-24", "BTCUSDT_1h_2023-03-01.json"): 23,  # trading stood still all the hour from 13:00
    **{(f"2024-12-{day}", "BTCUSDT_1d_2024-12-25.json"): 1 for day in range(25, 32)},
    **{(f"2025-01-0{day}", "BTCUSDT_1d_2024-12-25.json"): 1 for day in range(1, 8)},
    ("2024-12-30", "BTCUSDT_15m_2024-12-30.json"): 96,
    ("2024-12-31", "BTCUSDT_15m_2024-12-30.json"): 96,
    **{(f"2025-01-0{day}", "BTCUSDT_15m_2024-12-30.json"): 96 for day in range(1, 6)},
    **{(f"2025-01-0{day}", "BTCUSDT_1h_2025-01-01.json"): 24 for day in range(1, 8)},
}
"""How many buckets of a recorded day each file lets us compare."""


@cache
def minutes_of(day: str) -> pl.DataFrame:
    """The recorded minutes of a day as accepted candles."""
    body = gzip.decompress((RECORDED / f"BTCUSDT-1m-{day}.csv.gz").read_bytes())
    rows = pl.read_csv(body, has_header=False, new_columns=[*COLUMNS, "taker_volume", "taker_quote_volume", "unused"])
    unit = "us" if day >= "2025-01-01" else "ms"  # the archive changed its unit on that day
    dtypes = {name: dtype for name, dtype in RAW_SCHEMA.items() if name in COLUMNS}
    raw = rows.with_columns(
        pl.from_epoch("open_time", unit).dt.cast_time_unit("us").dt.replace_time_zone("UTC").alias("open_time"),
        exchange=pl.lit("binance"), symbol=pl.lit("BTC-USDT"), timeframe=pl.lit("1m"), closed=pl.lit(value=True),
        source=pl.lit("archive"), fetched_at=pl.lit(NOW), window_start=pl.lit(day_of(day).start),
    ).cast({**dtypes, "fetched_at": RAW_SCHEMA["fetched_at"], "window_start": RAW_SCHEMA["window_start"]})  # fmt: skip
    judged = split_by_rules(raw.select(RAW_SCHEMA.names()), Asked(day_of(day), Timeframe.M1))
    assert judged.rejected.is_empty()
    return to_candles(judged.accepted, Timeframe.M1)


@cache
def native_of(name: str) -> pl.DataFrame:
    """The native candles of a file, in our columns."""
    rows = json.loads((HERE / name).read_text())
    numbers = {"open_time": pl.Int64, "trades": pl.Int64}
    columns = {
        column: [float(row[index]) if column not in numbers else row[index] for row in rows]
        for index, column in enumerate(COLUMNS)
        if column != "close_time"
    }
    return pl.DataFrame(columns).with_columns(
        pl.from_epoch("open_time", "ms").dt.cast_time_unit("us").dt.replace_time_zone("UTC")
    )


def day_of(day: str) -> Interval:
    return Interval.of_day(date.fromisoformat(day))


def assert_same(ours: pl.DataFrame, native: pl.DataFrame) -> None:
    assert ours["open_time"].to_list() == native["open_time"].to_list()
    for name in EXACT:
        assert ours[name].to_list() == native[name].to_list(), name
    assert ours["volume"].to_list() == native["volume"].to_list()
    assert ours["quote_volume"].to_list() == pytest.approx(native["quote_volume"].to_list(), rel=1e-12, abs=0)


@pytest.mark.parametrize("day", MINUTES)
def test_a_recorded_day_has_as_many_minutes_as_the_exchange_has(day):
    minutes = minutes_of(day)
    missing = find_gaps(minutes["open_time"], Timeframe.M1, day_of(day))
    assert minutes.schema == CANDLE_SCHEMA
    assert len(minutes) == MINUTES[day] == 1440 - sum(gap.slots(Timeframe.M1) for gap in missing)


def test_every_recorded_day_and_every_native_file_is_listed_here():
    assert {path.name for path in RECORDED.glob("*.csv.gz")} == {f"BTCUSDT-1m-{day}.csv.gz" for day in MINUTES}
    assert {path.name for path in HERE.glob("BTCUSDT_*.json")} == set(NATIVE)


def test_every_day_that_a_native_file_covers_is_compared():
    covered = {(day, name) for day in MINUTES for name, (_, told) in NATIVE.items() if told.covers(day_of(day))}
    assert covered == set(COMPARED)
    assert sum(COMPARED.values()) == 904


@pytest.mark.parametrize("name", NATIVE)
def test_a_native_file_tells_about_the_stretch_it_is_said_to(name):
    timeframe, told = NATIVE[name]
    open_times = native_of(name)["open_time"]
    assert told.contains(open_times[0])
    assert timeframe.floor(told.start) == open_times[0]
    assert open_times[-1] + timeframe.duration == told.end


@pytest.mark.parametrize(("day", "name"), COMPARED)
def test_every_bucket_of_a_recorded_day_is_the_native_candle_and_no_other_exists(day, name):
    timeframe, _ = NATIVE[name]
    ours = resample_all(minutes_of(day))[timeframe]
    asked = day_of(day)
    native = native_of(name).filter(pl.col("open_time").is_between(asked.start, asked.end, closed="left"))
    assert len(native) == COMPARED[day, name]
    assert_same(ours, native)


@pytest.mark.parametrize(
    ("timeframe", "stretch"),
    [(Timeframe.M15, window("2024-12-30", "2025-01-06")), (Timeframe.H1, window("2025-01-01", "2025-01-08"))],
)
def test_days_resampled_in_one_piece_give_the_same_candles(timeframe, stretch):
    days = [day for day in MINUTES if stretch.covers(day_of(day))]
    ours = resample_all(pl.concat(minutes_of(day) for day in days))[timeframe]
    (name,) = [name for name, (known, told) in NATIVE.items() if known is timeframe and told.covers(stretch)]
    native = native_of(name).filter(pl.col("open_time").is_between(stretch.start, stretch.end, closed="left"))
    assert len(native) == stretch.slots(timeframe)
    assert_same(ours, native)


def test_the_rule_about_idle_minutes_is_put_to_the_test_by_four_values_of_one_day():
    """First, largest, smallest, last of all minutes would be wrong there: the comparison can tell the rules apart."""
    wrong = {}
    for day, name in COMPARED:
        bucket = pl.col("open_time").dt.truncate(NATIVE[name][0])
        plain = minutes_of(day).group_by(bucket, maintain_order=True).agg(
            pl.first("open"), pl.max("high"), pl.min("low"), pl.last("close")
        )  # fmt: skip
        both = plain.join(native_of(name), on="open_time", suffix="_native")
        prices = ("open", "high", "low", "close")
        wrong[day, name] = sum((both[price] != both[f"{price}_native"]).sum() for price in prices)
    assert {key: values for key, values in wrong.items() if values} == {("2017-09-06", "BTCUSDT_4h_2017-07-01.json"): 4}


def test_the_hour_cut_short_on_2018_02_08_by_hand():
    """First open, largest high, smallest low and last close of the 29 recorded minutes, read off the file."""
    (hour,) = resample_all(minutes_of("2018-02-08"))[Timeframe.H1].iter_rows(named=True)
    assert [hour[name] for name in EXACT] == [7599.0, 7844.0, 7572.09, 7784.02, 12417]
    assert (hour["volume"], hour["minutes"]) == (1521.537318, 29)


def test_nothing_is_invented_for_the_33_hours_of_silence_that_followed():
    minutes = pl.concat([minutes_of("2018-02-08"), minutes_of("2018-02-09")])
    silent = window("2018-02-08T00:29", "2018-02-09T10:00")
    assert find_gaps(minutes["open_time"], Timeframe.M1, window("2018-02-08", "2018-02-10")) == [silent]
    for timeframe, made in resample_all(minutes).items():
        first_bucket_after = timeframe.floor(silent.end)
        inside = made.filter((pl.col("open_time") >= silent.start) & (pl.col("open_time") < first_bucket_after))
        assert inside.is_empty()
        assert made["minutes"].sum() == 29 + 840


@pytest.mark.parametrize("timeframe", [Timeframe.M5, Timeframe.M15])
def test_short_buckets_of_the_cut_day_by_hand(timeframe):
    made = resample_all(minutes_of("2018-02-08"))[timeframe]
    assert made["minutes"].to_list() == {Timeframe.M5: [5, 5, 5, 5, 5, 4], Timeframe.M15: [15, 14]}[timeframe]
    assert made["open"][0] == 7599.0
    assert made["close"][-1] == 7784.02
    # the fifth bucket of 5 minutes begins at 00:20 and has the highest price of the day; at 15 minutes it is the second
    assert made["high"].to_list().index(7844.0) == {Timeframe.M5: 4, Timeframe.M15: 1}[timeframe]
    assert made["low"].to_list().index(7572.09) == 0


class TestProvenance:
    @pytest.mark.parametrize("name", NATIVE)
    def test_a_native_file_is_the_one_its_metadata_describes(self, name):
        told = json.loads((HERE / "metadata.json").read_text())["files"][name]
        body = (HERE / name).read_bytes()
        assert told["sha256"] == hashlib.sha256(body).hexdigest()
        assert told["bytes"] == len(body)
        assert told["candles"] == len(json.loads(body))
        assert re.fullmatch(r"finom/static-klines @ [0-9a-f]{40} : \.klines-cache/BTCUSDT/\S+\.json", told["source"])
        assert told["licence"]

    @pytest.mark.parametrize("day", MINUTES)
    def test_a_recorded_day_is_the_one_its_metadata_describes(self, day):
        told = json.loads((RECORDED / "metadata.json").read_text())["files"][f"BTCUSDT-1m-{day}.csv.gz"]
        body = gzip.decompress((RECORDED / f"BTCUSDT-1m-{day}.csv.gz").read_bytes())
        assert told["sha256"] == hashlib.sha256(body).hexdigest()
        assert told["rows"] == MINUTES[day]
