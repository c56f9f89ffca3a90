"""Binance as its clients see it."""

from __future__ import annotations

import pytest

from mdp_tests.simulator.conftest import ms

KLINES = "/binance/api/v3/klines"


def klines(world, interval="1m", symbol="BTCUSDT", **params):
    response = world.ask(KLINES, symbol=symbol, interval=interval, **params)
    assert response.status_code == 200, response.text
    return response.json()


def opened(rows):
    return [row[0] for row in rows]


def minutes(first, last):
    return list(range(ms(first), ms(last) + 1, 60_000))


class TestBounds:
    def test_oldest_first_with_both_bounds_inclusive(self, world):
        rows = klines(world, startTime=ms("2024-12-30T00:00Z"), endTime=ms("2024-12-30T00:03Z"))
        assert opened(rows) == minutes("2024-12-30T00:00Z", "2024-12-30T00:03Z")

    def test_bounds_are_compared_with_the_open_time(self, world):
        start = ms("2024-12-30T00:00Z")
        assert opened(klines(world, startTime=start + 1, endTime=start + 119_999)) == [start + 60_000]
        assert opened(klines(world, startTime=start, endTime=start)) == [start]
        assert klines(world, startTime=start + 1, endTime=start + 59_999) == []

    def test_a_range_larger_than_the_page_keeps_the_oldest(self, world):
        start, end = ms("2024-12-30T00:00Z"), ms("2024-12-31T00:00Z")
        assert opened(klines(world, startTime=start, endTime=end, limit=5)) == minutes(
            "2024-12-30T00:00Z", "2024-12-30T00:04Z"
        )

    def test_without_a_start_the_newest_up_to_the_end_are_kept(self, world):
        rows = klines(world, endTime=ms("2024-12-30T00:03Z") + 5, limit=2)
        assert opened(rows) == minutes("2024-12-30T00:02Z", "2024-12-30T00:03Z")

    def test_without_bounds_the_newest_come_with_the_open_candle(self, world):
        assert opened(klines(world, limit=3)) == minutes("2025-01-07T11:58Z", "2025-01-07T12:00Z")

    def test_the_default_is_500_and_the_most_is_1000(self, world):
        start = ms("2024-12-30T00:00Z")
        assert [len(klines(world, startTime=start, **limit)) for limit in ({}, {"limit": 1_000}, {"limit": 1_500})] == [
            500,
            1_000,
            1_000,
        ]

    def test_before_listing_come_the_first_candles_there_are(self, world):
        assert opened(klines(world, startTime=0, limit=2)) == [1_502_942_400_000, 1_502_942_460_000]
        assert klines(world, startTime=0, endTime=1_502_942_399_999) == []

    def test_the_future_is_empty(self, world):
        assert klines(world, startTime=world.now_ms + 60_000) == []
        assert klines(world, startTime=10**20 - 1) == []
        assert klines(world, startTime=ms("2024-12-30T00:05Z"), endTime=ms("2024-12-30T00:00Z")) == []

    def test_a_page_skips_an_outage(self, world):
        rows = klines(world, startTime=ms("2021-04-25T04:00Z"), limit=2)
        assert opened(rows) == [ms("2021-04-25T04:00Z"), ms("2021-04-25T08:45Z")]

    def test_bounds_may_be_microseconds(self, world):
        start = ms("2024-12-30T00:00Z")
        rows = klines(world, startTime=start * 1_000, endTime=(start + 60_000) * 1_000)
        assert opened(rows) == [start, start + 60_000]
        assert opened(klines(world, startTime=start * 1_000 + 1, limit=1)) == [start + 60_000]


class TestShape:
    def test_a_row_is_the_recorded_row(self, world):
        start = ms("2025-01-01T00:00Z")  # recorded in microseconds
        row = [
            start, "93576.00000000", "93610.93000000", "93537.50000000", "93610.93000000", "8.21827000",
            start + 59_999, "768978.75522470", 2_631, "3.95157000", "369757.32652890", "0",
        ]  # fmt: skip
        assert klines(world, startTime=start, limit=1) == [row]

    def test_microseconds_come_on_request(self, world):
        start = ms("2025-01-01T00:00Z")
        params = {"symbol": "BTCUSDT", "interval": "1m", "startTime": start, "limit": 1}
        row = world.ask(KLINES, headers={"X-MBX-TIME-UNIT": "MICROSECOND"}, **params).json()[0]
        assert (row[0], row[6]) == (start * 1_000, start * 1_000 + 59_999_999)
        assert world.ask("/binance/api/v3/time", headers={"X-MBX-TIME-UNIT": "microsecond"}).json() == {
            "serverTime": world.now_ms * 1_000
        }

    @pytest.mark.parametrize(
        ("interval", "length"), [("1m", 1), ("5m", 5), ("15m", 15), ("1h", 60), ("4h", 240), ("1d", 1_440)]
    )
    def test_every_timeframe_has_its_length(self, world, interval, length):
        rows = klines(world, interval, startTime=ms("2024-12-30T00:00Z"), limit=2)
        assert opened(rows) == [ms("2024-12-30T00:00Z"), ms("2024-12-30T00:00Z") + length * 60_000]
        assert rows[0][6] == rows[1][0] - 1

    def test_the_open_candle_grows_and_has_no_flag(self, world):
        early = klines(world, limit=1)[0]
        world.now_ms += 20_000
        late = klines(world, limit=1)[0]
        assert early[:2] == late[:2]
        assert float(early[5]) < float(late[5])
        assert len(late) == 12
        world.now_ms += 10_000
        assert klines(world, limit=2)[0][:2] == early[:2]
        assert len(klines(world, limit=2)) == 2

    @pytest.mark.parametrize(("interval", "length"), [("1m", 60_000), ("1h", 3_600_000), ("1d", 86_400_000)])
    def test_the_open_candle_says_when_it_will_close(self, world, interval, length):
        row = klines(world, interval, limit=1)[0]
        assert (row[0], row[6]) == (
            world.now_ms - world.now_ms % length,
            world.now_ms - world.now_ms % length + length - 1,
        )

    def test_where_rows_come_from_is_said(self, world):
        start = {"recorded": "2024-12-30T00:00Z", "generated": "2024-12-20T00:00Z"}
        for origin, text in start.items():
            response = world.ask(KLINES, symbol="BTCUSDT", interval="1m", startTime=ms(text), limit=1)
            assert response.headers["X-Simulator-Data"] == origin

    def test_times_and_status(self, world):
        assert world.ask("/binance/api/v3/ping").json() == {}
        assert world.ask("/binance/api/v3/time").json() == {"serverTime": world.now_ms}
        assert world.ask("/binance/sapi/v1/system/status").json() == {"status": 0, "msg": "normal"}

    def test_exchange_info_lists_the_markets(self, world):
        info = world.ask("/binance/api/v3/exchangeInfo").json()
        assert [symbol["symbol"] for symbol in info["symbols"]] == ["BTCUSDT", "ETHUSDT", "SOLUSDT"]
        assert info["serverTime"] == world.now_ms
        assert info["rateLimits"][0] == {
            "rateLimitType": "REQUEST_WEIGHT",
            "interval": "MINUTE",
            "intervalNum": 1,
            "limit": 6_000,
        }
        filters = {entry["filterType"]: entry for entry in info["symbols"][0]["filters"]}
        assert (filters["PRICE_FILTER"]["tickSize"], filters["LOT_SIZE"]["stepSize"]) == ("0.01000000", "0.00001000")

    def test_exchange_info_of_some_markets(self, world):
        one = world.ask("/binance/api/v3/exchangeInfo", symbol="ETHUSDT").json()["symbols"]
        two = world.ask("/binance/api/v3/exchangeInfo", symbols='["SOLUSDT","BTCUSDT"]').json()["symbols"]
        assert [entry["symbol"] for entry in (*one, *two)] == ["ETHUSDT", "SOLUSDT", "BTCUSDT"]


GOOD = {"symbol": "BTCUSDT", "interval": "1m"}


class TestRefusals:
    @pytest.mark.parametrize(
        ("params", "code", "message"),
        [
            ({"symbol": "XRPUSDT"}, -1121, "Invalid symbol."),
            (
                {"symbol": "btcusdt"},
                -1100,
                "Illegal characters found in parameter 'symbol'; legal range is '^[A-Z0-9-_.]{1,20}$'.",
            ),
            ({"symbol": None}, -1102, "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed."),
            ({"interval": None}, -1102, "Mandatory parameter 'interval' was not sent, was empty/null, or malformed."),
            ({"interval": "7m"}, -1120, "Invalid interval."),
            (
                {"startTime": "yesterday"},
                -1100,
                "Illegal characters found in parameter 'startTime'; legal range is '^[0-9]{1,20}$'.",
            ),
            (
                {"endTime": "-5"},
                -1100,
                "Illegal characters found in parameter 'endTime'; legal range is '^[0-9]{1,20}$'.",
            ),
            ({"limit": "1.5"}, -1100, "Illegal characters found in parameter 'limit'; legal range is '^[0-9]{1,20}$'."),
            ({"startTime": ""}, -1105, "Parameter 'startTime' was empty."),
            ({"limit": "0"}, -1130, "Data sent for parameter 'limit' is not valid."),
            ({"timeZone": "8"}, -1130, "Data sent for parameter 'timeZone' is not valid."),
            ({"since": "5"}, -1104, "Not all sent parameters were read; read '2' parameter(s) but was sent '3'."),
        ],
    )
    def test_a_wrong_request_is_refused_with_the_exchange_s_words(self, world, params, code, message):
        sent = {name: value for name, value in {**GOOD, **params}.items() if value is not None}
        response = world.ask(KLINES, **sent)
        assert (response.status_code, response.json()) == (400, {"code": code, "msg": message})

    def test_utc_may_be_said(self, world):
        for zone in ("0", "00:00", "+0", "-00:00"):
            assert world.ask(KLINES, **GOOD, timeZone=zone).status_code == 200

    @pytest.mark.parametrize(
        ("name", "value", "code"),
        [("symbol", "XRPUSDT", -1121), ("symbols", "BTCUSDT", -1100), ("symbols", "[]", -1100), ("what", "1", -1104)],
    )
    def test_exchange_info_refuses_what_it_does_not_know(self, world, name, value, code):
        response = world.ask("/binance/api/v3/exchangeInfo", **{name: value})
        assert (response.status_code, response.json()["code"]) == (400, code)


class TestQuota:
    def test_every_answer_tells_the_weight_used_in_this_minute(self, world):
        weights = [world.ask(f"/binance/api/v3/{path}").headers for path in ("ping", "time", "exchangeInfo", "klines")]
        assert [headers["X-MBX-USED-WEIGHT-1M"] for headers in weights] == ["1", "2", "22", "24"]
        assert [headers["X-MBX-USED-WEIGHT"] for headers in weights] == ["1", "2", "22", "24"]
        world.real_s += 60
        assert world.ask(KLINES, **GOOD).headers["X-MBX-USED-WEIGHT-1M"] == "2"

    def test_too_much_is_429_and_going_on_is_418(self, world):
        world.simulation.quotas.binance.take("127.0.0.1", 5_998)
        assert world.ask(KLINES, **GOOD).status_code == 200
        refused = world.ask(KLINES, **GOOD)
        assert (refused.status_code, refused.json()["code"]) == (429, -1003)
        assert "current limit is 6000 request weight per 1 MINUTE" in refused.json()["msg"]
        assert refused.headers["Retry-After"] == "20"  # the clock stands 40 s into its minute
        for _ in range(9):
            assert world.ask(KLINES, **GOOD).status_code == 429
        banned = world.ask(KLINES, **GOOD)
        assert (banned.status_code, banned.headers["Retry-After"]) == (418, "120")
        assert f"IP banned until {world.now_ms + 120_000}." in banned.json()["msg"]
        assert world.ask(KLINES, address="10.0.0.2", **GOOD).status_code == 200

    def test_a_refused_request_costs_its_weight_too(self, world):
        assert world.ask(KLINES, symbol="XRPUSDT", interval="1m").headers["X-MBX-USED-WEIGHT-1M"] == "2"
