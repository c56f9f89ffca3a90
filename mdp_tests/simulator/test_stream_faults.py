"""What scripted faults do to streams, by a raw client."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

import aiohttp
import pytest

from mdp.domain.market import Market
from mdp.errors import InputError
from mdp.simulator.clock import SimulatedClock, to_ms
from mdp.simulator.script import FaultScript
from mdp.simulator.streams.bybit import BybitSpeech
from mdp.simulator.streams.hub import Hub
from mdp.simulator.threaded import running_in_thread
from mdp.simulator.truth import true_minutes
from mdp_tests.simulator.stream_client import PATHS, SPOT, connected, read_candle, run, subscription

EXCHANGES = tuple(PATHS)
COIN = "BTC"
MINUTE_MS = 60_000


@pytest.fixture(scope="module")
def running(shared_simulation):
    """A minute lasts a fifth of a second."""
    with running_in_thread(shared_simulation, now="2025-06-01T00:00Z", speed=300, stream_rate=40) as simulator:
        yield simulator


@pytest.fixture
def simulator(running):
    yield running
    running.faults.clear()


def watch(simulator, exchange, closes, coin=COIN):
    """Every candle message up to the one that closes a minute for the ``closes``-th time."""

    async def talk():
        async with connected(simulator.url, exchange, coin) as client:
            return await client.closes(closes)

    return run(talk())


class TestScript:
    @pytest.mark.parametrize(
        ("fields", "field"),
        [
            ({"kind": "stream_notice", "exchange": "bybit"}, "exchange"),
            ({"kind": "stream_shutdown", "exchange": "okx"}, "exchange"),
            ({"kind": "stream_close", "exchange": "okx", "code": 200}, "code"),
            ({"kind": "stream_rejected", "exchange": "okx", "form": "loud"}, "form"),
            ({"kind": "stream_slow", "exchange": "okx", "by_s": 0}, "by_s"),
            ({"kind": "stream_missing_minutes", "exchange": "okx", "start": "2025-01-02", "end": "2025-01-01"}, "end"),
        ],
    )
    def test_a_wrong_field_is_refused_by_name(self, fields, field):
        script = FaultScript()
        with pytest.raises(InputError, match=f"^{field}: expected"):
            script.add(**fields)
        assert script.entries == ()

    def test_faults_of_streams_leave_answers_alone_and_the_other_way_round(self, world):
        world.faults.add(kind="stream_close", exchange="binance")
        world.faults.add(kind="stream_refused", exchange="binance")
        assert world.ask("/binance/api/v3/time").status_code == 200
        assert [entry.seen for entry in world.faults.entries] == [0, 0]


class TestConnections:
    @pytest.mark.parametrize("exchange", EXCHANGES)
    def test_a_close_has_its_code_and_hits_as_many_connections_as_it_says(self, simulator, exchange):
        simulator.faults.add(kind="stream_close", exchange=exchange, code=1012, reason="again", times=1)

        async def talk():
            async with connected(simulator.url, exchange, COIN) as client:
                await client.text()
                message = await client.receive()
                assert message.type is aiohttp.WSMsgType.CLOSE
                assert (message.data, message.extra) == (1012, "again")
            async with connected(simulator.url, exchange, COIN) as client:
                assert await client.candles(5)

        run(talk())

    @pytest.mark.parametrize(
        ("fields", "words"), [({"kind": "stream_abort"}, "reset"), ({"kind": "stream_close", "code": 1006}, "")]
    )
    def test_a_connection_can_end_without_a_frame(self, simulator, fields, words):
        simulator.faults.add(exchange="binance", times=1, **fields)

        async def talk():
            async with connected(simulator.url, "binance", COIN) as client:
                await client.text()
                return await client.receive()

        message = run(talk())
        assert message.type in (aiohttp.WSMsgType.ERROR, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSE)
        assert message.data in (None, 1006) or words in str(message.data)

    @pytest.mark.slow
    @pytest.mark.parametrize("exchange", EXCHANGES)
    def test_a_silent_connection_still_answers_pings(self, simulator, exchange):
        simulator.faults.add(kind="stream_silence", exchange=exchange, times=1)
        ping = {
            "bybit": ('{"op":"ping"}', "pong"),
            "okx": ("ping", "pong"),
            "deribit": ('{"jsonrpc":"2.0","id":1,"method":"public/test"}', "version"),
        }

        async def talk():
            async with connected(simulator.url, exchange, COIN) as client:
                await client.text()
                assert await client.hears_nothing(0.3)
                if exchange == "binance":
                    before = (await states())["received"]
                    await client.socket.ping(b"x")
                    assert before == 1
                else:
                    await client.send(ping[exchange][0])
                    assert ping[exchange][1] in await client.text()
            async with connected(simulator.url, exchange, COIN) as client:
                assert await client.candles(1)

        async def states():
            return next(one for one in simulator.streams()["open"] if one["state"] == "silent")

        run(talk())

    @pytest.mark.slow
    def test_silence_of_one_symbol_leaves_the_others_and_ends(self, simulator):
        simulator.faults.add(kind="stream_silence", exchange="okx", symbol="ETH-USDT", for_s=180, times=1)

        async def talk():
            async with connected(simulator.url, "okx", "BTC", "ETH") as client:
                return await client.closes(12)

        seen = run(talk())
        closed = {
            coin: [one.open_ms for one in seen if one.is_closed and one.symbol == coin] for coin in ("BTC", "ETH")
        }
        missing = sorted(set(closed["BTC"][:-1]) - set(closed["ETH"]))
        assert 2 <= len(missing) <= 4
        assert max(closed["ETH"]) > missing[-1]

    @pytest.mark.slow
    @pytest.mark.parametrize("exchange", EXCHANGES)
    def test_a_half_open_connection_neither_speaks_nor_listens_and_stays(self, simulator, exchange):
        simulator.faults.add(kind="stream_half_open", exchange=exchange, times=1)

        async def talk():
            async with connected(simulator.url, exchange, COIN) as client:
                await client.text()
                assert await client.hears_nothing(0.3)
                with suppress(ConnectionError):
                    await client.socket.ping(b"are you there")
                    await client.send("ping")
                assert await client.hears_nothing(0.5)
                (own,) = [one for one in simulator.streams()["open"] if one["state"] == "half_open"]
                assert own["received"] == 1
                return own["id"]

        number = run(talk())
        until_s = time.monotonic() + 10  # nobody reads there: that the client left is noticed by the way
        while number in [one["id"] for one in simulator.streams()["open"]]:
            assert time.monotonic() < until_s
            time.sleep(0.05)

    @pytest.mark.slow
    def test_a_half_open_connection_is_reset_in_the_end(self, simulator):
        simulator.faults.add(kind="stream_half_open", exchange="bybit", times=1, for_s=0.3)

        async def talk():
            async with connected(simulator.url, "bybit", COIN) as client:
                await client.text()
                begun = time.monotonic()
                message = await client.receive()
                assert message.type is not aiohttp.WSMsgType.TEXT
                return time.monotonic() - begun

        assert run(talk()) >= 0.25

    @pytest.mark.parametrize("exchange", EXCHANGES)
    def test_a_handshake_is_refused_with_a_status(self, simulator, exchange):
        simulator.faults.add(kind="stream_refused", exchange=exchange, status=429, retry_after_s=3, times=1)

        async def talk():
            async with connected(simulator.url, exchange):
                pass

        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            run(talk())
        assert refused.value.status == 429
        assert refused.value.headers["Retry-After"] == "3"
        assert simulator.requests(exchange)[-1].faults[0].endswith(":stream_refused")
        run(talk())

    @pytest.mark.slow
    def test_okx_gives_notice_and_goes_on_until_it_closes(self, simulator):
        simulator.faults.add(kind="stream_notice", exchange="okx", times=1, grace_s=0.3)

        async def talk():
            async with connected(simulator.url, "okx", COIN) as client:
                await client.text()
                notice = await client.answer()
                assert (notice["event"], notice["code"]) == ("notice", "64008")
                assert await client.candles(2)
                while (message := await client.receive()).type is aiohttp.WSMsgType.TEXT:
                    pass
                return message.type

        assert run(talk()) is aiohttp.WSMsgType.CLOSE

    def test_binance_announces_its_shutdown(self, simulator):
        simulator.faults.add(kind="stream_shutdown", exchange="binance", times=1, grace_s=0.05)

        async def talk():
            async with connected(simulator.url, "binance", COIN) as client:
                await client.text()
                event = await client.answer()
                while (message := await client.receive()).type is aiohttp.WSMsgType.TEXT:
                    pass
                return event, message.data

        event, code = run(talk())
        assert event.keys() == {"e", "E"}
        assert (event["e"], code) == ("serverShutdown", 1001)


class TestSubscriptions:
    @pytest.mark.slow
    @pytest.mark.parametrize("exchange", EXCHANGES)
    @pytest.mark.parametrize("form", ["error", "bare", "absent"])
    def test_a_refusal_takes_each_form(self, simulator, exchange, form):
        symbol = "BTC-DVOL" if exchange == "deribit" else "BTC-USDT"
        simulator.faults.add(kind="stream_rejected", exchange=exchange, symbol=symbol, form=form, times=1)

        async def talk():
            async with connected(simulator.url, exchange) as client:
                request = json.loads(subscription(exchange, COIN))
                await client.send(json.dumps(request | ({"id": 5} if exchange == "okx" else {})))
                return await client.answer(1), await client.hears_nothing(0.05)

        answer, is_quiet = run(talk())
        assert is_quiet, "nothing is pushed"
        is_error = {
            "binance": "error" in answer or "code" in answer,
            "bybit": answer.get("success") is False,
            "okx": answer.get("event") == "error",
            "deribit": "error" in answer,
        }[exchange]
        assert is_error == (form != "absent")
        named = "req_id" if exchange == "bybit" else "id"
        assert (named in answer) == (form != "bare" or exchange == "deribit")
        if exchange == "deribit" and form == "absent":
            assert answer["result"] == []

    @pytest.mark.slow
    @pytest.mark.parametrize("exchange", EXCHANGES)
    def test_a_subscription_gets_no_answer_at_all(self, simulator, exchange):
        simulator.faults.add(kind="stream_rejected", exchange=exchange, form="ignored", times=1)

        async def talk():
            async with connected(simulator.url, exchange, COIN) as client:
                assert await client.hears_nothing(0.05)
            async with connected(simulator.url, exchange, COIN) as client:
                assert await client.candles(1)

        run(talk())


class TestMessages:
    @pytest.mark.slow
    @pytest.mark.parametrize("exchange", SPOT)
    def test_a_close_comes_twice(self, simulator, exchange):
        simulator.faults.add(kind="stream_duplicate_close", exchange=exchange)
        first, second = [one for one in watch(simulator, exchange, 2) if one.is_closed]
        assert first == second

    @pytest.mark.slow
    @pytest.mark.parametrize("exchange", SPOT)
    def test_a_close_comes_after_the_first_messages_of_the_next_minute(self, simulator, exchange):
        simulator.faults.add(kind="stream_late_close", exchange=exchange, by_s=30, times=1)
        seen = watch(simulator, exchange, 2)
        late = next(one.open_ms for one in seen if one.is_closed)
        place = next(i for i, one in enumerate(seen) if one.is_closed)
        before = [one.open_ms for one in seen[:place]]
        assert before.count(late + MINUTE_MS) >= 2

    @pytest.mark.slow
    @pytest.mark.parametrize("exchange", SPOT)
    def test_a_close_never_comes(self, simulator, exchange):
        simulator.faults.add(kind="stream_missing_close", exchange=exchange, every=2)
        seen = watch(simulator, exchange, 2)
        closed = [one.open_ms for one in seen if one.is_closed]
        assert closed[1] - closed[0] == 2 * MINUTE_MS
        assert closed[0] + MINUTE_MS in {one.open_ms for one in seen}, "its open minute was told"

    @pytest.mark.slow
    def test_nothing_comes_of_some_minutes_though_rest_has_them(self, simulator):
        now_ms = simulator.simulation.clock()
        first = now_ms - now_ms % MINUTE_MS + 2 * MINUTE_MS
        start, end = (time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at / 1e3)) for at in (first, first + 120_000))
        simulator.faults.add(kind="stream_missing_minutes", exchange="bybit", start=start, end=end)
        seen = {one.open_ms for one in watch(simulator, "bybit", 4)}
        assert seen.isdisjoint({first, first + MINUTE_MS})
        assert {first - MINUTE_MS, first + 2 * MINUTE_MS} <= seen
        rows = true_minutes(simulator.simulation, Market.parse("bybit:BTC-USDT"), first, first + 120_000)
        assert [row[0] for row in rows] == [first, first + MINUTE_MS]

    @pytest.mark.slow
    def test_a_message_comes_after_the_one_that_should_follow_it(self, simulator):
        simulator.faults.add(kind="stream_out_of_order", exchange="binance", every=3)
        times = [one.event_ms for one in watch(simulator, "binance", 3)]
        assert times != sorted(times)
        assert len(set(times)) == len(times), "none is lost, none is made up"

    def test_a_message_is_cut(self, simulator):
        simulator.faults.add(kind="stream_garbled", exchange="okx", times=1, share=0.7)

        async def talk():
            async with connected(simulator.url, "okx", COIN) as client:
                await client.text()
                return await client.text(), await client.candles(1)

        cut, after = run(talk())
        assert cut.startswith('{"arg"')
        with pytest.raises(json.JSONDecodeError):
            json.loads(cut)
        assert after

    @pytest.mark.slow
    def test_messages_come_late_and_in_order(self, simulator):
        simulator.faults.add(kind="stream_slow", exchange="bybit", by_s=30)

        async def talk():
            late = []
            async with connected(simulator.url, "bybit", COIN) as client:
                while len(late) < 12:
                    seen = read_candle("bybit", await client.text())
                    late += [(seen.event_ms, simulator.simulation.clock())] if seen else []
            return late

        late = run(talk())
        assert all(heard - said >= 29_900 for said, heard in late)
        assert [said for said, _ in late] == sorted(said for said, _ in late)


@pytest.mark.slow
@pytest.mark.parametrize(("channel", "is_changed"), [("stream", True), ("rest", False), (None, True)])
def test_a_revision_closes_a_minute_with_other_amounts_where_it_is_told_to_streams(simulator, channel, is_changed):
    simulator.faults.add(kind="revision", exchange="bybit", channel=channel, volume_factor=0.5)
    closed = [one for one in watch(simulator, "bybit", 2) if one.is_closed]
    first, last = closed[0].open_ms, closed[-1].open_ms
    rows = true_minutes(simulator.simulation, Market.parse("bybit:BTC-USDT"), first, last + 1)
    assert [one.values[4] != row[5] for one, row in zip(closed, rows, strict=True)] == [is_changed] * 2


class Hurried(SimulatedClock):
    """Each look at it costs eleven simulated seconds, as on a machine that has no time for the simulator."""

    looks = 0

    def __call__(self):
        self.looks += 1
        return to_ms(datetime(2025, 6, 1, tzinfo=UTC)) + 11_000 * self.looks


class Listener:
    """What the pump needs of a connection."""

    is_frozen = is_wrapped = False
    is_open = True

    def __init__(self):
        self.heard = []

    def is_silent(self, symbol, now_ms):
        return False

    def write(self, frame):
        self.heard.append(read_candle("bybit", frame[frame.index(b"{") :].decode()))


def test_no_minute_stays_unclosed_when_the_simulator_is_late(shared_simulation):
    async def listen():
        clock, listener = Hurried(datetime(2025, 6, 1, tzinfo=UTC)), Listener()
        hub = Hub(replace(shared_simulation, clock=clock, faults=FaultScript()), clock)
        hub.pump.join(BybitSpeech(hub), "BTCUSDT", "BTC-USDT", listener)
        for _ in range(60):
            hub.pump._fire()
        return listener.heard

    closed = [one.open_ms for one in run(listen()) if one.is_closed]
    assert len(closed) > 10
    assert closed == list(range(closed[0], closed[-1] + 1, MINUTE_MS))


@pytest.mark.slow
def test_each_exchange_has_its_own_patience_in_real_seconds(simulator):
    async def okx():
        async with connected(simulator.url, "okx") as client:
            begun = time.monotonic()
            message = await client.receive(40)
            return message.data, time.monotonic() - begun

    async def binance():
        async with connected(simulator.url, "binance", autoping=False) as client:
            ping = await client.receive(25)
            await client.socket.pong(ping.data)
            simulator.set_now("2025-06-03T00:00Z")  # the connection is more than a day old
            return ping.type, ping.data.isdigit(), (await client.receive(5)).data

    async def deribit():
        async with connected(simulator.url, "deribit") as client:
            await client.send('{"jsonrpc":"2.0","id":1,"method":"public/set_heartbeat","params":{"interval":10}}')
            assert (await client.answer())["result"] == "ok"
            kinds = [json.loads(await client.text(13))["params"]["type"] for _ in range(2)]
            return kinds, (await client.receive(13)).type

    async def all_of_them():
        return await asyncio.gather(okx(), binance(), deribit())

    (code, took_s), of_binance, of_deribit = run(all_of_them())
    assert code == 4004, "nothing was said for half a minute"
    assert took_s >= 29
    assert of_binance == (aiohttp.WSMsgType.PING, True, 1001)
    assert of_deribit == (["heartbeat", "test_request"], aiohttp.WSMsgType.CLOSE), "the test was not answered"


@pytest.mark.slow
def test_many_clients_share_one_message(simulator):
    async def talk():
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one()) for _ in range(20)]
        return [task.result() for task in tasks]

    async def one():
        async with connected(simulator.url, "bybit", COIN) as client:
            return [seen for seen in await client.closes(3) if seen.is_closed]

    closed = [{seen.open_ms: seen for seen in seen} for seen in run(talk())]
    shared = set.intersection(*(set(one) for one in closed))
    assert shared
    for open_ms in shared:
        assert len({one[open_ms] for one in closed}) == 1
