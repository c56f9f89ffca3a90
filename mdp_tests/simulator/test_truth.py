"""``/control/truth``: the minutes that everybody who collected rightly must hold."""

from __future__ import annotations

import pytest

from mdp_tests.simulator.conftest import ms

WINDOW = {"start": "2025-01-07T10:00Z", "end": "2025-01-07T10:05Z"}


@pytest.fixture
def world(world):
    return world.at("2025-01-07T12:00:30+00:00")


def rows(world, market="binance:BTC-USDT", **window):
    answer = world.ask("/control/truth", market=market, **(WINDOW | window))
    assert answer.status_code == 200, answer.text
    return answer.json()["rows"]


def klines(world):
    params = {"symbol": "BTCUSDT", "interval": "1m", "startTime": ms(WINDOW["start"]), "endTime": ms(WINDOW["end"]) - 1}
    return world.ask("/binance/api/v3/klines", **params).json()


def test_it_is_what_rest_answers(world):
    told = [[row[0], *map(float, (*row[1:6], row[7])), row[8]] for row in klines(world)]
    assert rows(world) == told
    assert len(told) == 5


def test_an_outage_is_in_it_and_a_revision_that_heals_is_not(world):
    world.faults.add(kind="revision", exchange="binance", settle_s=86_400)
    before = klines(world)
    world.faults.add(kind="outage", exchange="binance", start="2025-01-07T10:01Z", end="2025-01-07T10:03Z")
    true = rows(world)
    assert [row[0] for row in true] == [ms(f"2025-01-07T10:0{minute}Z") for minute in (0, 3, 4)]
    assert true[0][5] > float(before[0][5])


@pytest.mark.parametrize("channel", ["stream", "rest", "archive"])
def test_what_only_some_are_told_is_not_the_truth(world, channel):
    true = rows(world)
    world.faults.add(kind="outage", exchange="binance", channel=channel, start=WINDOW["start"], end=WINDOW["end"])
    assert rows(world) == true


def test_a_minute_that_is_not_over_is_not_in_it(world):
    found = rows(world, start="2025-01-07T11:58Z", end="2025-01-07T12:30Z")
    assert [row[0] for row in found] == [ms("2025-01-07T11:58Z"), ms("2025-01-07T11:59Z")]


def test_an_index_has_values_and_no_volume(world):
    world.faults.add(kind="outage", exchange="deribit", start="2025-01-07T10:02Z", end="2025-01-07T10:03Z")
    found = rows(world, "deribit:BTC-DVOL")
    assert [row[0] for row in found] == [ms(f"2025-01-07T10:0{minute}Z") for minute in (0, 1, 3, 4)]
    assert all(low <= min(o, c) <= max(o, c) <= high for _, o, high, low, c, *_ in found)
    assert {tuple(row[5:]) for row in found} == {(None, None, None)}


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"market": "binance:DOGE-USDT"}, "market"),
        ({"market": "kraken"}, "market"),
        ({"market": "deribit:SOL-DVOL"}, "market"),
        ({"start": "yesterday"}, "start"),
        ({"end": "2026-01-07"}, "end"),
    ],
)
def test_a_wrong_question_is_refused_by_name(world, wrong, field):
    answer = world.ask("/control/truth", **({"market": "binance:BTC-USDT"} | WINDOW | wrong))
    assert (answer.status_code, answer.json()["field"]) == (400, field)


def test_a_missing_part_is_asked_for(world):
    answer = world.ask("/control/truth", market="binance:BTC-USDT", start=WINDOW["start"])
    assert (answer.status_code, answer.json()["field"]) == (400, "end")


def test_a_clock_that_cannot_be_moved_says_so(world):
    assert world.ask("/control/clock").json()["now_ms"] == world.now_ms
    assert world.ask("/control/clock", method="POST", json={"speed": 60}).status_code == 400


@pytest.mark.parametrize("body", [{}, [], {"speed": 0}, {"speed": "fast"}, {"now": "soon"}, {"pace": 3}])
def test_a_wrong_setting_of_the_clock_is_refused(world, body):
    assert world.ask("/control/clock", method="POST", json=body).status_code == 400
