"""Bybit's public spot stream: klines of a minute.

Source: bybit-exchange.github.io docs/v5/ws/connect and docs/v5/websocket/public/kline (2026-07). Where these are silent
the choice is said in the code. Not here: when something is pushed (``pump``).
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

import msgspec

from mdp.domain.market import Exchange
from mdp.simulator.candles import MINUTE_MS
from mdp.simulator.quotas import RequestsPerWindow
from mdp.simulator.recognition import SYMBOLS_BY_ID
from mdp.simulator.streams.connection import Connection
from mdp.simulator.streams.speech import Speech, read_object, shortest_decimal, texts
from mdp.simulator.streams.updates import Update

if TYPE_CHECKING:
    from mdp.simulator.streams.hub import Hub

_PATH = "/v5/public/spot"
_TOPIC = re.compile(r"kline\.1\.([A-Z0-9]+)")
_MOST_ARGS = 10
_MOST_CHARACTERS = 21_000
_MOST_CONNECTIONS = 1_000
_LONGEST_QUIET_S = 600.0
"""A client that says nothing for so long is dropped; it should ping each 20 s. Chosen."""


class BybitSpeech(Speech):
    """How Bybit talks."""

    exchange = Exchange.BYBIT
    period_ms = 1_000
    repeats_ms = MINUTE_MS  # pushed every 1 to 60 s: each second only while it changes
    market_ids = SYMBOLS_BY_ID[Exchange.BYBIT]

    def __init__(self, hub: Hub) -> None:
        super().__init__(hub)
        self._connecting = RequestsPerWindow(time.monotonic, limit=500, window_s=300.0)

    def refusal(self, path: str, client: str) -> tuple[int, str] | None:
        """Refuse wrong paths, more than 500 connections in five minutes, more than 1000 at once from one address."""
        if path != _PATH:
            return 404, "Not Found"
        is_allowed = self._connecting.take(client).is_allowed
        if not is_allowed or self._hub.count(self.exchange, client) >= _MOST_CONNECTIONS:
            return 403, "403, access too frequent"  # chosen: what REST says
        return None

    def hear(self, connection: Connection, message: bytes) -> None:
        """Take a request such as ``{"op":"subscribe","req_id":1,"args":["kline.1.BTCUSDT"]}``; other keys pass."""
        asked = read_object(message)
        operation = asked.get("op") if asked else None
        if asked is None or not isinstance(operation, str):
            self._reply(connection, {}, "subscribe", "Params Error")  # chosen
            return
        match operation:
            case "ping":
                self._reply(connection, asked, "ping", "pong", success=True)
            case "subscribe":
                self._subscribe(connection, asked)
            case "unsubscribe":
                for topic in texts(asked.get("args")):
                    self.unsubscribe(connection, topic)
                self._reply(connection, asked, operation, operation, success=True)
            case _:
                self._reply(connection, asked, operation, f"Invalid op: {operation}")  # chosen

    def beat(self, connection: Connection, now_s: float) -> None:
        """Drop a client that is silent for ten minutes."""
        if now_s - connection.heard_s >= _LONGEST_QUIET_S:
            connection.close(1000, "no ping")

    def say(self, market_id: str, update: Update, now_ms: int) -> bytes:
        """Return a kline message."""
        confirm = "true" if update.is_closed else "false"
        return (
            f'{{"topic":"kline.1.{market_id}","type":"snapshot","ts":{now_ms},"data":[{{"start":{update.open_ms},'
            f'"end":{update.open_ms + MINUTE_MS - 1},"interval":"1","open":"{shortest_decimal(update.open)}",'
            f'"close":"{shortest_decimal(update.close)}","high":"{shortest_decimal(update.high)}",'
            f'"low":"{shortest_decimal(update.low)}","volume":"{shortest_decimal(update.volume)}",'
            f'"turnover":"{shortest_decimal(update.quote_volume)}","confirm":{confirm},"timestamp":{now_ms}}}]}}'
        ).encode()

    def _subscribe(self, connection: Connection, asked: dict[str, Any]) -> None:
        wanted = texts(asked.get("args"))
        wrong = self._wrong_with(connection, wanted)
        if wrong is not None:
            self._reply(connection, asked, "subscribe", wrong)
            return
        found = {topic: self._market_id(topic) for topic in wanted}
        if any(self._is_rejected(connection, asked, topic, market_id) for topic, market_id in found.items()):
            return
        # one unknown topic refuses them all: chosen
        unknown = [topic for topic, market_id in found.items() if market_id is None]
        if unknown:
            self._reply(connection, asked, "subscribe", f"error:handler not found,topic:{unknown[0]}")
            return
        self._reply(connection, asked, "subscribe", "subscribe", success=True)
        for topic, market_id in found.items():
            if market_id is not None:
                self.subscribe(connection, topic, market_id)

    def _wrong_with(self, connection: Connection, wanted: list[str]) -> str | None:
        if not wanted:
            return "Params Error"  # chosen
        if len(wanted) > _MOST_ARGS:
            return "args size >10"
        if sum(map(len, {*connection.topics, *wanted})) > _MOST_CHARACTERS:
            return "args length exceeds 21000"  # chosen
        return None

    def _is_rejected(self, connection: Connection, asked: dict[str, Any], topic: str, market_id: str | None) -> bool:
        fault = self.rejection(connection, self.market_ids.get(market_id or ""))
        if fault is None:
            return False
        if fault.form in ("error", "bare"):
            named = asked if fault.form == "error" else {}
            self._reply(connection, named, "subscribe", f"error:handler not found,topic:{topic}")
        elif fault.form == "absent":
            self._reply(connection, asked, "subscribe", "subscribe", success=True)
        return True

    def _market_id(self, topic: str) -> str | None:
        found = _TOPIC.fullmatch(topic)
        return found[1] if found and found[1] in self.market_ids else None

    def _reply(
        self, connection: Connection, asked: dict[str, Any], operation: str, said: str, *, success: bool = False
    ) -> None:
        number = {"req_id": asked["req_id"]} if "req_id" in asked else {}
        conn_id = f"00000000-0000-4000-8000-{connection.number:012x}"
        body = {"success": success, "ret_msg": said, "conn_id": conn_id, **number, "op": operation}
        connection.send(msgspec.json.encode(body))
