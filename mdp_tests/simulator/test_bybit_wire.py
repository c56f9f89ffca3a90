"""Bybit as its clients see it."""

from __future__ import annotations

import pytest

from mdp_tests.simulator.conftest import ms

KLINE = "/bybit/v5/market/kline"
GOOD = {"category": "spot", "symbol": "BTCUSDT", "interval": "1"}
START = ms("2024-12-30T00:00Z")


def kline(world, **params):
    response = world.ask(KLINE, **{**GOOD, **params})
    body = response.json()
    assert (response.status_code, body["retCode"], body["retMsg"]) == (200, 0, "OK")
    return body["result"]["list"]


def opened(rows):
    return [int(row[0]) for row in rows]


def newest_first(first_ms, last_ms, step_ms=60_000):
    return list(range(first_ms, last_ms + 1, step_ms))[::-1]


class TestBounds:
    def test_newest_first_with_both_bounds_inclusive(self, world):
        assert opened(kline(world, start=START, end=START + 180_000)) == newest_first(START, START + 180_000)

    def test_a_range_larger_than_the_page_keeps_the_newest(self, world):
        rows = kline(world, start=START, end=START + 50 * 60_000, limit=10)
        assert opened(rows) == newest_first(START + 41 * 60_000, START + 50 * 60_000)

    def test_a_start_alone_pages_forward(self, world):
        assert opened(kline(world, start=START, limit=3)) == newest_first(START, START + 120_000)

    def test_an_end_alone_keeps_the_newest_before_it(self, world):
        assert opened(kline(world, end=START + 59_999, limit=2)) == newest_first(START - 60_000, START)

    def test_without_bounds_the_newest_come_with_the_open_candle_first(self, world):
        now = ms("2025-01-07T12:00Z")
        assert opened(kline(world, limit=2)) == newest_first(now - 60_000, now)

    def test_a_start_off_the_grid_is_not_floored(self, world):
        assert opened(kline(world, start=START + 1, limit=1)) == [START + 60_000]

    def test_the_default_is_200_and_the_most_is_1000(self, world):
        assert [len(kline(world, start=START, **limit)) for limit in ({}, {"limit": 1_000}, {"limit": 2_000})] == [
            200,
            1_000,
            1_000,
        ]

    def test_before_listing_a_start_gives_the_first_candles_and_a_window_nothing(self, world):
        first = 1_625_486_400_000
        assert opened(kline(world, start=0, limit=2)) == [first + 60_000, first]
        assert kline(world, start=0, end=first - 1) == []

    def test_the_future_is_empty(self, world):
        assert kline(world, start=world.now_ms + 60_000) == []
        assert kline(world, start=START, end=START - 1) == []


class TestShape:
    def test_a_row_is_seven_texts_without_trailing_zeros(self, world):
        (row,) = kline(world, start=START, limit=1)
        assert len(row) == 7
        assert all(isinstance(value, str) for value in row)
        assert not any(value.endswith(("0", ".")) for value in row[1:] if "." in value)
        body = world.ask(KLINE, **GOOD, limit=1).json()
        assert list(body) == ["retCode", "retMsg", "result", "retExtInfo", "time"]
        assert body["time"] == world.now_ms
        assert (body["result"]["category"], body["result"]["symbol"]) == ("spot", "BTCUSDT")

    @pytest.mark.parametrize(
        ("interval", "length"), [("1", 1), ("5", 5), ("15", 15), ("60", 60), ("240", 240), ("D", 1_440)]
    )
    def test_every_timeframe_has_its_length(self, world, interval, length):
        assert opened(kline(world, interval=interval, start=START, limit=2)) == [START + length * 60_000, START]

    def test_the_open_candle_grows(self, world):
        early = kline(world, limit=1)[0]
        world.now_ms += 20_000
        late = kline(world, limit=1)[0]
        assert early[:2] == late[:2]
        assert float(early[5]) < float(late[5])

    def test_times_and_status(self, world):
        body = world.ask("/bybit/v5/market/time").json()
        assert body["result"] == {"timeSecond": str(world.now_ms // 1_000), "timeNano": str(world.now_ms * 1_000_000)}
        assert body["time"] == world.now_ms
        assert world.ask("/bybit/v5/system/status").json()["result"] == {"list": []}

    def test_spot_instruments_come_in_one_page_and_contracts_do_not_exist(self, world):
        result = world.ask("/bybit/v5/market/instruments-info", category="spot").json()["result"]
        assert [entry["symbol"] for entry in result["list"]] == ["BTCUSDT", "ETHUSDT", "SOLUSDT"]
        assert "nextPageCursor" not in result
        assert result["list"][0]["priceFilter"] == {"tickSize": "0.01"}
        assert result["list"][0]["lotSizeFilter"]["basePrecision"] == "0.000001"
        linear = world.ask("/bybit/v5/market/instruments-info", category="linear").json()["result"]
        assert linear == {"category": "linear", "list": [], "nextPageCursor": ""}
        one = world.ask("/bybit/v5/market/instruments-info", category="spot", symbol="SOLUSDT").json()["result"]["list"]
        assert [entry["symbol"] for entry in one] == ["SOLUSDT"]


class TestRefusals:
    @pytest.mark.parametrize(
        ("params", "message"),
        [
            ({"symbol": "XRPUSDT"}, "Not supported symbols"),
            ({"category": "linear"}, "Not supported symbols"),
            ({"category": "margin"}, "params error: Category is invalid"),
            ({"interval": "7"}, "Invalid period!"),
            ({"interval": "1m"}, "Invalid period!"),
            ({"limit": "0"}, "params error: limit invalid"),
            ({"limit": "many"}, "params error: limit invalid"),
            ({"start": "-1"}, "params error: start invalid"),
            ({"end": "²"}, "params error: end invalid"),
        ],
    )
    def test_a_wrong_request_is_10001_with_status_200(self, world, params, message):
        response = world.ask(KLINE, **{**GOOD, **params})
        expected = {"retCode": 10001, "retMsg": message, "result": {}, "retExtInfo": {}, "time": world.now_ms}
        assert (response.status_code, response.json()) == (200, expected)

    def test_without_a_category_a_contract_is_meant(self, world):
        assert world.ask(KLINE, symbol="BTCUSDT", interval="1").json()["retMsg"] == "Not supported symbols"


class TestQuota:
    def test_headers_tell_what_is_left(self, world):
        headers = [world.ask(path, **GOOD).headers for path in (KLINE, "/bybit/v5/market/time")]
        assert [entry["X-Bapi-Limit"] for entry in headers] == ["600", "600"]
        assert [entry["X-Bapi-Limit-Status"] for entry in headers] == ["599", "598"]
        assert headers[0]["X-Bapi-Limit-Reset-Timestamp"] == str(world.now_ms)

    def test_the_601st_request_in_five_seconds_shuts_the_door_for_ten_minutes(self, world):
        for _ in range(599):
            world.simulation.quotas.bybit.take("127.0.0.1")
        assert world.ask(KLINE, **GOOD).status_code == 200
        refused = world.ask(KLINE, **GOOD)
        assert (refused.status_code, refused.text) == (403, "403, access too frequent")
        assert refused.headers["Content-Type"].startswith("text/plain")
        assert refused.headers["X-Bapi-Limit-Status"] == "0"
        assert refused.headers["X-Bapi-Limit-Reset-Timestamp"] == str(world.now_ms + 600_000)
        world.real_s += 599
        assert world.ask("/bybit/v5/market/time").status_code == 403
        assert world.ask(KLINE, address="10.0.0.2", **GOOD).status_code == 200
        world.real_s += 1
        assert world.ask(KLINE, **GOOD).status_code == 200
