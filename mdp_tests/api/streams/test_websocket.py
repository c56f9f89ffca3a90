"""A WebSocket answers what it is asked, refuses in words, and says goodbye."""

from __future__ import annotations

import json

import pytest
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect

from mdp.api.app import create_app
from mdp.api.callers import Scope
from mdp.api.key_file import create_key, revoke_key, utc_now
from mdp.config.settings import load_settings
from mdp.reading.following import Update
from mdp_tests.api.live_service import forget, live_buffer, put

URL = "ws://127.0.0.1:8000/api/v1/stream"
TOPIC, OTHER = "candles.binance.BTC-USDT.1m", "candles.binance.ETH-USDT.1m"


@pytest.fixture
def socket(client):
    with client.websocket_connect(URL) as opened:
        yield Asked(opened)
    forget(client)


class Asked:
    def __init__(self, opened):
        self._opened = opened

    def ask(self, **ask):
        self._opened.send_text(json.dumps(ask))
        return self.hear()

    def say(self, text):
        self._opened.send_text(text)
        return self.hear()

    def say_bytes(self, data):
        self._opened.send_bytes(data)

    def hear(self):
        return json.loads(self._opened.receive_text())


def hear(client, buffer, reason="changed"):
    """Have the mirror of a service hear of the newest candle, inside its loop as always."""
    around = client.app.state.surroundings
    update = Update(buffer.market, buffer.timeframe, buffer.candles[-1], buffer, reason)
    client.portal.call(around.mirror._take, update)


def test_a_subscription_is_answered_then_the_buffer_comes_as_its_route_spells_it(client, socket):
    put(client, live_buffer())
    answer = socket.ask(op="subscribe", topics=[TOPIC, OTHER], id=7)
    assert answer == {
        "type": "subscribed", "topics": [TOPIC, OTHER], "heartbeat_s": 15.0, "waiting": [OTHER], "id": 7,
    }  # fmt: skip
    told = socket.hear()
    assert (told.pop("type"), told.pop("topic")) == ("snapshot", TOPIC)
    assert told == client.get("/api/v1/market-data/binance/BTC-USDT/buffer/1m").json()
    assert client.app.state.surroundings.measures.streams_open == 1


def test_a_change_comes_as_it_happens_and_no_more_after_unsubscribing(client, socket):
    hear(client, live_buffer(), "read")
    assert TOPIC in socket.ask(op="subscribe", topics=["candles.*.BTC-USDT.1m"])["topics"]
    assert socket.hear()["type"] == "snapshot"
    hear(client, live_buffer(seq=8))
    told = socket.hear()
    assert (told["type"], told["seq"], told["close"], told["exchange"]) == ("candle", 8, 200.1, "binance")
    assert TOPIC in socket.ask(op="unsubscribe", topics=["candles.*.BTC-USDT.1m"], id="x")["topics"]
    hear(client, live_buffer(seq=9))
    assert socket.ask(op="ping", id="y")["id"] == "y"


def test_who_says_what_it_knows_gets_what_changed_and_hears_that_it_is_so(client, socket):
    assert client.app.state.surroundings.hub.mark, "it listens from now on"
    hear(client, live_buffer(seq=20), "read")
    hear(client, live_buffer(seq=21))
    hear(client, live_buffer(seq=22))
    answer = socket.ask(op="subscribe", topics=[TOPIC], since={TOPIC: 21})
    assert answer["resumed"] == [TOPIC]
    told = socket.hear()
    assert (told["type"], told["seq"], told["close"]) == ("candle", 22, 200.1)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "truncated"),
        ("[]", "Expected `object`"),
        ('{"op": "jump"}', "Invalid enum value 'jump'"),
        ('{"op": "subscribe"}', "expected at least one"),
        ('{"op": "subscribe", "topics": "candles"}', "Expected `array`"),
        ('{"op": "subscribe", "topics": ["x"], "sinse": {}}', "sinse"),
        ('{"op": "subscribe", "topics": ["x"], "since": {"x": -1}}', ">= 0"),
        (json.dumps({"op": "subscribe", "topics": ["x"] * 201}), "<= 200"),
        (json.dumps({"op": "subscribe", "topics": ["x" * 201]}), "<= 200"),
        ('{"op": "ping", "id": "' + "x" * 65 + '"}', "<= 64"),
        ('{"op": "ping", "more": ' + "[" * 30_000 + "]" * 30_000 + "}", "expected JSON"),
        ('{"op": "ping", "id": "' + "x" * 65_536 + '"}', "at most 65536 bytes"),
        ('{"op": "ping", "id": "\\ud800"}', "expected JSON"),
    ],
)
def test_what_is_wrong_is_said_and_the_connection_goes_on(socket, text, says):
    told = socket.say(text)
    assert told["type"] == "error"
    assert says in told["detail"]
    assert socket.ask(op="ping")["type"] == "pong"


@pytest.mark.parametrize(
    "topic",
    [
        "candles.binance.DOGE-USDT.1m", "candles.binance.BTC-USDT.2m", "candles.binance.BTC-USDT", "feeds.kraken",
        "generation.../x", "generation.", "*", "", "candles.*.*.*.*", "candles.BINANCE.BTC-USDT.1m", "candles.b*.*.1m",
    ],
)  # fmt: skip
def test_a_topic_that_is_none_is_named_with_what_there_is_and_the_others_count(client, socket, topic):
    told = socket.ask(op="subscribe", topics=[topic, OTHER], id=1)
    assert (told["type"], told["topic"], told["id"]) == ("error", topic, 1)
    assert {"candles.binance.BTC-USDT.*", "feeds.binance", "generation.*"} <= set(told["allowed"])
    assert socket.hear()["topics"] == [OTHER]


def test_bytes_are_refused(socket):
    socket.say_bytes(b'{"op":"ping"}')
    with pytest.raises(WebSocketDisconnect) as closed:
        socket.hear()
    assert closed.value.code == 1003


def test_who_says_too_much_is_shown_the_door(socket):
    def ask_on():
        for _ in range(300):
            assert socket.ask(op="ping")["type"] == "pong"

    with pytest.raises(WebSocketDisconnect) as closed:
        ask_on()
    assert closed.value.code == 1008


@pytest.fixture
def small(tmp_path):
    """A service that has room for two streams and speaks often."""
    settings = load_settings(data_dir=tmp_path, simulated=True, api={"max_streams": 2, "heartbeat_s": 0.2})
    with TestClient(create_app(settings), base_url="http://127.0.0.1:8000", client=("127.0.0.1", 50_000)) as asking:
        yield asking


@pytest.mark.slow
def test_one_stream_too_many_is_refused_and_the_end_is_told_to_the_others(small):
    with small.websocket_connect(URL) as one, small.websocket_connect(URL) as other:
        with pytest.raises(WebSocketDenialResponse) as refused:
            small.websocket_connect(URL).__enter__()
        assert refused.value.status_code == 503
        assert refused.value.json()["retryable"]
        assert "MDP_API__MAX_STREAMS" in refused.value.json()["detail"]
        assert small.get("/api/v1/stream/events", params={"topic": TOPIC}).status_code == 503
        assert json.loads(one.receive_text())["type"] == "heartbeat"
        small.portal.call(small.app.state.surroundings.closing.set)
        for opened in (one, other):
            said = json.loads(opened.receive_text())
            while said["type"] == "heartbeat":
                said = json.loads(opened.receive_text())
            assert said == {"type": "closing", "reason": "the service ends: connect again"}
            with pytest.raises(WebSocketDisconnect) as closed:
                opened.receive_text()
            assert closed.value.code == 1012
    assert small.app.state.surroundings.measures.streams_open == 0
    assert small.get("/api/v1/stream/events", params={"topic": TOPIC}).status_code == 503


def test_a_key_that_is_taken_back_ends_the_streams_it_opened(tmp_path):
    settings = load_settings(data_dir=tmp_path, simulated=True, api={"access_log": "off", "heartbeat_s": 0.2})
    _, text = create_key(settings.keys_file, "desk", (Scope.READ,), utc_now())
    elsewhere = ("10.0.0.7", 50_000)
    with (
        TestClient(create_app(settings), base_url="http://desk.example", client=elsewhere) as client,
        client.websocket_connect("ws://desk.example/api/v1/stream", headers={"x-api-key": text}) as opened,
    ):
        asked = Asked(opened)
        assert asked.ask(op="ping")["type"] == "pong"
        revoke_key(settings.keys_file, "desk", utc_now())
        said = asked.hear()
        while said["type"] == "heartbeat":
            said = asked.hear()
        assert (said["type"], said["reason"]) == ("closing", "the key is not valid any more")
        with pytest.raises(WebSocketDisconnect) as closed:
            asked.hear()
        assert closed.value.code == 1008, "1012 has libraries connect again"
