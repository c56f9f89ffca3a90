"""Beginning, seeing and ending generations, over a scripted Dagster; the lake lacks a minute of its only day."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime

import httpx
import msgspec
import pytest
from starlette.testclient import TestClient

from mdp.api.app import create_app
from mdp.api.generations import backfills
from mdp.api.generations.backfills import Backfill
from mdp.api.generations.graphql import Dagster
from mdp.api.generations.judging import missing_days
from mdp.api.generations.resource import generation_id, message_of, over
from mdp.bus.topics import GenerationMessage
from mdp.config.settings import load_settings
from mdp.domain.interval import Interval
from mdp.domain.market import Market
from mdp.domain.timeframe import Timeframe
from mdp.ports import OHLCV, Slice
from mdp.storage import open_store
from mdp.storage.memory import MemoryStore
from mdp_tests.api.generations.scripted_dagster import scripted_dagster
from mdp_tests.support.builders import MARKET, candles, every_minute, window

GENERATE = "/api/v1/market-data/binance/BTC-USDT/generate"
THREE_DAYS = {"start": "2024-12-30", "end": "2025-01-02"}
KEYS = [f"{day}|binance:BTC-USDT" for day in ("2024-12-30", "2024-12-31", "2025-01-01")]


@pytest.fixture(scope="module")
def running():
    with scripted_dagster() as dagster:
        yield dagster


@pytest.fixture(scope="module")
def asking(lake, running):
    settings = load_settings(
        data_dir=lake, simulated=True, api={"dagster_url": running.url, "max_generations": 2, "max_generate_days": 30}
    )
    with TestClient(create_app(settings), base_url="http://127.0.0.1:8000", client=("127.0.0.1", 50_000)) as client:
        yield client


@pytest.fixture
def dagster(running):
    running.reset()
    return running


def tags(backfill):
    return {tag["key"]: tag["value"] for tag in backfill["tags"]}


def begin(asking, status=202, **window):
    answer = asking.post(GENERATE, params=THREE_DAYS | window)
    assert answer.status_code == status, answer.text
    return answer.json()


def test_one_backfill_of_exactly_the_missing_days_is_launched_however_often_it_is_asked_for(asking, dagster):
    with ThreadPoolExecutor(4) as pool:
        told = list(pool.map(lambda _: asking.post(GENERATE, params=THREE_DAYS), range(4)))
    (launched,) = dagster.backfills
    assert launched["partitionNames"] == KEYS
    assert [one["path"] for one in launched["assetSelection"]] == [["raw_ohlcv"], ["ohlcv"], ["ohlcv_resampled"]]
    assert tags(launched) | {
        "mdp/market": "binance_BTC-USDT", "mdp/exchange": "binance", "mdp/resumes": "true", "mdp/attempt": "1",
        "mdp/window": "2024-12-30_2025-01-02", "mdp/missing_days": "3",
    } == tags(launched)  # fmt: skip
    assert {one.status_code for one in told} == {202}
    name = tags(launched)["mdp/generation"]
    assert {one.headers["location"] for one in told} == {f"/api/v1/generations/{name}"}
    assert all(int(one.headers["retry-after"]) > 0 for one in told)
    assert told[0].json()["state"] == "queued"


def test_history_in_mode_generate_collects_the_whole_days_that_its_window_touches(asking, dagster):
    begun = begin(asking)
    window = {"timeframe": "1h", "start": "2024-12-30T05:00Z", "end": "2025-01-01T00:01Z", "mode": "generate"}
    told = asking.get("/api/v1/market-data/binance/BTC-USDT/history", params=window)
    assert (told.status_code, told.json()["id"]) == (202, begun["id"])
    assert len(dagster.backfills) == 1


def test_it_runs_while_a_run_does_and_counts_days_that_passed_the_last_asset(asking, dagster):
    name = begin(asking)["id"]
    dagster.backfills[0] |= {
        "runs": [{"status": "STARTED"}],
        "assetBackfillData": {"assetBackfillStatuses": [
            {"assetKey": {"path": ["raw_ohlcv"]}, "numPartitionsMaterialized": 3},
            {"assetKey": {"path": ["ohlcv_resampled"]}, "numPartitionsMaterialized": 2}]},
    }  # fmt: skip
    told = asking.get(f"/api/v1/generations/{name}")
    assert told.status_code == 202
    assert [told.json()[field] for field in ("state", "days", "days_done")] == ["running", 3, 2]


@pytest.mark.parametrize("status", ["COMPLETED_SUCCESS", "CANCELED"])
def test_an_end_with_something_missing_is_none_whatever_dagster_says_and_a_new_post_tries_again(
    asking, dagster, status
):
    name = begin(asking)["id"]
    dagster.backfills[0] |= {"status": status, "runs": [{"status": "SUCCESS"}]}
    told = asking.get(f"/api/v1/generations/{name}")
    found = told.json()
    assert (told.status_code, "retry-after" in told.headers) == (200, False)
    assert found["state"] == ("canceled" if status == "CANCELED" else "failed")
    assert [(one["day"], one["minutes"], one["reason"], one["retryable"]) for one in found["missing"]] == [
        ("2024-12-30", 1, "unknown", True),
        ("2024-12-31", 1_440, "unfetched", True),
        ("2025-01-01", 1_440, "unfetched", True),
    ]
    again = begin(asking)
    assert (again["id"], again["attempt"]) == (name, 2)
    assert len(dagster.backfills) == 2
    listed = asking.get("/api/v1/generations").json()["generations"]
    assert [(one["id"], one["attempt"], one["state"]) for one in listed] == [(name, 2, "queued")]


def test_runs_that_ended_are_not_an_end_while_something_is_missing_and_dagster_may_try_again(asking, dagster):
    name = begin(asking)["id"]
    dagster.backfills[0]["runs"] = [{"status": "FAILURE"}]
    told = asking.get(f"/api/v1/generations/{name}").json()
    assert (told["state"], name in told["detail"]) == ("running", False)


@pytest.mark.slow
def test_days_that_another_generation_collects_are_left_to_it_and_waited_for(asking, dagster):
    other = begin(asking, end="2025-01-01")["id"]
    name = begin(asking)["id"]
    assert [one["partitionNames"] for one in dagster.backfills] == [KEYS[:2], KEYS[2:]]
    dagster.backfills[1]["status"] = "COMPLETED_SUCCESS"
    told = asking.get(f"/api/v1/generations/{name}").json()
    assert (told["state"], told["days"]) == ("running", 3)
    assert other in told["detail"]
    dagster.backfills[0]["status"] = "COMPLETED_SUCCESS"
    assert asking.get(f"/api/v1/generations/{name}").json()["state"] == "failed"


def test_days_that_one_other_generation_collects_altogether_are_answered_by_it(asking, dagster):
    other = begin(asking)["id"]
    assert begin(asking, end="2024-12-31")["id"] == other
    assert len(dagster.backfills) == 1


@pytest.mark.slow
def test_days_that_several_others_share_are_a_conflict_that_passes(asking, dagster):
    begin(asking, end="2024-12-31")
    begin(asking, start="2024-12-31")
    told = begin(asking, 429)
    assert told["retryable"]
    dagster.backfills[0] |= {"status": "COMPLETED"}
    assert begin(asking)["days"] == 3
    dagster.backfills[2] |= {"status": "CANCELING"}
    assert begin(asking, 409)["retryable"]


@pytest.mark.slow
def test_a_launch_that_is_not_answered_in_time_is_found_and_not_begun_again(asking, dagster, monkeypatch):
    monkeypatch.setattr(backfills, "_PATIENT", httpx.Timeout(0.1))
    monkeypatch.setattr(backfills, "_LOOK_S", 0.01)
    dagster.launch_s = 0.3
    told = begin(asking)
    assert begin(asking)["id"] == told["id"]
    assert len(dagster.backfills) == 1


@pytest.mark.parametrize(("status", "word"), [("CANCELING", "is being canceled"), ("FAILING", "has failed")])
@pytest.mark.parametrize("end", ["2025-01-02", "2025-01-03"])
def test_days_of_a_generation_that_is_ending_are_not_launched_beside_it(asking, dagster, status, word, end):
    name = begin(asking)["id"]
    dagster.backfills[0]["status"] = status
    answer = begin(asking, status=409, end=end)
    assert f"generation {name} {word}" in answer["detail"]
    assert len(dagster.backfills) == 1


def test_canceling_is_handed_to_dagster_once(asking, dagster):
    name = begin(asking)["id"]
    for _ in range(2):
        told = asking.delete(f"/api/v1/generations/{name}")
        assert (told.status_code, told.json()["state"]) == (202, "running")
    assert dagster.canceled == ["b0"]
    dagster.backfills[0]["status"] = "CANCELED"
    assert asking.delete(f"/api/v1/generations/{name}").status_code == 200


def test_without_a_daemon_nothing_is_launched_and_what_to_start_is_said(asking, dagster):
    dagster.heartbeat_age_s = 600
    told = begin(asking, 503)
    assert "dagster-daemon" in told["detail"]
    assert not dagster.backfills


@pytest.mark.parametrize("raw", [b"<html>hello</html>", b"[]", b'{"errors": [{"message": "/home/somebody"}]}'])
def test_what_is_no_dagster_is_a_503_that_repeats_nothing_of_it(asking, dagster, raw):
    dagster.raw = raw
    told = begin(asking, 503)
    assert told["retryable"]
    assert "somebody" not in json.dumps(told)


def test_a_refusal_of_dagster_is_a_503_without_its_paths(asking, dagster):
    dagster.refusal = "PythonError"
    told = begin(asking, 503)
    assert "PythonError" in told["detail"]
    assert "somebody" not in json.dumps(told)


@pytest.mark.parametrize(
    ("window", "parameter"),
    [
        ({"start": "2014-12-30"}, "start"),
        ({"start": "2024-12-30T01:00Z"}, "start"),
        ({"end": "2124-12-30"}, "end"),
        ({"end": "2025-02-02"}, "start"),
        ({"end": "tomorrow"}, "end"),
        ({"days": "3"}, "days"),
    ],
)
def test_a_wrong_window_is_named_and_launches_nothing(asking, dagster, window, parameter):
    told = begin(asking, 400, **window)
    assert [one["parameter"] for one in told["errors"]] == [parameter]
    assert not dagster.backfills


def test_what_is_not_there_is_404(asking, dagster):
    assert asking.get("/api/v1/generations/0123456789abcdef").status_code == 404
    assert asking.delete("/api/v1/generations/0123456789abcdef").status_code == 404
    assert asking.post("/api/v1/market-data/binance/DOGE-USDT/generate", params=THREE_DAYS).status_code == 404


def test_backfills_that_somebody_else_tagged_so_are_passed_by(asking, dagster):
    name = begin(asking)["id"]
    dagster.backfills[0]["tags"] = [
        {"key": "mdp/generation", "value": name},
        {"key": "mdp/origin", "value": "generate"},
    ]
    assert asking.get(f"/api/v1/generations/{name}").status_code == 404
    assert asking.get("/api/v1/generations").json() == {"generations": []}


def test_a_generation_whose_days_lack_nothing_succeeded_and_is_told_as_the_bus_describes_it():
    market, window = Market.parse("binance:BTC-USDT"), Interval.of_days(date(2024, 12, 30), date(2025, 1, 1))
    name = generation_id("dev", market, window)
    assert name != generation_id("prod", market, window)
    moment = datetime(2025, 1, 15, 9, 30, 0, 123_456, UTC)
    one = Backfill("b0", name, market, window, (date(2024, 12, 30),), 3, 1, "FAILED", 3, moment, moment, ())
    told = over(one, [], "http://127.0.0.1:3000")
    assert (told.state, told.days_done, told.begun_at) == ("succeeded", 3, "2025-01-15T09:30:00Z")
    said = msgspec.json.decode(message_of(told), type=GenerationMessage)
    assert (said.job, said.start, said.end) == (name, "2024-12-30T00:00:00.000000Z", "2025-01-02T00:00:00.000000Z")


def test_minutes_of_a_stretch_that_is_partly_there_are_told_by_day(lake):
    store = open_store(load_settings(data_dir=lake, simulated=True))
    found = missing_days(
        store, Market.parse("binance:BTC-USDT"), Interval.of_days(date(2024, 12, 29), date(2024, 12, 31))
    )
    assert [(one.day.day, one.minutes) for one in found] == [(29, 1_440), (30, 1), (31, 1_440)]


def test_a_password_in_the_address_of_dagster_is_shown_to_nobody():
    dagster = Dagster(httpx.AsyncClient(verify=False), "http://trader:secret@desk.example:3000/dagster")
    assert dagster.page == "http://desk.example:3000/dagster"


def test_minutes_of_adjacent_days_that_nobody_collected_are_told_apart():
    store, days = MemoryStore(), window("2024-12-30", "2025-01-01")
    received = candles(
        *every_minute("2024-12-30T00:00", "2024-12-30T00:10"), *every_minute("2024-12-31", "2024-12-31T00:20")
    )
    store.replace(OHLCV, Slice(MARKET, (Timeframe.M1,), days), received)
    assert [(one.day.day, one.minutes) for one in missing_days(store, MARKET, days)] == [(30, 1_430), (31, 1_420)]
