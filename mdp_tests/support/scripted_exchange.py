"""A real HTTP server on 127.0.0.1 that answers each request as a test wants, broken connections included.

Not here: what an exchange would answer (the tests' own wires, the simulator).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Self
from urllib.parse import parse_qsl, urlsplit

Ending = Literal["whole", "cut", "drip", "reset", "hang"]


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it came.

    Attributes:
        path: Without the query.
        query: Its parameters.
        headers: By lower-case name.
        at_s: When it came, on the monotonic clock.
    """

    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    at_s: float


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer.

    Attributes:
        body: As text.
        status: HTTP status.
        headers: Beside ``Content-Length``.
        ending: ``cut`` promises the whole body, sends half and closes; ``drip`` sends a byte every 50 ms; ``reset`` and
            ``hang`` send nothing at all.
        delay_s: Before it is sent.
    """

    body: str = ""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})
    ending: Ending = "whole"
    delay_s: float = 0.0


class ScriptedExchange:
    """The server; use it inside ``async with``. It listens on a free port.

    Attributes:
        requests: Everything that was asked, in order.
        most_at_once: The most requests that waited for an answer at the same time.
    """

    def __init__(self, answer: Callable[[Request], Reply]) -> None:
        self._answer = answer
        self._connections: set[asyncio.Task[None]] = set()
        self._waiting = 0
        self.requests: list[Request] = []
        self.most_at_once = 0

    @property
    def url(self) -> str:
        """Scheme, host and port."""
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.current_task()
        assert connection is not None
        self._connections.add(connection)
        try:
            while (request := await _read(reader)) is not None:
                if not await self._reply(request, writer):
                    break
        except (ConnectionError, asyncio.CancelledError):
            pass  # the client went away, or the test is over
        finally:
            self._connections.discard(connection)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _reply(self, request: Request, writer: asyncio.StreamWriter) -> bool:
        self.requests.append(request)
        self._waiting += 1
        self.most_at_once = max(self.most_at_once, self._waiting)
        try:
            reply = self._answer(request)
            await asyncio.sleep(3600 if reply.ending == "hang" else reply.delay_s)
        finally:
            self._waiting -= 1
        if reply.ending == "reset":
            writer.transport.abort()
            return False
        body = reply.body.encode()
        headers = {**reply.headers, "Content-Length": str(len(body))}
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        writer.write(f"HTTP/1.1 {reply.status} Scripted\r\n{head}\r\n".encode())
        for piece in _pieces(body, reply.ending):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.05 if reply.ending == "drip" else 0)
        return reply.ending != "cut"


def _pieces(body: bytes, ending: Ending) -> list[bytes]:
    if ending == "drip":
        return [bytes([byte]) for byte in body]
    return [body[: len(body) // 2] if ending == "cut" else body]


async def _read(reader: asyncio.StreamReader) -> Request | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.split("\r\n")
    target = urlsplit(first.split(" ")[1])
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
    return Request(target.path, dict(parse_qsl(target.query)), headers, time.monotonic())
