"""OKX's streams: ``/ws/v5/business``, candles of a minute.

Source: okx.com/docs-v5 "WebSocket", "Candlesticks channel" (2026-07). Where it is silent the choice is said in the
code. Not here: when something is pushed (``pump``).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec

from mdp.domain.market import Exchange
from mdp.simulator.quotas import RequestsPerWindow
from mdp.simulator.recognition import SYMBOLS_BY_ID
from mdp.simulator.stream_faults import StreamNotice, StreamShutdown
from mdp.simulator.streams.connection import Connection
from mdp.simulator.streams.speech import Speech, read_object, shortest_decimal
from mdp.simulator.streams.updates import Update

if TYPE_CHECKING:
    from mdp.simulator.streams.hub import Hub

_BUSINESS = "/ws/v5/business"
_PATHS = (_BUSINESS, "/ws/v5/public")
_CHANNEL = "candle1m"
_LONGEST_QUIET_S = 30.0
_LONGEST_REQUEST = 65_536
_REQUESTS_AN_HOUR = 480


class OkxSpeech(Speech):
    """How OKX talks."""

    exchange = Exchange.OKX
    period_ms = 1_000
    market_ids = SYMBOLS_BY_ID[Exchange.OKX]

    def __init__(self, hub: Hub) -> None:
        super().__init__(hub)
        self._connecting = RequestsPerWindow(time.monotonic, limit=3, window_s=1.0)
        self._requests: dict[Connection, RequestsPerWindow] = {}

    def refusal(self, path: str, client: str) -> tuple[int, str] | None:
        """Refuse wrong paths, and more than three connections in a second from one address."""
        if path not in _PATHS:
            return 404, "Not Found"
        return None if self._connecting.take(client).is_allowed else (429, "Too Many Requests")

    def opened(self, connection: Connection) -> None:
        """Begin to count its requests."""
        self._requests[connection] = RequestsPerWindow(time.monotonic, limit=_REQUESTS_AN_HOUR, window_s=3_600.0)

    def closed(self, connection: Connection) -> None:
        """Forget a client."""
        self._requests.pop(connection, None)

    def hear(self, connection: Connection, message: bytes) -> None:
        """Take the text ``ping``, or a request with ``op`` and ``args``; other keys are let pass."""
        if message == b"ping":
            connection.send(b"pong")
            return
        asked = read_object(message) if len(message) <= _LONGEST_REQUEST else None
        operation = asked.get("op") if asked else None
        if asked is None or operation not in ("subscribe", "unsubscribe") or not isinstance(asked.get("args"), list):
            said = message[:200].decode("utf-8", "replace")
            self._error(connection, asked or {}, "60012", f"Illegal request: {said}")
            return
        if not self._requests[connection].take("").is_allowed:
            self._error(connection, asked, "60014", "Requests too frequent")
            return
        for argument in asked["args"]:
            self._take(connection, asked, str(operation), argument if isinstance(argument, dict) else {})

    def beat(self, connection: Connection, now_s: float) -> None:
        """Close after 30 s in which neither side said anything [docs "Connect": no push and no data received]."""
        if now_s - max(connection.heard_s, connection.spoke_s) >= _LONGEST_QUIET_S:
            connection.close(4004, "No data received in 30s.")

    def say(self, market_id: str, update: Update, now_ms: int) -> bytes:  # noqa: ARG002 it does not tell when it was sent
        """Return a candle message."""
        prices = ",".join(
            f'"{shortest_decimal(value)}"'
            for value in (update.open, update.high, update.low, update.close, update.volume)
        )
        quote = shortest_decimal(update.quote_volume)
        return (
            f'{{"arg":{{"channel":"{_CHANNEL}","instId":"{market_id}"}},"data":[["{update.open_ms}",{prices},'
            f'"{quote}","{quote}","{"1" if update.is_closed else "0"}"]]}}'
        ).encode()

    def announce(self, connection: Connection, fault: StreamNotice | StreamShutdown) -> None:
        """Send the notice 64008; close after the grace, where there is one."""
        message = "The connection will soon be closed for a service upgrade. Please reconnect."
        _answer(connection, {"event": "notice", "code": "64008", "msg": message, "connId": _name(connection)})
        if fault.grace_s is not None:
            self._hub.later(fault.grace_s, lambda: connection.close(1001, "service upgrade"))

    def _take(self, connection: Connection, asked: dict[str, Any], operation: str, argument: dict[str, Any]) -> None:
        channel, market_id = argument.get("channel"), argument.get("instId")
        topic = f"{channel}:{market_id}"
        is_known = channel == _CHANNEL and market_id in self.market_ids and connection.path == _BUSINESS
        if operation == "unsubscribe":
            self.unsubscribe(connection, topic)
            self._acknowledge(connection, asked, operation, argument)
            return
        fault = self.rejection(connection, self.market_ids.get(str(market_id)))
        if fault is not None and fault.form == "absent":
            self._acknowledge(connection, asked, operation, argument)
        elif fault is not None and fault.form == "ignored":
            return
        elif fault is not None or not is_known:
            named = {} if fault is not None and fault.form == "bare" else asked
            message = (
                f"Wrong URL or channel:{channel},instId:{market_id} doesn't exist. "
                "Please use the correct URL, channel and parameters referring to API document."
            )
            self._error(connection, named, "60018", message)
        else:
            self._acknowledge(connection, asked, operation, argument)
            self.subscribe(connection, topic, str(market_id))

    def _acknowledge(
        self, connection: Connection, asked: dict[str, Any], operation: str, argument: dict[str, Any]
    ) -> None:
        _answer(connection, {**_number(asked), "event": operation, "arg": argument, "connId": _name(connection)})

    def _error(self, connection: Connection, asked: dict[str, Any], code: str, message: str) -> None:
        _answer(
            connection, {**_number(asked), "event": "error", "code": code, "msg": message, "connId": _name(connection)}
        )


def _answer(connection: Connection, body: dict[str, Any]) -> None:
    connection.send(msgspec.json.encode(body))


def _number(asked: dict[str, Any]) -> dict[str, Any]:
    return {"id": asked["id"]} if "id" in asked else {}


def _name(connection: Connection) -> str:
    return f"{connection.number:08x}"
