"""OKX's bulk files and the index that lists them, as the simulator publishes them."""

from __future__ import annotations

import io
import zipfile

import pytest

from mdp_tests.simulator.conftest import ms

INDEX = "/okx/api/v5/public/market-data-history"
FILE = "/okx-archive/cdn/okex/traderecords/candlesticks/daily/{}/BTC-USDT-candlesticks-{}.zip"


@pytest.fixture
def world(world):
    return world.at("2025-02-10T12:00Z")


def ask(world, begin="2025-01-10T16:00Z", end="2025-01-11T15:59:59.999Z", **changes):
    known = {"module": 2, "instType": "SPOT", "instIdList": "BTC-USDT", "dateAggrType": "daily"}
    return world.ask(INDEX, **{**known, "begin": ms(begin), "end": ms(end), **changes})


def listed(answer):
    (listing,) = answer.json()["data"]
    return [file["filename"] for group in listing["details"] for file in group["groupDetails"]]


def rows_of(answer):
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        (name,) = archive.namelist()
        return name, archive.read(name).decode().splitlines()


def test_a_day_is_one_of_utc_plus_8_and_its_rows_are_those_of_rest(world):
    name, (header, *rows) = rows_of(world.ask(FILE.format("20250111", "2025-01-11")))
    assert name == "BTC-USDT-candlesticks-2025-01-11.csv"
    assert header == "instrument_name,open,high,low,close,vol,vol_ccy,vol_quote,open_time,confirm"
    fields = [row.split(",") for row in rows]
    first = ms("2025-01-10T16:00Z")
    assert [int(row[8]) for row in fields] == list(range(first, first + 86_400_000, 60_000))
    page = world.ask(
        "/okx/api/v5/market/history-candles",
        instId="BTC-USDT", bar="1m", before=first - 1, after=first + 300 * 60_000, limit=300,
    ).json()["data"]  # fmt: skip
    assert [[row[8], *row[1:8], row[9]] for row in fields[:300]] == page[::-1]
    assert {row[0] for row in fields} == {"BTC-USDT"}


def test_the_index_lists_what_lies_between_begin_and_end(world):
    assert listed(ask(world)) == ["BTC-USDT-candlesticks-2025-01-11.zip"]
    assert listed(ask(world, end="2025-01-11T16:00Z")) == [
        "BTC-USDT-candlesticks-2025-01-12.zip",
        "BTC-USDT-candlesticks-2025-01-11.zip",
    ]
    months = ask(world, begin="2024-12-31T15:59Z", end="2025-01-31T15:00Z", dateAggrType="monthly")
    assert listed(months) == ["BTC-USDT-candlesticks-2025-01.zip", "BTC-USDT-candlesticks-2024-12.zip"]


def test_every_listed_address_can_be_fetched(world):
    (listing,) = ask(world).json()["data"]
    url = listing["details"][0]["groupDetails"][0]["url"]
    assert url.startswith("http://simulator/okx-archive/cdn/okex/traderecords/candlesticks/daily/20250111/")
    assert world.ask(url.removeprefix("http://simulator")).status_code == 200


def test_a_file_is_there_two_days_after_its_day(world):
    path = FILE.format("20250111", "2025-01-11")
    world.at("2025-01-12T15:59:59Z")
    assert (world.ask(path).status_code, listed(ask(world))) == (404, [])
    world.at("2025-01-12T16:00Z")
    assert (world.ask(path).status_code, len(listed(ask(world)))) == (200, 1)


@pytest.mark.parametrize(
    "path",
    [
        FILE.format("20180110", "2018-01-10"),
        FILE.format("20250111", "2025-01-12"),
        FILE.format("20250111", "2025-01"),
        "/okx-archive/x",
    ],
)
def test_what_is_not_published_is_no_such_key(world, path):
    answer = world.ask(path)
    assert (answer.status_code, "NoSuchKey" in answer.text) == (404, True)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"module": 1}, "51000"),
        ({"instType": "SWAP"}, "51000"),
        ({"instIdList": "XXX-USDT"}, "51001"),
        ({"dateAggrType": "weekly"}, "51000"),
        ({"dateAggrType": ""}, "51000"),
        ({"end": "2025-01-09T16:00Z"}, "51000"),
        ({"end": "2025-01-30T16:00Z"}, "51000"),  # the 21st day
    ],
)
def test_a_question_it_cannot_answer_is_refused(world, changes, code):
    answer = ask(world, **changes)
    assert (answer.status_code, answer.json()["code"]) == (400, code)


@pytest.mark.parametrize("begin", ["", "x", "1736524800"])
def test_times_are_milliseconds(world, begin):
    known = {"module": 2, "instType": "SPOT", "instIdList": "BTC-USDT", "dateAggrType": "daily"}
    answer = world.ask(INDEX, **known, begin=begin, end=ms("2025-01-11T15:59Z"))
    assert (answer.status_code, answer.json()["code"]) == (400, "51000")


def test_twenty_days_may_be_asked_at_once(world):
    assert len(listed(ask(world, end="2025-01-30T15:59:59Z"))) == 20


def test_five_questions_in_two_seconds_are_answered(world):
    assert [ask(world).status_code for _ in range(6)] == [200] * 5 + [429]
    world.real_s += 2
    assert ask(world).status_code == 200
