"""Binance's bulk files, as the simulator publishes them."""

from __future__ import annotations

import gzip
import hashlib
import io
import zipfile

import pytest

from mdp.simulator.archive_shelf import Shelf
from mdp.simulator.recorded_days import CARRIED

DAILY = "/binance-archive/data/spot/daily/klines/BTCUSDT/1m/BTCUSDT-1m-{}.zip"
MONTHLY = "/binance-archive/data/spot/monthly/klines/{0}/1m/{0}-1m-{1}.zip"


@pytest.fixture
def world(world):
    return world.at("2025-02-10T12:00Z")


def text_of(answer):
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        (name,) = archive.namelist()
        return name, archive.read(name)


@pytest.mark.parametrize("day", ["2017-09-06", "2018-02-08", "2018-02-09", "2024-12-31", "2025-01-01"])
def test_a_recorded_day_is_the_file_that_was_recorded(world, day):
    name, text = text_of(world.ask(DAILY.format(day)))
    recorded = CARRIED / "binance" / "BTCUSDT" / "1m" / f"BTCUSDT-1m-{day}.csv.gz"
    assert name == f"BTCUSDT-1m-{day}.csv"
    assert text == gzip.decompress(recorded.read_bytes())


def test_the_checksum_is_what_sha256sum_writes(world):
    content = world.ask(DAILY.format("2025-01-01")).content
    said = world.ask(DAILY.format("2025-01-01") + ".CHECKSUM").text
    assert said == f"{hashlib.sha256(content).hexdigest()}  BTCUSDT-1m-2025-01-01.zip\n"


def test_times_are_milliseconds_until_2024_and_microseconds_from_2025(world):
    before = text_of(world.ask(DAILY.format("2024-12-30")))[1].decode().splitlines()[0].split(",")
    after = text_of(world.ask(DAILY.format("2025-01-02")))[1].decode().splitlines()[0].split(",")
    assert (len(before[0]), before[6][-5:]) == (13, "59999")
    assert (len(after[0]), after[6][-6:]) == (16, "999999")
    assert (len(before), len(after)) == (12, 12)


def test_a_day_is_there_from_the_next_day_on(world):
    path = DAILY.format("2025-01-07")
    assert world.at("2025-01-07T23:59:59.999Z").ask(path).status_code == 404
    assert world.ask(f"{path}.CHECKSUM").status_code == 404
    assert world.at("2025-01-08T00:00Z").ask(f"{path}.CHECKSUM").status_code == 200


@pytest.mark.slow
def test_a_month_is_there_from_the_first_monday_on_and_begins_with_the_first_candle(world):
    path = MONTHLY.format("SOLUSDT", "2020-08")
    assert world.at("2020-09-06T23:59:59.999Z").ask(path).status_code == 404
    name, text = text_of(world.at("2020-09-07T00:00Z").ask(path))
    assert name == "SOLUSDT-1m-2020-08.csv"
    assert text.startswith(b"1597125600000,")
    assert text.count(b"\n") == 18 * 60 + 20 * 1440


@pytest.mark.parametrize(
    "path",
    [
        DAILY.format("2017-08-16"),  # the day before the first candle
        MONTHLY.format("SOLUSDT", "2020-07"),
        DAILY.format("2025-02-30"),
        DAILY.format("2025-01"),
        MONTHLY.format("BTCUSDT", "2024-12-01"),
        DAILY.replace("daily", "weekly").format("2025-01-01"),
        DAILY.replace("/1m/", "/5m/").format("2025-01-01"),
        DAILY.replace("spot", "futures").format("2025-01-01"),
        "/binance-archive/",
        "/binance-archive/x<&>",
    ],
)
def test_what_is_not_published_is_no_such_key(world, path):
    answer = world.ask(path)
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/xml")
    assert "<Code>NoSuchKey</Code>" in answer.text


def test_other_timeframes_are_published_too(world):
    path = DAILY.replace("1m", "1h").format("2025-01-01")
    assert text_of(world.ask(path))[1].count(b"\n") == 24


def test_a_scripted_correction_is_another_file_with_another_checksum(world):
    path = DAILY.format("2025-01-01")
    before = world.ask(path)
    number = world.simulation.faults.add(
        kind="restate", exchange="binance", start="2025-01-01T10:00:00Z", end="2025-01-01T11:00:00Z"
    )
    try:
        after = world.ask(path)
        said = world.ask(f"{path}.CHECKSUM").text
    finally:
        world.simulation.faults.remove(number)
    assert after.headers["etag"] != before.headers["etag"]
    assert said.startswith(hashlib.sha256(after.content).hexdigest())
    old, new = (text_of(answer)[1].splitlines() for answer in (before, after))
    assert sum(one != other for one, other in zip(old, new, strict=True)) == 60
    assert world.ask(path).content == before.content


def test_a_scripted_header_stands_before_the_rows(world):
    number = world.simulation.faults.add(kind="archive_header", exchange="binance")
    try:
        text = text_of(world.ask(DAILY.format("2025-01-01")))[1]
    finally:
        world.simulation.faults.remove(number)
    assert text.startswith(b"open_time,open,high,low,close,volume,close_time,quote_volume,count,")
    assert text.count(b"\n") == 1441


def test_the_shelf_keeps_what_was_used_last_up_to_its_size():
    made = []

    def make(name):
        return lambda: made.append(name) or b"x" * 40

    shelf = Shelf(most_bytes=100)
    for name in ("a", "b", "a", "c", "a", "b"):
        shelf.get(name, 0, make(name))
    assert made == ["a", "b", "c", "b"]
    assert shelf.get("b", 1, make("b again")).sha256 == shelf.get("b", 0, make("b")).sha256
    assert made[-1] == "b again"
