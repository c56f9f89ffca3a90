"""Deribit's stream: ticks of the volatility indices, as JSON-RPC over WebSocket.

Source: docs.deribit.com public/subscribe, deribit_volatility_index, public/set_heartbeat (2026-07). Where it is silent
the choice is said in the code. Not here: when something is pushed (``pump``).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from mdp.domain.market import Exchange
from mdp.simulator.quotas import Credits
from mdp.simulator.recognition import SYMBOLS_BY_ID
from mdp.simulator.streams.connection import Connection
from mdp.simulator.streams.speech import Speech, read_object, texts
from mdp.simulator.streams.updates import Update

if TYPE_CHECKING:
    from mdp.simulator.streams.hub import Hub

_PATH = "/ws/api/v2"
_TOPIC = re.compile(r"deribit_volatility_index\.([a-z]+)_usd")
_MOST_CONNECTIONS = 32
_SHORTEST_HEARTBEAT_S = 10


@dataclass(slots=True)
class _Heart:
    interval_s: float | None = None
    beaten_s: float = field(default_factory=time.monotonic)
    is_awaited: bool = False


class _Refused(Exception):
    def __init__(self, code: int, message: str, **data: object) -> None:
        super().__init__(message)
        self.body = {"code": code, "message": message, **({"data": data} if data else {})}


class DeribitSpeech(Speech):
    """How Deribit talks."""

    exchange = Exchange.DERIBIT
    period_ms = 1_000
    market_ids = SYMBOLS_BY_ID[Exchange.DERIBIT]

    def __init__(self, hub: Hub) -> None:
        super().__init__(hub)
        self._hearts: dict[Connection, _Heart] = {}
        self._credits = Credits(time.monotonic, size=30_000.0, refill_per_s=10_000.0, cost=3_000.0)
        self._methods: dict[str, Callable[[Connection, dict[str, Any]], object]] = {
            "public/subscribe": self._subscribe,
            "public/unsubscribe": self._unsubscribe,
            "public/set_heartbeat": self._set_heartbeat,
            "public/disable_heartbeat": self._disable_heartbeat,
            "public/test": self._test,
            "public/get_time": lambda _connection, _params: hub.clock(),
        }

    def refusal(self, path: str, client: str) -> tuple[int, str] | None:
        """Refuse wrong paths, and more than 32 connections at once from one address."""
        if path != _PATH:
            return 404, "Not Found"
        return (429, "too_many_requests") if self._hub.count(self.exchange, client) >= _MOST_CONNECTIONS else None

    def opened(self, connection: Connection) -> None:
        """Begin without heartbeats."""
        self._hearts[connection] = _Heart()

    def closed(self, connection: Connection) -> None:
        """Forget a client."""
        self._hearts.pop(connection, None)

    def hear(self, connection: Connection, message: bytes) -> None:
        """Take a JSON-RPC request; there are no batches, and a request needs an ``id``."""
        begun, now_ms = time.perf_counter_ns(), self._hub.clock()
        asked = read_object(message) or {}
        content: dict[str, object]
        try:
            result = self._call(connection, asked)
            if result is None:  # scripted: no answer at all
                return
            content = {"result": result}
        except _Refused as refused:
            content = {"error": refused.body}
        taken_us = (time.perf_counter_ns() - begun) // 1_000
        timing = {"usIn": now_ms * 1_000, "usOut": now_ms * 1_000 + taken_us, "usDiff": taken_us, "testnet": False}
        number = {"id": asked["id"]} if "id" in asked else {}
        connection.send(msgspec.json.encode({"jsonrpc": "2.0", **number, **content, **timing}))
        if content.get("error", {}).get("code") == 10_028:  # type: ignore[attr-defined] # the body of a refusal
            connection.close(1008, "too_many_requests")

    def beat(self, connection: Connection, now_s: float) -> None:
        """Ask for a sign of life each interval; end the session of a client that gave none to the last question."""
        heart = self._hearts[connection]
        if heart.interval_s is None or now_s - heart.beaten_s < heart.interval_s:
            return
        if heart.is_awaited:
            connection.close(1000, "heartbeat")  # the code is chosen
            return
        heart.beaten_s, heart.is_awaited = now_s, True
        for kind in (b"heartbeat", b"test_request"):
            connection.send(b'{"jsonrpc":"2.0","method":"heartbeat","params":{"type":"%s"}}' % kind)

    def say(self, market_id: str, update: Update, now_ms: int) -> bytes:  # noqa: ARG002 a tick has a time of its own
        """Return a notification with one tick."""
        name = f"{market_id.lower()}_usd"
        return (
            f'{{"jsonrpc":"2.0","method":"subscription","params":{{"channel":"deribit_volatility_index.{name}",'
            f'"data":{{"volatility":{update.close / 100},"timestamp":{update.open_ms},"index_name":"{name}"}}}}}}'
        ).encode()

    def _call(self, connection: Connection, asked: dict[str, Any]) -> object:
        if "id" not in asked:
            raise _Refused(-32_600, "request entity must contain an id")  # chosen
        method = self._methods.get(str(asked.get("method")))
        if method is None:
            raise _Refused(-32_601, "Method not found")
        params = asked.get("params", {})
        if not isinstance(params, dict):
            raise _Refused(-32_602, "Invalid params")
        return method(connection, params)

    def _subscribe(self, connection: Connection, params: dict[str, Any]) -> object:
        wanted = texts(params.get("channels"))
        if not wanted:
            raise _Refused(-32_602, "Invalid params", reason="value required", param="channels")
        if not self._credits.take(connection.client):
            raise _Refused(10_028, "too_many_requests")
        accepted = []
        for topic in wanted:
            found = _TOPIC.fullmatch(topic)
            market_id = found[1].upper() if found else ""
            fault = self.rejection(connection, self.market_ids.get(market_id))
            if fault is not None and fault.form == "ignored":
                return None
            if fault is not None and fault.form != "absent":
                raise _Refused(-32_602, "Invalid params", reason="wrong format", param="channels")
            # an unknown channel is no error: it is just not in the list
            if fault is None and market_id in self.market_ids:
                self.subscribe(connection, topic, market_id)
                accepted.append(topic)
        return accepted

    def _unsubscribe(self, connection: Connection, params: dict[str, Any]) -> object:
        wanted = [topic for topic in texts(params.get("channels")) if topic in connection.topics]
        for topic in wanted:
            self.unsubscribe(connection, topic)
        return wanted

    def _set_heartbeat(self, connection: Connection, params: dict[str, Any]) -> object:
        interval = params.get("interval")
        if not isinstance(interval, int | float) or interval < _SHORTEST_HEARTBEAT_S:
            raise _Refused(-32_602, "Invalid params", reason="must be at least 10", param="interval")
        self._hearts[connection] = _Heart(float(interval))
        return "ok"

    def _disable_heartbeat(self, connection: Connection, _params: dict[str, Any]) -> object:
        self._hearts[connection] = _Heart()
        return "ok"

    def _test(self, connection: Connection, _params: dict[str, Any]) -> object:
        self._hearts[connection].is_awaited = False
        return {"version": "1.2.26"}
