"""Controlling the simulator over HTTP: faults, request log, quotas, lines, clock."""

from __future__ import annotations

import pytest

from mdp_tests.simulator.conftest import ms

TIME = "/binance/api/v3/time"


def control(world, what, method="GET", status=200, **kwargs):
    response = world.ask(f"/control/{what}", method=method, **kwargs)
    assert response.status_code == status, response.text
    return response.json()


class TestFaults:
    def test_a_fault_is_added_shown_and_removed(self, world):
        fault = {"kind": "status", "exchange": "binance", "status": 503, "times": 1}
        assert control(world, "faults", "POST", json=fault) == {"ids": [1]}
        assert [world.ask(TIME).status_code for _ in range(2)] == [503, 200]
        assert control(world, "faults") == {"faults": [{"id": 1, "fault": fault, "seen": 2, "applied": 1}]}
        assert control(world, "faults/1", "DELETE") == {"faults": []}

    def test_several_come_together_or_not_at_all(self, world):
        good = {"kind": "reset", "exchange": "okx"}
        refused = control(world, "faults", "POST", 400, json=[good, {"kind": "reset"}])
        assert refused["field"] == "faults[1].exchange"
        assert control(world, "faults") == {"faults": []}
        assert control(world, "faults", "POST", json=[good, good]) == {"ids": [1, 2]}
        assert control(world, "faults", "DELETE") == {"faults": []}

    def test_times_are_shown_as_they_can_be_sent_again(self, world):
        fault = {"kind": "outage", "exchange": "okx", "start": "2024-12-30T00:00:00Z", "end": "2024-12-31T00:00:00Z"}
        control(world, "faults", "POST", json=fault)
        assert control(world, "faults")["faults"][0]["fault"] == fault

    @pytest.mark.parametrize(("what", "field"), [("faults/9", "id"), ("faults/x", "id")])
    def test_an_unknown_number_is_refused(self, world, what, field):
        assert control(world, what, "DELETE", 400)["field"] == field

    def test_only_this_machine_may_control(self, world):
        assert "this machine" in control(world, "faults", status=403, address="10.0.0.2")["error"]
        assert control(world, "faults", address="::1") == {"faults": []}


class TestRequests:
    def test_every_request_is_written_down_with_its_answer(self, world):
        world.faults.add(kind="code", exchange="okx", code=50011)
        world.ask(TIME)
        world.ask("/okx/api/v5/market/candles", instId="BTC-USDT")
        world.ask("/binance/api/v3/klines", symbol="XRPUSDT", interval="1m")
        world.ask("/healthz")
        log = control(world, "requests")
        assert (log["total"], log["by_status"], log["last"]) == (3, {"200": 1, "429": 1, "400": 1}, 3)
        time, candles, klines = log["requests"]
        assert (time["method"], time["path"], time["query"], time["status"]) == ("GET", TIME, "", 200)
        assert (time["client"], time["exchange"], time["quota_left"]) == ("127.0.0.1:1", "binance", 5_999)
        assert time["size"] == len(f'{{"serverTime":{world.now_ms}}}')
        assert (candles["faults"], candles["query"]) == (["1:code"], "instId=BTC-USDT")
        assert (klines["status"], klines["faults"], klines["quota_left"]) == (400, [], 5_997)

    def test_it_can_be_read_on_from_a_number_by_exchange_and_begun_anew(self, world):
        for path in (TIME, "/okx/api/v5/public/time", TIME):
            world.ask(path)
        assert [entry["number"] for entry in control(world, "requests", since="1")["requests"]] == [2, 3]
        binance = control(world, "requests", exchange="binance")
        assert (binance["total"], [entry["number"] for entry in binance["requests"]]) == (2, [1, 3])
        assert control(world, "requests", status=400, exchange="kraken")["field"] == "exchange"
        assert control(world, "requests", status=400, since="yesterday")["field"] == "since"
        assert control(world, "requests", "DELETE") == {"total": 0, "last": 3}
        world.ask(TIME)
        log = control(world, "requests")
        assert (log["total"], log["last"]) == (1, 4)


class TestQuotas:
    def test_every_quota_tells_its_use(self, world):
        world.ask("/binance/api/v3/exchangeInfo")
        for _ in range(21):
            world.ask("/okx/api/v5/market/history-candles", instId="BTC-USDT")
        quotas = control(world, "quotas")
        weight = quotas["binance"]["REQUEST_WEIGHT"]
        assert weight["clients"]["127.0.0.1"] == {"used": 20, "highest": 20, "asked": 1, "refused": 0}
        assert quotas["binance"]["RAW_REQUESTS"]["clients"]["127.0.0.1"]["used"] == 1
        history = quotas["okx"]["market/history-candles"]
        assert (history["limit"], history["clients"]["127.0.0.1"]["refused"]) == (20, 1)
        assert history["clients"]["127.0.0.1"]["highest"] == 20
        assert set(quotas) == {"binance", "bybit", "okx", "deribit"}

    def test_raw_requests_are_limited_too(self, world):
        world.simulation.quotas.binance_raw.take("127.0.0.1", 300_000)
        refused = world.ask(TIME)
        assert (refused.status_code, refused.json()["code"]) == (429, -1003)
        assert "current limit is 300000 raw requests per 5 MINUTE" in refused.json()["msg"]


class TestSettings:
    def test_lines_are_set_for_one_or_all(self, world):
        body = {"lines": {"okx": {"bandwidth_mbit": 10}, "all": {"latency_ms": 0.5, "jitter_ms": 0.5}}}
        lines = control(world, "settings", "POST", json=body)["lines"]
        assert lines["okx"] == {"bandwidth_mbit": 10.0}
        assert lines["binance"] == lines["deribit"] == {"latency_ms": 0.5, "jitter_ms": 0.5}
        assert world.ask(TIME).status_code == 200
        assert control(world, "requests")["requests"][0]["took_ms"] >= 0.4

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({}, "body"),
            ({"latency_ms": 5}, "body"),
            ({"lines": 5}, "lines"),
            ({"lines": {"kraken": {}}}, "lines.kraken"),
            ({"lines": {"okx": {"latency_ms": -1}}}, "lines.okx.latency_ms"),
            ({"now": "2025-01-08"}, "now"),
        ],
    )
    def test_a_wrong_setting_is_refused_by_name(self, world, body, field):
        assert control(world, "settings", "POST", 400, json=body)["field"] == field

    def test_what_is_no_json_is_said(self, world):
        assert control(world, "settings", "POST", 400)["field"] == "body"

    def test_the_time_is_told(self, world):
        assert control(world, "settings")["now"] == "2025-01-07T12:00:30Z"
        assert world.now_ms == ms("2025-01-07T12:00:30Z")
