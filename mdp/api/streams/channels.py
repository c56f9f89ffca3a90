"""How messages get to a client: as frames written straight to its connection, as ASGI has it, as server-sent events.

Not here: what is sent (``mailboxes``), who is cut off (``hub``).
"""

from __future__ import annotations

import asyncio
import socket
from abc import ABC, abstractmethod
from asyncio import Transport
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from starlette.types import Scope, Send
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from mdp.api.streams.messages import Message

TRANSPORT = "mdp.transport"
"""Under this name the server puts the connection of a request into its state, where it can (``quick_answers``)."""

GOODBYE_S = 2.0
"""What a client gets to read the last word."""

_KERNEL_BYTES = 131_072
"""What the kernel keeps for a client that does not read. It would take megabytes, all of them old."""


class Gone(Exception):
    """The client is not there any more."""


class Channel(ABC):
    """The way to one client.

    Args:
        transport: Of its connection; None where the server does not give it.
    """

    def __init__(self, transport: Transport | None) -> None:
        self._transport = transport
        self._given = 0
        self._is_sending = False
        if transport is not None:
            _keep_little(transport)

    @property
    def taken(self) -> int:
        """So many bytes left this process so far."""
        return self._given - self._waiting

    @property
    def is_held_up(self) -> bool:
        """Whether something waits for the client to read."""
        return self._is_sending or self._waiting > 0

    @property
    def _waiting(self) -> int:
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def abort(self) -> None:
        """End the connection at once, with what waits: closing would wait for the client to read it."""
        if self._transport is not None:
            self._transport.abort()

    def let_go(self) -> None:
        """Give the client a moment to take what was written before the connection is closed, and not for ever.

        A server that closes waits until everything is read, which somebody who does not read never does.
        """
        if self._transport is not None:
            asyncio.get_running_loop().call_later(GOODBYE_S, self._abort_what_nobody_reads, self._transport)

    def _abort_what_nobody_reads(self, transport: Transport) -> None:
        if transport.is_closing() and self._waiting:
            transport.abort()

    async def ready(self) -> None:
        """Return when the client took enough of what was written for more to be written; ASGI's ``send`` waits."""
        return

    async def send(self, messages: Sequence[Message], mark: str) -> None:
        """Send messages.

        Args:
            messages: In order.
            mark: Where to go on from after all of them; empty: not to be told.

        Raises:
            Gone: nobody is there.
        """
        self._is_sending = True
        try:
            await self._write(messages, mark)
        finally:
            self._is_sending = False

    @abstractmethod
    async def _write(self, messages: Sequence[Message], mark: str, /) -> None: ...


class FrameChannel(Channel):
    """Frames as they are on the wire, all in one write, instead of a message of ASGI for each.

    A server's frames are not masked, so that one spelling does for all clients; and whole frames may stand anywhere
    between those that the protocol writes itself.

    Args:
        protocol: Of uvicorn.
    """

    def __init__(self, protocol: WebSocketsSansIOProtocol) -> None:
        super().__init__(protocol.transport)
        self._protocol = protocol

    async def ready(self) -> None:
        """Return when the client took enough of what was written."""
        await self._protocol.writable.wait()

    async def _write(self, messages: Sequence[Message], _mark: str, /) -> None:
        protocol = self._protocol
        if protocol.disconnected or protocol.close_sent or protocol.transport.is_closing():
            raise Gone
        data = b"".join([message.frame for message in messages])
        self._given += len(data)
        protocol.transport.write(data)


class TextChannel(Channel):
    """One ASGI message for each, for any server.

    Args:
        send: Of ASGI.
        transport: None where the server does not give it.
    """

    def __init__(self, send: Send, transport: Transport | None) -> None:
        super().__init__(transport)
        self._send = send

    async def _write(self, messages: Sequence[Message], _mark: str, /) -> None:
        for message in messages:
            self._given += len(message.text)
            await self._send({"type": "websocket.send", "text": message.text.decode()})


class EventChannel(Channel):
    """Server-sent events, what is taken together in one piece.

    Args:
        send: Of ASGI.
        transport: None where the server does not give it.
    """

    def __init__(self, send: Send, transport: Transport | None) -> None:
        super().__init__(transport)
        self._send = send

    async def _write(self, messages: Sequence[Message], mark: str, /) -> None:
        events = [message.event for message in messages]
        if mark:
            events[-1] += b"id: %b\n" % mark.encode()
        body = b"".join([event + b"\n" for event in events])
        self._given += len(body)
        await self._send({"type": "http.response.body", "body": body, "more_body": True})


def transport_of(scope: Scope) -> Transport | None:
    """Return the connection of a request, where the server gives it."""
    found: Any = scope.get("state", {}).get(TRANSPORT)
    return found if found is not None and hasattr(found, "abort") else None


def websocket_channel(scope: Scope, send: Send) -> Channel:
    """Return the best way to a client whose WebSocket was accepted."""
    transport = transport_of(scope)
    protocol = transport.get_protocol() if transport is not None else None
    if isinstance(protocol, WebSocketsSansIOProtocol):
        return FrameChannel(protocol)
    return TextChannel(send, transport)


def _keep_little(transport: Transport) -> None:
    found = transport.get_extra_info("socket")
    if found is not None:
        with suppress(OSError, AttributeError):
            found.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _KERNEL_BYTES)
