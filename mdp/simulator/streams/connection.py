"""One WebSocket connection as the server has it: the handshake, frames, and the ways it can fail.

It stands where uvicorn puts its own: it is given the raw connection once a request asks to be upgraded. Not here: what
is said over it (the exchanges' modules), when (``pump``), who may connect (``hub``).
"""

from __future__ import annotations

import asyncio
import struct
import time
from typing import TYPE_CHECKING, Any

from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

from mdp.domain.interval import format_time
from mdp.simulator.clock import from_ms
from mdp.simulator.connections import reset
from mdp.simulator.streams.frames import ping_frame, text_frame

if TYPE_CHECKING:
    from mdp.simulator.streams.hub import Hub
    from mdp.simulator.streams.speech import Speech

_MOST_UNREAD = 4 * 1024 * 1024
"""Bytes that a client may leave unread before it is dropped. Chosen: exchanges publish none."""

_PATIENCE_S = 5.0
"""How long a client has to answer a close frame."""

_UNSENDABLE = frozenset({1004, 1005, 1006, 1015}) | frozenset(range(1016, 3000))
"""Close codes that never stand in a frame [RFC 6455, section 7.4]."""

_PEER_IS_GONE = frozenset({7, 8})
"""States of a TCP connection, Linux: CLOSE, CLOSE_WAIT."""


class Connection(asyncio.Protocol):
    """One client.

    Attributes:
        number: Counts the server's connections from 1; 0 before the handshake.
        speech: The exchange it talks to; None before the handshake.
        path: Below the exchange's prefix.
        query: What follows the path.
        client: Address it comes from.
        topics: What it subscribed to, in the exchange's words, and the market that is.
        opened_ms: Simulated time of the handshake.
        opened_s: The same on the real, steady clock.
        heard_s: When anything came from the client, on that clock.
        spoke_s: When anything was sent to it.
        sent: Messages sent.
        received: Messages received.
        is_frozen: Whether it is half-open: nothing is sent or read.
        silent_until_ms: Symbols without pushes, None for all, and until when; None: for ever.
    """

    def __init__(self, hub: Hub, *, server_state: Any, **_uvicorn: object) -> None:
        self._hub = hub
        self._open = server_state.connections
        self._ws = ServerProtocol()
        self.transport: Any = None
        self.number = 0
        self.speech: Speech | None = None
        self.path = self.query = self.client = ""
        self.topics: dict[str, str] = {}
        self.opened_ms = 0
        self.opened_s = self.heard_s = self.spoke_s = time.monotonic()
        self.sent = self.received = 0
        self.is_frozen = self._is_closing = False
        self.silent_until_ms: dict[str | None, int | None] = {}

    def connection_made(self, transport: Any) -> None:
        """Take over the connection from the HTTP server."""
        self.transport = transport
        self._open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Forget it."""
        self._open.discard(self)
        self._is_closing = True
        self._hub.leave(self)

    def data_received(self, data: bytes) -> None:
        """Read what came; answer what the protocol itself answers."""
        self.heard_s = time.monotonic()
        self._ws.receive_data(data)
        for event in self._ws.events_received():
            if isinstance(event, Request):
                self._hub.greet(self, event)
            elif isinstance(event, Frame) and self.speech is not None:
                self._hear(event)
        self._flush()

    def eof_received(self) -> None:
        """The client ended its side: so does the server."""
        self._ws.receive_eof()
        self._flush()

    def shutdown(self) -> None:
        """Close because the server ends."""
        self.close(1012)

    @property
    def is_open(self) -> bool:
        """Whether messages can be sent."""
        return self.speech is not None and not self._is_closing

    @property
    def is_wrapped(self) -> bool:
        """Whether its messages name their stream, which Binance offers."""
        return self.path == "/stream"

    def describe(self) -> dict[str, object]:
        """Return it as ``/control/streams`` shows it."""
        return {
            "id": self.number,
            "exchange": None if self.speech is None else self.speech.exchange,
            "path": self.path,
            "client": self.client,
            "since": format_time(from_ms(self.opened_ms)),
            "seconds": round(time.monotonic() - self.opened_s, 3),
            "topics": list(self.topics),
            "sent": self.sent,
            "received": self.received,
            "state": "half_open" if self.is_frozen else "silent" if self.silent_until_ms else "open",
        }

    def accept(self, request: Request) -> bool:
        """Finish the handshake; False: the request was not a sound one, and was refused."""
        response = self._ws.accept(request)
        self._ws.send_response(response)
        self._flush()
        return response.status_code == 101

    def refuse(self, status: int, text: str, retry_after_s: int | None = None) -> None:
        """Answer the handshake with an HTTP status and end the connection."""
        response = self._ws.reject(status, text)
        if retry_after_s is not None:
            response.headers["Retry-After"] = str(retry_after_s)
        self._ws.send_response(response)
        self._flush()

    def send(self, text: bytes) -> None:
        """Send one message of the exchange's own, such as an acknowledgement."""
        self.write(text_frame(text))

    def ping(self, payload: bytes) -> None:
        """Send a PING frame."""
        if self.is_open and not self.is_frozen:
            self.transport.write(ping_frame(payload))

    def write(self, frame: bytes) -> None:
        """Send a finished frame; a client that reads nothing for long is dropped."""
        if not self.is_open or self.is_frozen:
            return
        self.sent += 1
        self.spoke_s = time.monotonic()
        self.transport.write(frame)
        if self.transport.get_write_buffer_size() > _MOST_UNREAD:
            self.abort()

    def close(self, code: int, reason: str = "") -> None:
        """Close with a code; without a frame where the code stands for that."""
        if not self.is_open:
            return
        self._is_closing = True
        if code in _UNSENDABLE or self.is_frozen:
            self.transport.close()
            return
        self._ws.send_close(code, reason)
        self._flush()
        asyncio.get_running_loop().call_later(_PATIENCE_S, self.transport.abort)

    def abort(self) -> None:
        """Reset the TCP connection."""
        self._is_closing = True
        reset(self.transport)

    def freeze(self, for_s: float) -> None:
        """Become half-open: nothing is sent or read; after ``for_s`` real seconds it is reset."""
        self.is_frozen = True
        self.transport.pause_reading()
        asyncio.get_running_loop().call_later(for_s, self._thaw)

    def is_silent(self, symbol: str, now_ms: int) -> bool:
        """Tell whether pushes of a symbol are withheld at a simulated time."""
        for about in (None, symbol) if self.silent_until_ms else ():
            if about in self.silent_until_ms:
                until_ms = self.silent_until_ms[about]
                if until_ms is None or now_ms < until_ms:
                    return True
                del self.silent_until_ms[about]
        return False

    def drop_if_gone(self) -> None:
        """Let go of a half-open connection whose client has left: nobody reads there, so nobody else would notice."""
        raw = self.transport.get_extra_info("socket")
        try:
            state = struct.unpack("B", raw.getsockopt(6, 11, 1))[0]  # TCP_INFO, its first byte: the state
        except (OSError, AttributeError):
            return
        if state in _PEER_IS_GONE:
            self.transport.abort()

    def _thaw(self) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.abort()

    def _hear(self, frame: Frame) -> None:
        assert self.speech is not None  # for mypy: frames come after the handshake
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY):
            self.received += 1
            self.speech.hear(self, bytes(frame.data))
        elif frame.opcode is Opcode.PONG:
            self.speech.hear_pong(self, bytes(frame.data))
        elif frame.opcode is Opcode.PING:
            self.speech.hear_ping(self)
        elif frame.opcode is Opcode.CLOSE:
            self._is_closing = True

    def _flush(self) -> None:
        for data in self._ws.data_to_send():
            if self.transport is None or self.transport.is_closing():
                return
            if data:
                self.transport.write(data)
            else:  # the protocol's word for: no more to say
                self.transport.close()
        if self._ws.close_expected() and self.transport is not None and not self.transport.is_closing():
            self._is_closing = True
            asyncio.get_running_loop().call_later(_PATIENCE_S, self.transport.abort)
