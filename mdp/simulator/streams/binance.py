"""Binance's streams: ``/ws`` and ``/stream``, klines of a minute.

Source: binance-spot-api-docs, web-socket-streams.md (2026-07). Where it is silent the choice is said in the code. Not
here: when something is pushed (``pump``).
"""

from __future__ import annotations

import re
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from mdp.domain.market import Exchange
from mdp.simulator.candles import DAY_MS, MINUTE_MS
from mdp.simulator.quotas import RequestsPerWindow
from mdp.simulator.recognition import SYMBOLS_BY_ID
from mdp.simulator.stream_faults import StreamNotice, StreamShutdown
from mdp.simulator.streams.connection import Connection
from mdp.simulator.streams.speech import Speech, eight_decimals, read_object, texts
from mdp.simulator.streams.updates import Update

if TYPE_CHECKING:
    from mdp.simulator.streams.hub import Hub

_PATH = re.compile(r"/(stream|ws)(/|$)")
_TOPIC = re.compile(r"([a-z0-9]+)@kline_1m")
_PING_EVERY_S, _PONG_WITHIN_S = 20.0, 60.0
_LIFE_MS = DAY_MS
_MESSAGES_A_SECOND = 5
_MOST_TOPICS = 1_024
_TRADES_A_MINUTE = 1_000_000
"""Trade numbers are invented: those of a minute begin at so many times its number. Chosen."""


@dataclass(slots=True)
class _State:
    came_s: deque[float] = field(default_factory=deque)
    pinged_s: float = field(default_factory=time.monotonic)
    ponged_s: float = field(default_factory=time.monotonic)
    unanswered: bool = False


class BinanceSpeech(Speech):
    """How Binance talks."""

    exchange = Exchange.BINANCE
    period_ms = 2_000
    market_ids = SYMBOLS_BY_ID[Exchange.BINANCE]

    def __init__(self, hub: Hub) -> None:
        super().__init__(hub)
        self._states: dict[Connection, _State] = {}
        self._connecting = RequestsPerWindow(time.monotonic, limit=300, window_s=300.0)

    def refusal(self, path: str, client: str) -> tuple[int, str] | None:
        """Refuse wrong paths, and more than 300 connections in five minutes from one address."""
        if not _PATH.match(path):
            return 404, "Not Found"
        return None if self._connecting.take(client).is_allowed else (429, "Too Many Requests")

    def opened(self, connection: Connection) -> None:
        """Subscribe to what the path names; a name that is no stream, such as CCXT's ``/ws/0``, is let pass."""
        self._states[connection] = _State()
        _, _, combined = connection.query.partition("streams=")
        for topic in (*connection.path.split("/"), *combined.partition("&")[0].split("/")):
            self._begin(connection, topic)

    def closed(self, connection: Connection) -> None:
        """Forget a client."""
        self._states.pop(connection, None)

    def hear(self, connection: Connection, message: bytes) -> None:
        """Take a request such as ``{"method":"SUBSCRIBE","params":["btcusdt@kline_1m"],"id":1}``."""
        if self._is_too_much(connection):
            return
        asked = read_object(message)
        if asked is None:
            connection.send(b'{"error":{"code":3,"msg":"Invalid JSON: expected value at line 1 column 1"}}')
            return
        number, wanted = asked.get("id"), texts(asked.get("params"))
        match asked.get("method"):
            case "SUBSCRIBE":
                self._subscribe(connection, wanted, number)
            case "UNSUBSCRIBE":
                for topic in wanted:
                    self.unsubscribe(connection, topic)
                _answer(connection, {"result": None, "id": number})
            case "LIST_SUBSCRIPTIONS":
                _answer(connection, {"result": list(connection.topics), "id": number})
            case other:
                _refuse(connection, f"Invalid request: unknown variant `{other}`", number)

    def hear_pong(self, connection: Connection, payload: bytes) -> None:  # noqa: ARG002
        """Note that the client lives; it counts as a message [web-socket-streams.md "Websocket Limits"]."""
        state = self._states[connection]
        state.ponged_s, state.unanswered = time.monotonic(), False
        self._is_too_much(connection)

    def hear_ping(self, connection: Connection) -> None:
        """Count it as a message."""
        self._is_too_much(connection)

    def beat(self, connection: Connection, now_s: float) -> None:
        """Ping each 20 s; end a connection whose client is mute for a minute, or that is a day old."""
        state = self._states[connection]
        if self._hub.clock() - connection.opened_ms >= _LIFE_MS:
            connection.close(1001, "24 hours")
        elif state.unanswered and now_s - state.ponged_s >= _PONG_WITHIN_S:
            connection.close(1008, "Pong timeout")
        elif now_s - state.pinged_s >= _PING_EVERY_S:
            state.pinged_s = now_s
            if not state.unanswered:
                state.ponged_s, state.unanswered = now_s, True
            connection.ping(str(self._hub.clock()).encode())

    def say(self, market_id: str, update: Update, now_ms: int) -> bytes:
        """Return a kline event."""
        first = update.open_ms // MINUTE_MS * _TRADES_A_MINUTE
        numbers = (first, first + update.trades - 1) if update.trades else (-1, -1)
        closed = "true" if update.is_closed else "false"
        return (
            f'{{"e":"kline","E":{now_ms},"s":"{market_id}","k":{{"t":{update.open_ms},'
            f'"T":{update.open_ms + MINUTE_MS - 1},"s":"{market_id}","i":"1m","f":{numbers[0]},"L":{numbers[1]},'
            f'"o":"{eight_decimals(update.open)}","c":"{eight_decimals(update.close)}",'
            f'"h":"{eight_decimals(update.high)}","l":"{eight_decimals(update.low)}",'
            f'"v":"{eight_decimals(update.volume)}","n":{update.trades},"x":{closed},'
            f'"q":"{eight_decimals(update.quote_volume)}","V":"{eight_decimals(update.taker_volume)}",'
            f'"Q":"{eight_decimals(update.taker_quote_volume)}","B":"0"}}}}'
        ).encode()

    def wrap(self, market_id: str, message: bytes) -> bytes:
        """Return a message as it comes over ``/stream``, where it names its stream."""
        return b'{"stream":"%s@kline_1m","data":%s}' % (market_id.lower().encode(), message)

    def announce(self, connection: Connection, fault: StreamNotice | StreamShutdown) -> None:
        """Send ``serverShutdown``; close after the grace."""
        _answer(connection, {"e": "serverShutdown", "E": self._hub.clock()})
        self._hub.later(fault.grace_s or 0.0, lambda: connection.close(1001, "Server shutdown"))

    def _subscribe(self, connection: Connection, wanted: list[str], number: object) -> None:
        for topic in wanted:
            found = _TOPIC.fullmatch(topic)
            symbol = self.market_ids.get(found[1].upper()) if found else None
            fault = self.rejection(connection, symbol)
            if fault is None:
                continue
            if fault.form == "error":
                _refuse(connection, f"Invalid request: {topic}", number)
            elif fault.form == "bare":
                _answer(connection, {"code": 2, "msg": f"Invalid request: {topic}"})
            elif fault.form == "absent":
                _answer(connection, {"result": None, "id": number})
            return
        if len({*connection.topics, *wanted}) > _MOST_TOPICS:
            _refuse(connection, "Invalid request: too many streams", number)  # chosen
            return
        _answer(connection, {"result": None, "id": number})
        for topic in wanted:
            self._begin(connection, topic)

    def _begin(self, connection: Connection, topic: str) -> None:
        """Subscribe; what names no stream of ours is accepted and stays silent, as at the exchange."""
        found = _TOPIC.fullmatch(topic)
        if found and found[1].upper() in self.market_ids:
            self.subscribe(connection, topic, found[1].upper())

    def _is_too_much(self, connection: Connection) -> bool:
        came, now_s = self._states[connection].came_s, time.monotonic()
        came.append(now_s)
        while came[0] <= now_s - 1:
            came.popleft()
        if len(came) > _MESSAGES_A_SECOND:
            connection.close(1008, "Too many requests")
            return True
        return False


def _answer(connection: Connection, body: dict[str, Any]) -> None:
    connection.send(msgspec.json.encode(body))


def _refuse(connection: Connection, message: str, number: object) -> None:
    _answer(connection, {"error": {"code": 2, "msg": message}, "id": number})
