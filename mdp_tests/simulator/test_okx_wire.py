"""OKX as its clients see it."""

from __future__ import annotations

import pytest

from mdp_tests.simulator.conftest import ms

CANDLES, HISTORY = "/okx/api/v5/market/candles", "/okx/api/v5/market/history-candles"
START = ms("2024-12-30T00:00Z")
NOW = ms("2025-01-07T12:00Z")


def rows_of(world, path=HISTORY, **params):
    response = world.ask(path, **{"instId": "BTC-USDT", **params})
    assert response.status_code == 200, response.text
    body = response.json()
    assert (body["code"], body["msg"]) == ("0", "")
    world.real_s += 1  # quotas are tested apart
    return body["data"]


def opened(rows):
    return [int(row[0]) for row in rows]


def newest_first(first_ms, last_ms):
    return list(range(first_ms, last_ms + 1, 60_000))[::-1]


class TestBounds:
    def test_newest_first_with_both_bounds_exclusive(self, world):
        rows = rows_of(world, before=START, after=START + 240_000)
        assert opened(rows) == newest_first(START + 60_000, START + 180_000)
        assert rows_of(world, before=START, after=START + 60_000) == []
        assert opened(rows_of(world, before=START - 1, after=START + 1)) == [START]

    def test_a_range_larger_than_the_page_keeps_the_newest(self, world):
        rows = rows_of(world, before=START - 1, after=START + 50 * 60_000, limit=10)
        assert opened(rows) == newest_first(START + 40 * 60_000, START + 49 * 60_000)

    def test_before_alone_gives_the_newest_there_are(self, world):
        assert opened(rows_of(world, before=START, limit=2)) == newest_first(NOW - 120_000, NOW - 60_000)

    def test_after_alone_gives_the_newest_older_than_it(self, world):
        assert opened(rows_of(world, after=START, limit=2)) == newest_first(START - 120_000, START - 60_000)

    @pytest.mark.parametrize("path", [CANDLES, HISTORY])
    def test_the_default_is_100_and_the_most_is_300(self, world, path):
        assert [len(rows_of(world, path, **limit)) for limit in ({}, {"limit": 300}, {"limit": 1_000})] == [
            100,
            300,
            300,
        ]

    def test_before_listing_is_empty_without_an_error(self, world):
        first = 1_515_669_120_000
        assert rows_of(world, before=0, after=first) == []
        assert opened(rows_of(world, before=0, after=first + 1)) == [first]

    def test_the_future_is_empty(self, world):
        assert rows_of(world, CANDLES, before=world.now_ms) == []


class TestTwoEndpoints:
    def test_candles_has_the_open_one_unconfirmed_and_history_only_finished_ones(self, world):
        newest = rows_of(world, CANDLES, limit=2)
        assert [(row[0], row[8]) for row in newest] == [(str(NOW), "0"), (str(NOW - 60_000), "1")]
        finished = rows_of(world, HISTORY, limit=1)
        assert finished == newest[1:]

    def test_the_open_one_grows_until_it_is_confirmed(self, world):
        early = rows_of(world, CANDLES, limit=1)[0]
        world.now_ms += 20_000
        late = rows_of(world, CANDLES, limit=1)[0]
        assert early[:2] == late[:2]
        assert float(early[5]) < float(late[5])
        world.now_ms = NOW + 60_000
        assert rows_of(world, CANDLES, limit=2)[1][8] == rows_of(world, HISTORY, limit=1)[0][8] == "1"

    @pytest.mark.parametrize(("bar", "length_ms"), [("1m", 60_000), ("1H", 3_600_000)])
    def test_candles_reaches_back_1440_of_any_size_and_no_further(self, world, bar, length_ms):
        newest = NOW - NOW % length_ms
        deepest = newest - 1_439 * length_ms
        assert opened(rows_of(world, CANDLES, bar=bar, after=deepest + 1)) == [deepest]
        assert rows_of(world, CANDLES, bar=bar, after=deepest) == []
        assert opened(rows_of(world, HISTORY, bar=bar, after=deepest, limit=1)) == [deepest - length_ms]

    def test_days_are_utc_days_under_their_utc_name_only(self, world):
        rows = rows_of(world, HISTORY, bar="1Dutc", limit=2)
        assert opened(rows) == [ms("2025-01-06T00:00Z"), ms("2025-01-05T00:00Z")]
        assert world.ask(HISTORY, instId="BTC-USDT", bar="1D").json()["code"] == "51000"


class TestShape:
    def test_a_row_is_nine_texts_without_trailing_zeros(self, world):
        (row,) = rows_of(world, after=START + 1, limit=1)
        assert len(row) == 9
        assert all(isinstance(value, str) for value in row)
        assert not any(value.endswith(("0", ".")) for value in row[1:8] if "." in value)
        assert row[6] == row[7]

    @pytest.mark.parametrize(
        ("bar", "length"), [("1m", 1), ("5m", 5), ("15m", 15), ("1H", 60), ("4H", 240), ("1Dutc", 1_440)]
    )
    def test_every_timeframe_has_its_length(self, world, bar, length):
        rows = rows_of(world, bar=bar, before=START - 1, after=START + 2 * length * 60_000)
        assert opened(rows) == [START + length * 60_000, START]

    def test_times_and_status(self, world):
        assert world.ask("/okx/api/v5/public/time").json() == {
            "code": "0",
            "msg": "",
            "data": [{"ts": str(world.now_ms)}],
        }
        assert world.ask("/okx/api/v5/system/status").json() == {"code": "0", "msg": "", "data": []}

    def test_spot_instruments_are_listed_and_no_others(self, world):
        path = "/okx/api/v5/public/instruments"
        listed = world.ask(path, instType="SPOT").json()["data"]
        assert [entry["instId"] for entry in listed] == ["BTC-USDT", "ETH-USDT", "SOL-USDT"]
        assert (listed[0]["tickSz"], listed[0]["lotSz"], listed[0]["state"]) == ("0.1", "0.00000001", "live")
        assert world.ask(path, instType="SWAP").json()["data"] == []
        assert [entry["instId"] for entry in world.ask(path, instType="SPOT", instId="ETH-USDT").json()["data"]] == [
            "ETH-USDT"
        ]
        assert world.ask(path, instType="SPOT", instId="X-USDT").json()["code"] == "51001"
        assert world.ask(path, instType="STOCK").json()["code"] == "51000"
        assert world.ask(path).json()["code"] == "50014"


class TestRefusals:
    @pytest.mark.parametrize("path", [CANDLES, HISTORY])
    @pytest.mark.parametrize(
        ("params", "code", "message"),
        [
            ({"instId": "XRP-USDT"}, "51001", "Instrument ID doesn't exist."),
            ({"instId": "BTCUSDT"}, "51001", "Instrument ID doesn't exist."),
            ({"instId": ""}, "50014", "Parameter instId can not be empty."),
            ({"bar": "7m"}, "51000", "Parameter bar error"),
            ({"bar": "1h"}, "51000", "Parameter bar error"),
            ({"after": "now"}, "51000", "Parameter after error"),
            ({"before": "-1"}, "51000", "Parameter before error"),
            ({"limit": "0"}, "51000", "Parameter limit error"),
        ],
    )
    def test_a_wrong_request_is_refused_with_status_400(self, world, path, params, code, message):
        response = world.ask(path, **{"instId": "BTC-USDT", **params})
        assert (response.status_code, response.json()) == (400, {"code": code, "msg": message, "data": []})


class TestQuota:
    @pytest.mark.parametrize(
        ("path", "limit", "length_s"),
        [
            (CANDLES, 40, 2),
            (HISTORY, 20, 2),
            ("/okx/api/v5/public/time", 10, 2),
            ("/okx/api/v5/system/status", 1, 5),
            ("/okx/api/v5/public/instruments", 20, 2),
        ],
    )
    def test_each_endpoint_has_its_own_window(self, world, path, limit, length_s):
        params = {"instId": "BTC-USDT", "instType": "SPOT"}
        assert [world.ask(path, **params).status_code for _ in range(limit + 1)] == [200] * limit + [429]
        refused = world.ask(path, **params)
        assert refused.json() == {"code": "50011", "msg": "Too Many Requests", "data": []}
        other = HISTORY if path != HISTORY else CANDLES
        assert world.ask(other, **params).status_code == 200
        assert world.ask(path, address="10.0.0.2", **params).status_code == 200
        world.real_s += length_s
        assert world.ask(path, **params).status_code == 200
