"""Streams on the wire, by a raw client: handshakes, answers, shapes, values, limits."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import datetime
from itertools import pairwise

import aiohttp
import pytest

from mdp.domain.market import Market
from mdp.domain.timeframe import Timeframe
from mdp.simulator.clock import to_ms
from mdp.simulator.markets import SIMULATED_INDICES, find_market
from mdp.simulator.threaded import running_in_thread
from mdp.simulator.truth import true_minutes
from mdp_tests.simulator.stream_client import SPOT, connected, read_candle, run, subscription

MINUTE_MS = 60_000
START = "2025-06-01T00:00Z"  # generated days; the clock is far from midnight in every test


@pytest.fixture(scope="module")
def running(shared_simulation):
    """A minute lasts a tenth of a second."""
    with running_in_thread(shared_simulation, now=START, speed=600, stream_rate=40) as simulator:
        yield simulator


@pytest.fixture
def simulator(running):
    yield running
    running.faults.clear()


def truth(simulator, exchange, coin, first_ms, last_ms):
    market = Market.parse(f"{exchange}:{coin}-USDT")
    rows = true_minutes(simulator.simulation, market, first_ms, last_ms + 1)
    return {open_ms: tuple(values) for open_ms, *values in rows}


class TestShapes:
    def test_binance_says_its_klines_as_documented(self, simulator):
        async def talk():
            async with connected(simulator.url, "binance", "BTC") as client:
                assert json.loads(await client.text()) == {"result": None, "id": 1}
                return json.loads(await client.text())

        said = run(talk())
        assert list(said) == ["e", "E", "s", "k"]
        assert (said["e"], said["s"]) == ("kline", "BTCUSDT")
        k = said["k"]
        assert "".join(k) == "tTsifLochlvnxqVQB"
        assert (k["T"], k["i"]) == (k["t"] + 59_999, "1m")
        assert k["t"] <= said["E"]
        assert k["L"] - k["f"] + 1 == k["n"]
        assert all(len(k[name].partition(".")[2]) == 8 for name in "ochlvqVQ")

    def test_bybit_says_its_klines_as_documented(self, simulator):
        async def talk():
            async with connected(simulator.url, "bybit", "BTC") as client:
                return json.loads(await client.text()), json.loads(await client.text())

        answer, said = run(talk())
        assert answer.pop("conn_id")
        assert answer == {"success": True, "ret_msg": "subscribe", "req_id": 7, "op": "subscribe"}
        assert list(said) == ["topic", "type", "ts", "data"]
        assert (said["topic"], said["type"]) == ("kline.1.BTCUSDT", "snapshot")
        names = [
            "start",
            "end",
            "interval",
            "open",
            "close",
            "high",
            "low",
            "volume",
            "turnover",
            "confirm",
            "timestamp",
        ]
        assert list(said["data"][0]) == names
        assert said["data"][0]["end"] == said["data"][0]["start"] + 59_999
        assert isinstance(said["data"][0]["close"], str)

    def test_okx_says_its_candles_as_documented(self, simulator):
        async def talk():
            async with connected(simulator.url, "okx", "BTC") as client:
                return json.loads(await client.text()), json.loads(await client.text())

        answer, said = run(talk())
        argument = {"channel": "candle1m", "instId": "BTC-USDT"}
        assert answer.pop("connId")
        assert answer == {"event": "subscribe", "arg": argument}
        assert said["arg"] == argument
        (row,) = said["data"]
        assert len(row) == 9
        assert all(isinstance(value, str) for value in row)
        assert row[6] == row[7]
        assert row[8] in "01"

    def test_deribit_lists_what_it_accepted_and_sends_ticks(self, simulator):
        async def talk():
            async with connected(simulator.url, "deribit", "BTC", "SOL") as client:
                return json.loads(await client.text()), json.loads(await client.text())

        answer, said = run(talk())
        assert answer["result"] == ["deribit_volatility_index.btc_usd"]
        assert (answer["id"], answer["jsonrpc"]) == (3, "2.0")
        assert said["method"] == "subscription"
        data = said["params"]["data"]
        assert said["params"]["channel"] == "deribit_volatility_index.btc_usd"
        assert sorted(data) == ["index_name", "timestamp", "volatility"]
        assert data["timestamp"] % 1_000 == 0

    def test_binance_names_the_stream_where_it_is_asked_to(self, simulator):
        async def talk():
            async with connected(simulator.url, "binance", path="/stream?streams=btcusdt@kline_1m") as client:
                return json.loads(await client.text())

        said = run(talk())
        assert said["stream"] == "btcusdt@kline_1m"
        assert said["data"]["s"] == "BTCUSDT"

    def test_binance_subscribes_to_what_the_path_names(self, simulator):
        async def talk():
            async with connected(simulator.url, "binance", path="/ws/ethusdt@kline_1m") as client:
                return json.loads(await client.text())

        assert run(talk())["s"] == "ETHUSDT"


class TestValues:
    @pytest.mark.parametrize("exchange", SPOT)
    def test_closed_minutes_are_the_truth_and_come_once_each_before_the_next_one(self, simulator, exchange):
        async def watch():
            async with connected(simulator.url, exchange, "BTC", "SOL") as client:
                return await client.closes(5)

        seen = run(watch())
        for coin in ("BTC", "SOL"):
            own = [one for one in seen if one.symbol == coin]
            assert [one.open_ms for one in own] == sorted(one.open_ms for one in own)
            closed = [one.open_ms for one in own if one.is_closed]
            assert closed == list(range(closed[0], closed[-1] + 1, MINUTE_MS))
            true = truth(simulator, exchange, coin, closed[0], closed[-1])
            for one in own:
                if one.is_closed:
                    assert one.values == true[one.open_ms][:6]
                    assert one.trades in (None, true[one.open_ms][6])
            # after a close, what comes is of a later minute
            for before, after in pairwise(own):
                assert after.open_ms == before.open_ms + MINUTE_MS * before.is_closed

    @pytest.mark.slow
    @pytest.mark.parametrize("exchange", ["binance", "bybit"])
    def test_an_open_minute_is_what_rest_shows_at_the_same_moment(self, simulator, exchange):
        async def watch():
            async with connected(simulator.url, exchange, "ETH") as client:
                return [one for one in await client.closes(2) if not one.is_closed]

        history = simulator.simulation.history
        market = find_market(Market.parse(f"{exchange}:ETH-USDT"))
        seen = run(watch())
        assert seen
        for one in seen:
            (now,) = history.open_candle(market, Timeframe.M1, one.event_ms).values.T.tolist()
            assert (one.open_ms, *one.values) == (now[0], *(value / 1e8 for value in now[2:8]))

    @pytest.mark.slow
    def test_ticks_are_the_closes_of_the_seconds(self, simulator):
        async def watch():
            async with connected(simulator.url, "deribit", "BTC", "ETH") as client:
                return await client.candles(8)

        for one in run(watch()):
            index = SIMULATED_INDICES[one.symbol]
            seconds = simulator.simulation.volatility.candles(
                index, 1_000, one.open_ms, one.open_ms, one.open_ms + MINUTE_MS
            )
            assert one.values == (seconds[4, 0] / 100,)

    @pytest.mark.slow
    def test_a_minute_of_an_outage_is_never_mentioned(self, simulator):
        now_ms = simulator.simulation.clock()
        first = now_ms - now_ms % MINUTE_MS + 2 * MINUTE_MS
        start, end = (time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at / 1e3)) for at in (first, first + 120_000))
        simulator.faults.add(kind="outage", exchange="okx", symbol="BTC-USDT", start=start, end=end)

        async def watch():
            async with connected(simulator.url, "okx", "BTC", "ETH") as client:
                return await client.closes(10)

        seen = run(watch())
        minutes = {coin: {one.open_ms for one in seen if one.symbol == coin} for coin in ("BTC", "ETH")}
        assert {first, first + MINUTE_MS} <= minutes["ETH"]
        assert minutes["BTC"].isdisjoint({first, first + MINUTE_MS})
        assert first + 2 * MINUTE_MS in minutes["BTC"]
        true = truth(simulator, "okx", "BTC", first - MINUTE_MS, first + 2 * MINUTE_MS)
        assert sorted(true) == [first - MINUTE_MS, first + 2 * MINUTE_MS]

    @pytest.mark.slow
    def test_bybit_does_not_repeat_itself_while_nothing_is_traded(self, simulator):
        now_ms = simulator.simulation.clock()
        start, end = (
            time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime((now_ms + at) / 1e3)) for at in (-600_000, 3_600_000)
        )
        simulator.faults.add(kind="flat", exchange="bybit", symbol="SOL-USDT", start=start, end=end)

        async def watch():
            async with connected(simulator.url, "bybit", "SOL", "BTC") as client:
                return await client.closes(8)

        flat = [one for one in run(watch()) if one.symbol == "SOL"]
        assert all(one.values[4:] == (0, 0) and len(set(one.values[:4])) == 1 for one in flat)
        per_minute = [sum(one.open_ms == open_ms for one in flat) for open_ms in {one.open_ms for one in flat}]
        assert max(per_minute) == 2, "one when it opens, one that closes it"

    @pytest.mark.slow
    def test_a_subscriber_twice_over_is_told_once(self, simulator):
        async def watch():
            async with connected(simulator.url, "okx", "BTC") as client:
                await client.send(subscription("okx", "BTC"))
                return await client.closes(4)

        seen = run(watch())
        closed = [one.open_ms for one in seen if one.is_closed]
        assert len(closed) == len(set(closed))

    @pytest.mark.slow
    def test_who_unsubscribes_hears_no_more(self, simulator):
        async def watch():
            async with connected(simulator.url, "binance", "BTC") as client:
                await client.candles(1)
                await client.send('{"method":"UNSUBSCRIBE","params":["btcusdt@kline_1m"],"id":9}')
                assert await client.answer() == {"result": None, "id": 9}
                await client.send('{"method":"LIST_SUBSCRIPTIONS","id":10}')
                assert json.loads(await client.text()) == {"result": [], "id": 10}
                return await client.hears_nothing(0.15)

        assert run(watch())

    @pytest.mark.slow
    def test_it_goes_on_from_where_the_clock_is_set(self, simulator):
        async def watch():
            async with connected(simulator.url, "binance", "BTC") as client:
                await client.candles(2)
                simulator.set_now("2025-09-01T12:00:30Z")
                return await client.closes(2)

        seen = run(watch())
        later = [one for one in seen if one.open_ms >= to_ms_of("2025-09-01T12:00Z")]
        assert later[0].open_ms == to_ms_of("2025-09-01T12:00Z"), "nothing is made up for"
        assert sum(one.is_closed for one in later) >= 1


def to_ms_of(text):
    return to_ms(datetime.fromisoformat(text))


class TestRefusals:
    @pytest.mark.parametrize(
        ("exchange", "asked", "expected"),
        [
            ("binance", "{not json", {"error": {"code": 3, "msg": "Invalid JSON: expected value at line 1 column 1"}}),
            ("binance", '{"method":"JUMP","id":4}', {"id": 4}),
            ("bybit", subscription("bybit", "DOGE"), {"success": False, "req_id": 7, "op": "subscribe"}),
            ("bybit", subscription("bybit", *["BTC"] * 11), {"success": False, "ret_msg": "args size >10"}),
            ("okx", subscription("okx", "DOGE"), {"event": "error", "code": "60018"}),
            ("okx", "hello", {"event": "error", "code": "60012"}),
            ("deribit", subscription("deribit", "SOL"), {"result": []}),
            ("deribit", '{"jsonrpc":"2.0","id":1,"method":"public/jump"}', {"id": 1}),
        ],
    )
    def test_a_wrong_request_is_answered_in_the_exchanges_own_way(self, simulator, exchange, asked, expected):
        async def talk():
            async with connected(simulator.url, exchange) as client:
                await client.send(asked)
                return json.loads(await client.text())

        answer = run(talk())
        assert answer.items() >= expected.items()
        assert "error" in answer or answer.get("success") is False or answer.keys() & {"event", "result"}

    def test_okx_has_no_candles_on_its_public_path(self, simulator):
        async def talk():
            async with connected(simulator.url, "okx", "BTC", path="/ws/v5/public") as client:
                return await client.answer()

        assert run(talk())["code"] == "60018"

    @pytest.mark.parametrize(
        ("exchange", "asked", "expected"),
        [
            ("bybit", '{"req_id":"a","op":"ping"}', {"success": True, "ret_msg": "pong", "op": "ping", "req_id": "a"}),
            ("deribit", '{"jsonrpc":"2.0","id":8,"method":"public/test"}', {"id": 8, "result": {"version": "1.2.26"}}),
        ],
    )
    def test_a_ping_in_the_exchanges_words_is_answered(self, simulator, exchange, asked, expected):
        async def talk():
            async with connected(simulator.url, exchange) as client:
                await client.send(asked)
                return json.loads(await client.text())

        assert run(talk()).items() >= expected.items()

    def test_okx_answers_the_text_ping(self, simulator):
        async def talk():
            async with connected(simulator.url, "okx") as client:
                await client.send("ping")
                return await client.text()

        assert run(talk()) == "pong"

    @pytest.mark.parametrize(
        ("exchange", "path", "status"),
        [("bybit", "/v5/public/linear", 404), ("okx", "/ws", 404), ("kraken", "/ws", 404)],
    )
    def test_a_wrong_path_is_refused(self, simulator, exchange, path, status):
        async def talk():
            async with connected(simulator.url, exchange, path=path):
                pass

        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            run(talk())
        assert refused.value.status == status

    def test_okx_takes_three_connections_a_second_from_one_address(self, simulator):
        async def talk():
            headers = {"X-Forwarded-For": "10.1.2.3"}
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(status(simulator, headers)) for _ in range(5)]
            return sorted(task.result() for task in tasks)

        async def status(simulator, headers):
            try:
                async with connected(simulator.url, "okx", headers=headers):
                    return 101
            except aiohttp.WSServerHandshakeError as refused:
                return refused.status

        assert run(talk()) == [101, 101, 101, 429, 429]

    def test_binance_ends_a_connection_with_more_than_five_messages_a_second(self, simulator):
        async def talk():
            async with connected(simulator.url, "binance") as client:
                for number in range(6):
                    await client.send(f'{{"method":"LIST_SUBSCRIPTIONS","id":{number}}}')
                messages = [await client.receive() for _ in range(6)]
                return messages[-1]

        message = run(talk())
        assert message.type is aiohttp.WSMsgType.CLOSE
        assert message.data == 1008


class TestControl:
    def test_it_says_who_is_connected_and_who_was(self, simulator):
        async def talk():
            async with connected(simulator.url, "bybit", "BTC") as client:
                await client.candles(3)
                return simulator.streams()["open"]

        (own,) = [one for one in run(talk()) if one["exchange"] == "bybit"]
        assert own["topics"] == ["kline.1.BTCUSDT"]
        assert own["path"] == "/v5/public/spot"
        assert own["sent"] >= 4
        assert own["received"] == 1
        assert own["state"] == "open"
        until_s = time.monotonic() + 5
        while own["id"] in [one["id"] for one in simulator.streams()["open"]]:
            assert time.monotonic() < until_s
            time.sleep(0.005)
        assert own["id"] in [one["id"] for one in simulator.streams()["ended"]]

    def test_handshakes_are_in_the_request_log(self, simulator):
        since = simulator.simulation.requests.last

        async def talk():
            async with connected(simulator.url, "deribit", path="/ws/api/v2?x=1"):
                pass

        run(talk())
        (logged,) = simulator.requests("deribit", since=since)
        assert (logged.status, logged.path, logged.query) == (101, "/deribit/ws/api/v2", "x=1")


def test_a_message_that_is_no_candle_is_not_taken_for_one():
    for exchange in SPOT:
        assert read_candle(exchange, '{"event":"subscribe"}') is None
