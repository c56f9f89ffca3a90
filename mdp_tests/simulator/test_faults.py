"""Scripted faults: matched with requests, and seen on the wire by a client of the exchange."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime

import pytest

from mdp.domain.market import Exchange
from mdp.errors import InputError
from mdp.simulator.error_answers import KNOWN_CODES
from mdp.simulator.scenarios import CARRIED_SCENARIOS, load_scenario
from mdp.simulator.script import FaultScript
from mdp_tests.simulator.conftest import ms

START = ms("2024-12-30T00:00Z")
PAGES = {
    "binance": ("/binance/api/v3/klines", {"symbol": "BTCUSDT", "interval": "1m", "startTime": START, "limit": 40}),
    "bybit": (
        "/bybit/v5/market/kline",
        {"category": "spot", "symbol": "BTCUSDT", "interval": "1", "start": START, "limit": 40},
    ),
    "okx": (
        "/okx/api/v5/market/history-candles",
        {"instId": "BTC-USDT", "bar": "1m", "before": START - 1, "after": START + 40 * 60_000, "limit": 100},
    ),
    "deribit": (
        "/deribit/api/v2/public/get_volatility_index_data",
        {
            "currency": "BTC",
            "resolution": "3600",
            "start_timestamp": START,
            "end_timestamp": START + 39 * 3_600_000,
        },
    ),
}
"""A page of forty candles of each exchange."""

EXCHANGES = tuple(PAGES)


def ask(world, exchange, **kwargs):
    path, params = PAGES[exchange]
    return world.ask(path, **params, **kwargs)


def rows(exchange, response):
    body = response.json()
    return {
        "binance": lambda: body,
        "bybit": lambda: body["result"]["list"],
        "okx": lambda: body["data"],
        "deribit": lambda: body["result"]["data"],
    }[exchange]()


def opened(exchange, response):
    return [int(row[0]) for row in rows(exchange, response)]


class TestMatching:
    def statuses(self, world, count=6, exchange="binance"):
        return [ask(world, exchange).status_code for _ in range(count)]

    def test_every_second_request_at_most_twice(self, world):
        world.faults.add(kind="status", exchange="binance", status=503, every=2, times=2)
        assert self.statuses(world) == [200, 503, 200, 503, 200, 200]
        (entry,) = world.faults.entries
        assert (entry.seen, entry.applied) == (6, 2)

    def test_chance_is_the_same_each_time(self):
        def struck(seed):
            script = FaultScript(lambda: 0.0)
            script.add(kind="reset", exchange="okx", probability=0.5, seed=seed)
            return [script.choose(asked(), _ALL) is not None for _ in range(64)]

        assert struck(1) == struck(1) != struck(2)
        assert 16 < sum(struck(1)) < 48

    def test_only_the_path_the_symbol_the_channel_and_the_exchange_that_are_meant(self, world):
        world.faults.add(kind="status", exchange="okx", path="*/history-*", symbol="BTC-USDT", status=503)
        world.faults.add(kind="status", exchange="binance", channel="archive", status=503)
        assert ask(world, "okx").status_code == 503
        assert world.ask("/okx/api/v5/public/time").status_code == 200
        path, params = PAGES["okx"]
        assert world.ask(path, **{**params, "instId": "ETH-USDT"}).status_code == 200
        assert ask(world, "binance").status_code == 200

    def test_real_seconds_count_from_when_it_was_scripted(self, world):
        world.faults.add(kind="status", exchange="binance", status=503, after_s=10, until_s=20)
        seen = []
        for real_s in (9.9, 10.0, 19.9, 20.0):
            world.real_s = 1_000_000_000.0 + real_s
            seen += self.statuses(world, 1)
        assert seen == [200, 503, 503, 200]

    def test_simulated_times_bound_it_too(self, world):
        world.faults.add(
            kind="status",
            exchange="binance",
            status=503,
            from_time="2025-01-07T13:00Z",
            until_time=datetime(2025, 1, 7, 14, tzinfo=UTC),
        )
        times = ("2025-01-07T12:59:59Z", "2025-01-07T13:00:00Z", "2025-01-07T13:59:59Z", "2025-01-07T14:00:00Z")
        assert [ask(world.at(time), "binance").status_code for time in times] == [200, 503, 503, 200]

    def test_a_removed_fault_is_gone(self, world):
        number = world.faults.add(kind="status", exchange="binance", status=503)
        world.faults.remove(number)
        assert self.statuses(world, 1) == [200]
        with pytest.raises(InputError, match="id: expected the number of a scripted fault"):
            world.faults.remove(number)

    def test_a_refusal_of_the_exchange_s_own_is_not_spoiled(self, world):
        world.faults.add(kind="html_200", exchange="binance", times=1)
        world.simulation.quotas.binance.take("127.0.0.1", 6_000)
        assert ask(world, "binance").status_code == 429
        world.real_s += 60
        assert [ask(world, "binance").headers["content-type"] for _ in range(2)] == ["text/html", "application/json"]


class TestAnswers:
    @pytest.mark.parametrize("exchange", EXCHANGES)
    def test_every_known_code_comes_as_the_exchange_says_it(self, world, exchange):
        for code, (status, message) in KNOWN_CODES[Exchange(exchange)].items():
            world.faults.add(kind="code", exchange=exchange, code=code, times=1)
            response = ask(world, exchange)
            body = response.json()
            assert response.status_code == status
            said = body.get("error", body)
            found = said.get("code", said.get("retCode")), said.get("msg", said.get("retMsg", said.get("message")))
            assert (int(found[0]), found[1]) == (code, message)
        assert ask(world, exchange).status_code == 200

    @pytest.mark.parametrize(
        ("fields", "media_type", "words"),
        [
            ({"exchange": "binance", "status": 429, "retry_after_s": 7}, "application/json", b"-1003"),
            ({"exchange": "binance", "status": 418, "retry_after_s": 120}, "application/json", b"IP banned until"),
            ({"exchange": "binance", "status": 403}, "text/html", b"403 Forbidden"),
            ({"exchange": "binance", "status": 451}, "application/json", b"restricted location"),
            ({"exchange": "binance", "status": 503}, "text/html", b"Unavailable"),
            ({"exchange": "binance", "status": 504, "body": "json"}, "application/json", b"-1007"),
            ({"exchange": "bybit", "status": 403}, "text/plain", b"403, access too frequent"),
            ({"exchange": "bybit", "status": 403, "body": "geo"}, "text/html", b"block access from your country"),
            ({"exchange": "bybit", "status": 429, "body": "empty"}, "text/plain", b""),
            ({"exchange": "okx", "status": 429, "body": "html"}, "text/html", b"429"),
            ({"exchange": "okx", "status": 429}, "application/json", b"50011"),
            ({"exchange": "deribit", "status": 429, "body": "text"}, "text/plain", b"Too Many Requests"),
            ({"exchange": "deribit", "status": 500, "body": "json"}, "application/json", b"11051"),
        ],
    )
    def test_a_status_comes_with_the_body_that_goes_with_it(self, world, fields, media_type, words):
        world.faults.add(kind="status", **fields)
        response = ask(world, fields["exchange"])
        assert response.status_code == fields["status"]
        assert response.headers["content-type"] == media_type
        assert words in response.content
        assert response.headers.get("Retry-After") == (
            str(fields["retry_after_s"]) if "retry_after_s" in fields else None
        )

    def test_an_exchange_counts_what_it_fails_at_but_not_what_is_blocked_before_it(self, world):
        world.faults.add(kind="status", exchange="binance", status=503, times=1)
        world.faults.add(kind="status", exchange="binance", status=451, times=1)
        weights = [ask(world, "binance").headers.get("X-MBX-USED-WEIGHT-1M") for _ in range(3)]
        assert weights == ["2", None, "4"]

    def test_10006_says_when_to_come_back(self, world):
        world.faults.add(kind="code", exchange="bybit", code=10006, reset_s=3)
        response = ask(world, "bybit")
        assert (response.status_code, response.json()["retCode"]) == (200, 10006)
        assert response.headers["X-Bapi-Limit-Status"] == "0"
        assert response.headers["X-Bapi-Limit-Reset-Timestamp"] == str(world.now_ms + 3_000)

    def test_50011_comes_with_either_status(self, world):
        world.faults.add(kind="code", exchange="okx", code=50011, status=200, times=1)
        world.faults.add(kind="code", exchange="okx", code=50011, times=1)
        assert [(r.status_code, r.json()["code"]) for r in (ask(world, "okx"), ask(world, "okx"))] == [
            (200, "50011"),
            (429, "50011"),
        ]

    @pytest.mark.parametrize("encoding", ["gzip", "identity"])
    def test_bodies_that_are_no_answer(self, world, encoding):
        headers = {"Accept-Encoding": encoding}
        whole = ask(world, "binance", headers=headers).content
        found = {}
        for kind in ("html_200", "empty_body", "json_object", "cut_json"):
            world.faults.add(kind=kind, exchange="binance", times=1)
            response = ask(world, "binance", headers=headers)
            assert response.status_code == 200
            found[kind] = response.content
        assert found["html_200"].startswith(b"<!DOCTYPE html>")
        assert found["empty_body"] == b""
        assert isinstance(json.loads(found["json_object"]), dict)
        assert found["cut_json"] == whole[: len(whole) // 2]
        assert ask(world, "binance", headers=headers).content == whole

    def test_bulk_files_are_cut_and_their_checksums_are_of_others(self, world):
        path = "/binance-archive/data/spot/daily/klines/BTCUSDT/1m/BTCUSDT-1m-2025-01-05.zip"
        file, checksum = world.ask(path).content, world.ask(f"{path}.CHECKSUM").text
        assert checksum.split()[0] == hashlib.sha256(file).hexdigest()
        for kind in ("archive_checksum", "archive_cut"):
            world.faults.add(kind=kind, exchange="binance", symbol="BTC-USDT", times=1)
        assert len(ask(world, "binance").json()) == 40
        assert world.ask(path).content == file[: len(file) // 2]
        wrong = world.ask(f"{path}.CHECKSUM").text
        assert (len(wrong), wrong.split()[1]) == (len(checksum), checksum.split()[1])
        assert wrong != checksum
        assert (world.ask(path).content, world.ask(f"{path}.CHECKSUM").text) == (file, checksum)

    @pytest.mark.parametrize("kind", ["reset", "cut_transfer"])
    def test_a_client_without_a_connection_sees_its_end_all_the_same(self, world, kind):
        world.faults.add(kind=kind, exchange="binance", times=1)
        with pytest.raises(ConnectionResetError):
            ask(world, "binance")
        assert ask(world, "binance").status_code == 200


class TestPages:
    @pytest.mark.parametrize("exchange", EXCHANGES)
    def test_rows_come_otherwise_than_they_should(self, world, exchange):
        right = opened(exchange, ask(world, exchange))
        assert len(right) == 40

        def spoiled(kind, **fields):
            world.faults.add(kind=kind, exchange=exchange, times=1, **fields)
            return opened(exchange, ask(world, exchange))

        assert spoiled("empty_page") == []
        mixed = spoiled("wrong_order")
        assert mixed != right
        assert sorted(mixed) == sorted(right)
        assert spoiled("duplicate_rows", rows=2) == right[:21] + right[19:]
        assert spoiled("missing_rows", rows=4) == right[:18] + right[22:]
        assert spoiled("off_grid", rows=1, by_ms=500) == [*right[:19], right[19] + 500, *right[20:]]
        assert opened(exchange, ask(world, exchange)) == right

    def test_microseconds_go_off_the_grid_as_far_as_milliseconds(self, world):
        world.faults.add(kind="off_grid", exchange="binance", rows=40)
        times = opened("binance", ask(world, "binance", headers={"X-MBX-TIME-UNIT": "MICROSECOND"}))
        assert {time % 60_000_000 for time in times} == {14_800_000}

    @pytest.mark.parametrize("exchange", ["binance", "bybit"])
    def test_for_a_while_after_the_close_the_newest_row_is_still_the_old_one(self, world, exchange):
        path, params = PAGES[exchange]
        params = {name: value for name, value in params.items() if name not in ("startTime", "start", "limit")}
        world.faults.add(kind="rest_lag", exchange=exchange, lag_s=5)
        newest = []
        for second in ("00", "04", "05"):
            world.at(f"2025-01-07T12:00:{second}Z")
            newest.append(max(opened(exchange, world.ask(path, **params, limit=2))))
        old, new = ms("2025-01-07T11:59Z"), ms("2025-01-07T12:00Z")
        assert newest == [old, old, new]
        (entry,) = world.faults.entries
        assert entry.applied == 2

    def test_faults_of_one_answer_add_up(self, world):
        world.faults.add(kind="missing_rows", exchange="binance", rows=10)
        world.faults.add(kind="duplicate_rows", exchange="binance", rows=1)
        world.faults.add(kind="cut_json", exchange="binance", share=0.9)
        response = ask(world, "binance")
        assert response.content.count(b'"],') < 31
        (logged,) = world.simulation.requests.since()
        assert logged.faults == ("1:missing_rows", "2:duplicate_rows", "3:cut_json")


def asked():
    from mdp.simulator.script import Asked

    return Asked(Exchange.OKX, "rest", "/api/v5/public/time", None, 0)


_ALL = tuple({type(entry) for path in CARRIED_SCENARIOS.glob("*.toml") for entry in load_scenario(path.stem).faults})
