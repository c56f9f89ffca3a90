"""The door in front of all exchanges: latency, faults of single answers, bandwidth, the request log.

An exchange counts a request against its quotas before a fault spoils the answer, except where the fault stands in front
of the exchange: connections that are reset or hang, and the blocks 403 and 451. A refusal of the exchange's own is
never spoiled. Not here: what the faults are (``faults``), which apply (``script``), how bodies are spoiled
(``spoiled_bodies``).
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mdp.domain.market import Exchange
from mdp.simulator.connections import abort, reset, until_disconnected
from mdp.simulator.faults import (
    ArchiveChecksum,
    ArchiveCut,
    Channel,
    Code,
    CutJson,
    CutTransfer,
    EmptyBody,
    Hang,
    Html200,
    JsonObject,
    Reset,
    Slow,
    Status,
    WireFault,
)
from mdp.simulator.recognition import symbol_of
from mdp.simulator.script import Asked, Entry
from mdp.simulator.simulation import Simulation
from mdp.simulator.spoiled_bodies import Reply, spoil

TRANSPORT_FAULTS: tuple[type[WireFault], ...] = (
    Status, Code, Html200, CutJson, CutTransfer, EmptyBody, JsonObject, Hang, Reset, Slow, ArchiveChecksum, ArchiveCut,
)  # fmt: skip

_PREFIXES: dict[str, tuple[Exchange, Channel]] = {
    **{exchange.value: (exchange, "rest") for exchange in Exchange},
    **{f"{exchange.value}-archive": (exchange, "archive") for exchange in Exchange},
}
_OWN_REFUSALS = frozenset({403, 418, 429})
_TRICKLES = 20


class Door:
    """The service as its clients meet it.

    Attributes:
        simulation: The world that is served.
    """

    def __init__(self, app: ASGIApp, simulation: Simulation) -> None:
        self._app = app
        self.simulation = simulation

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        asked = self._recognise(scope)
        if asked is None:
            await self._app(scope, receive, send)
            return
        scope["asked"] = asked
        sent, at_s = _Sent(send), time.time()
        try:
            delay_s = self.simulation.lines.round_trip_s(asked.exchange)
            # the request is under way for the first half: it counts when it arrives
            if delay_s:
                await asyncio.sleep(delay_s / 2)
            await self._serve(scope, receive, sent, asked, delay_s / 2)
        finally:
            self.simulation.requests.add(
                at_s=at_s,
                exchange=asked.exchange,
                status=sent.status,
                client=":".join(str(part) for part in scope.get("client") or ("unknown",)),
                method=scope["method"],
                path=scope["path"],
                query=scope["query_string"].decode("latin-1"),
                size=sent.size,
                faults=tuple(
                    f"{entry.number}:{entry.fault.__struct_config__.tag}" for entry in scope.get("faults", ())
                ),
                quota_left=scope.get("quota_left"),
            )

    def _recognise(self, scope: Scope) -> Asked | None:
        if scope["type"] != "http":
            return None
        first, _, rest = scope["path"].removeprefix("/").partition("/")
        if first not in _PREFIXES:
            return None
        exchange, channel = _PREFIXES[first]
        symbol = symbol_of(exchange, f"/{rest}", scope["query_string"]) if self.simulation.faults.entries else None
        return Asked(exchange, channel, f"/{rest}", symbol, self.simulation.clock())

    async def _serve(self, scope: Scope, receive: Receive, sent: _Sent, asked: Asked, delay_s: float) -> None:
        entry = self.simulation.faults.choose(asked, TRANSPORT_FAULTS)
        has_bandwidth = self.simulation.lines.settings[asked.exchange].bandwidth_mbit is not None
        if entry is None and not delay_s and not has_bandwidth:
            await self._app(scope, receive, sent)
            return
        fault = entry.fault if entry else None
        if entry and isinstance(fault, (Hang, Reset)):
            scope["faults"] = [entry]
            await _break(sent, receive, fault)
            return
        reply = await self._reply(scope, receive, entry, asked)
        if delay_s:
            await asyncio.sleep(delay_s)
        await self.simulation.lines.carry(asked.exchange, len(reply.body))
        is_spoiled = entry in scope.get("faults", ())
        await _send(reply, sent, receive, fault if is_spoiled else None)

    async def _reply(self, scope: Scope, receive: Receive, entry: Entry | None, asked: Asked) -> Reply:
        fault = entry.fault if entry else None
        reply = Reply(200, [], b"")
        if not (isinstance(fault, Status) and fault.status in (403, 451)):
            reply = await _collect(self._app, scope, receive)
        if entry is None:
            return reply
        if reply.status in _OWN_REFUSALS:
            self.simulation.faults.give_back(entry)
            return reply
        scope["faults"] = [*scope.get("faults", ()), entry]
        return spoil(reply, entry.fault, asked.now_ms)


class _Sent:
    """Passes an answer on and remembers what was sent; it knows the connection where there is one."""

    def __init__(self, send: Send) -> None:
        self._send = send
        # uvicorn's `send` is a method of its request; in-process clients have no connection
        self.transport: Any = getattr(getattr(send, "__self__", None), "transport", None)
        self.status: int | None = None
        self.size = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        else:
            self.size += len(message.get("body", b""))
        await self._send(message)


async def _collect(app: ASGIApp, scope: Scope, receive: Receive) -> Reply:
    reply = Reply(500, [], b"")

    async def keep(message: Message) -> None:
        nonlocal reply
        if message["type"] == "http.response.start":
            reply = Reply(message["status"], list(message["headers"]), b"")
        else:
            reply = Reply(reply.status, reply.headers, reply.body + message.get("body", b""))

    await app(scope, receive, keep)
    return reply


async def _break(sent: _Sent, receive: Receive, fault: Hang | Reset) -> None:
    if isinstance(fault, Hang):
        await until_disconnected(receive, fault.seconds)
        abort(sent.transport)
    else:
        reset(sent.transport)
    await until_disconnected(receive)


async def _send(reply: Reply, sent: _Sent, receive: Receive, fault: object) -> None:
    await sent({"type": "http.response.start", "status": reply.status, "headers": reply.headers})
    if isinstance(fault, CutTransfer):
        await sent({
            "type": "http.response.body", "body": reply.body[: int(len(reply.body) * fault.share)], "more_body": True,
        })  # fmt: skip
        await asyncio.sleep(0)
        sent.transport.close() if sent.transport is not None else abort(None)
        await until_disconnected(receive)
        return
    if isinstance(fault, Slow):
        step = max(1, -(-len(reply.body) // _TRICKLES))
        for start in range(0, len(reply.body), step):
            await sent({"type": "http.response.body", "body": reply.body[start : start + step], "more_body": True})
            await asyncio.sleep(fault.seconds / _TRICKLES)
        await sent({"type": "http.response.body", "body": b""})
        return
    await sent({"type": "http.response.body", "body": reply.body})
