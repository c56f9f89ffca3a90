"""One WebSocket of an exchange: opened, listened to, kept alive, given up at once when it is dead.

It stands in for CCXT's own client, which makes a task of every message, counts only pongs as a sign of life, waits for
a peer that is gone to say goodbye, and after some errors stays in its table as a connection that hears nothing.
Not here: what messages mean (each exchange's ``stream_parse``), who watches what (``stream``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import monotonic
from typing import Any, NamedTuple

import aiohttp
import msgspec
from aiohttp import WSMsgType
from ccxt.async_support.base.ws.client import Client

PING_EVERY_S = 4.0
SILENT_FOR_S = 9.0
"""A connection from which nothing came for so long, no pong either, is dead: noticed after 13 s at the latest."""

_GOODBYE_S = 0.2
_LONGEST_MESSAGE = 1 << 20
_FRAMES = frozenset({WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.PING, WSMsgType.PONG, WSMsgType.CLOSE})
"""What the other side sends; the rest is aiohttp saying that the connection broke."""

Message = dict[str, Any] | str


class Closed(Exception):
    """The exchange closed the connection, or it broke.

    Attributes:
        code: Of the closing frame; 1006 where none came.
        reason: What the frame said.
    """

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(f"closed with code {code}" + (f" ({reason[:200]})" if reason else ""))
        self.code = code
        self.reason = reason


class Silent(Exception):
    """The connection gives no sign of life."""


class Manner(NamedTuple):
    """How an exchange wants its connection to be used.

    Attributes:
        timeout_s: Seconds until a handshake without an answer counts as failed.
        pace_s: Seconds between two messages of ours.
        ping: Makes the message that the exchange answers; None: a frame of the protocol's own.
        greetings: What is said first on each connection.
    """

    timeout_s: float
    pace_s: float = 0.0
    ping: Callable[[], Message] | None = None
    greetings: Sequence[Message] = ()


class Listener(NamedTuple):
    """Who hears what a connection says; called inside the event loop.

    Attributes:
        hear: A text message.
        sign: Anything at all came: a sign of life.
        end: The connection ended, once, and why.
    """

    hear: Callable[[Wire, str], None]
    sign: Callable[[], None]
    end: Callable[[Wire, Exception], None]


class Wire(Client):
    """One connection. CCXT may use it as its client, or anybody as it is.

    Args:
        url: Where to.
        session: Opens it; stays open after it.
        listener: Who hears.
        manner: How.

    Attributes:
        asked: Of each request that was sent, the markets it asked for; kept by whoever sends and hears.
        accepted: Markets whose subscription stands.
        before_send: Told of each message when it is its turn.
    """

    # CCXT says what it begins with, None, rather than what it is
    url: Any
    connection: Any
    connected: Any

    before_send: Callable[[Wire, Message], None] | None = None

    def __init__(self, url: str, session: aiohttp.ClientSession, listener: Listener, manner: Manner) -> None:
        super().__init__(url, None, None, None, None, {"keepAlive": 0})  # type: ignore[no-untyped-call]
        self._session = session
        self.asked: dict[str, tuple[str, ...]] = {}
        self.accepted: set[str] = set()
        self._listener = listener
        self._manner = manner
        self._over = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._turn = asyncio.Lock()
        self._sent_at = -manner.pace_s
        self._heard_at = 0.0

    @property
    def is_over(self) -> bool:
        """Tell whether it ended."""
        return self._over.is_set()

    def connect(self, *_: object) -> asyncio.Future[Any]:
        """Open it, once; the future is done when it is open, and never if it cannot be.

        What CCXT would like to give, a session of its own and a time to wait, is not needed.
        """
        if not self._tasks and not self.is_over:
            self._tasks.append(asyncio.create_task(self._live()))
        connected: asyncio.Future[Any] = self.connected
        return connected

    async def send(self, message: Message) -> None:
        """Send a message, in turn and no faster than the exchange likes.

        Raises:
            ConnectionError: it ended.
        """
        async with self._turn:
            await self._wait_turn()
            if self.closed() or self.is_over:
                raise ConnectionError("the connection ended before this was sent")
            text = message if isinstance(message, str) else msgspec.json.encode(message).decode()
            if self.before_send is not None:
                self.before_send(self, message)
            self._sent_at = monotonic()
            await self.connection.send_str(text)

    async def _wait_turn(self) -> None:
        wait_s = self._sent_at + self._manner.pace_s - monotonic()
        if wait_s > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), wait_s)

    def answer(self, message: Message) -> None:
        """Send a message without waiting for it; if that fails, the connection ends."""
        task = asyncio.create_task(self._send_or_end(message))
        self._tasks.append(task)
        task.add_done_callback(self._tasks.remove)

    async def _send_or_end(self, message: Message) -> None:
        try:
            await self.send(message)
        except (aiohttp.ClientError, OSError) as error:
            self.end(error)

    def closed(self) -> bool:
        """Tell whether nothing can be sent: not open yet, or not any more."""
        return self.connection is None or self.connection.closed

    def forget(self, *names: str) -> None:
        """Forget that something was subscribed to, so that CCXT asks for it again.

        Args:
            names: Spellings of a market, any of which CCXT may have used for its notes.
        """
        for key in [key for key in self.subscriptions if not set(names).isdisjoint(key.split(":"))]:
            del self.subscriptions[key]

    def on_error(self, error: Exception) -> None:
        """Take note that it failed; CCXT calls this."""
        self.end(error)

    def on_close(self, code: int) -> None:
        """Take note that it was closed; CCXT calls this."""
        self.end(Closed(code))

    def end(self, error: Exception) -> None:
        """Give it up at once: nothing is waited for, and whoever listens is told why. Again: nothing."""
        if self.error is not None:
            return
        self._over.set()
        self.error = error
        current = asyncio.current_task()
        for task in list(self._tasks):
            if task is not current:
                task.cancel()
        self._abort()
        self._listener.end(self, error)

    async def close(self, code: int = 1000) -> None:
        """Say goodbye, if the other side is quick, and end it."""
        if not self.closed() and not self.is_over:
            # nobody may wait for a message while the goodbye is waited for
            self._over.set()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            with suppress(TimeoutError, aiohttp.ClientError, OSError):
                async with asyncio.timeout(_GOODBYE_S):
                    await self.connection.close(code=code)
            self._abort()
        self.end(Closed(code))
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _abort(self) -> None:
        """Let the socket go without a word: one that is half-open would keep whoever waits for an answer."""
        if self.connection is None:
            return
        inner = self.connection._conn
        if inner is not None and inner.transport is not None:
            inner.transport.abort()
        self.connection._response.close()

    async def _live(self) -> None:
        """Open the connection and listen until it ends; whatever goes wrong is told once."""
        try:
            async with asyncio.timeout(self._manner.timeout_s):
                self.connection = await self._session.ws_connect(
                    self.url, autoping=False, autoclose=False, max_msg_size=_LONGEST_MESSAGE
                )
                self._note()
                for greeting in self._manner.greetings:
                    await self.send(greeting)
            self._tasks.append(asyncio.create_task(self._keep_alive()))
            self.connected.resolve(self.url)
            await self._listen()
        except Exception as error:  # told to whoever watches, a mistake of ours too
            self.end(error)

    async def _listen(self) -> None:
        receive, hear = self.connection.receive, self._listener.hear
        while not self.is_over:
            message = await receive()
            kind = message.type
            if kind in _FRAMES:
                self._note()
            if kind is WSMsgType.TEXT:
                hear(self, message.data)
            elif kind is WSMsgType.BINARY:
                hear(self, message.data.decode(errors="replace"))
            elif kind is WSMsgType.PING:
                await self.connection.pong(message.data)
            elif kind is not WSMsgType.PONG:
                self.end(_why(message))

    async def _keep_alive(self) -> None:
        try:
            while True:
                await asyncio.sleep(PING_EVERY_S)
                silent_s = monotonic() - self._heard_at
                if silent_s > SILENT_FOR_S:
                    self.end(Silent(f"no sign of life for {silent_s:.0f} s"))
                    return
                await self._ping()
        except Exception as error:
            self.end(error)

    async def _ping(self) -> None:
        if self._manner.ping is None:
            await self.connection.ping()
        else:
            self.answer(self._manner.ping())  # not waited for: who counts the silence may not stand in line

    def _note(self) -> None:
        self._heard_at = monotonic()
        self._listener.sign()


def _why(message: aiohttp.WSMessage) -> Exception:
    """Say why a connection ended, by the last thing that came."""
    if message.type is WSMsgType.CLOSE:
        return Closed(int(message.data), str(message.extra or ""))
    if message.type is WSMsgType.ERROR and isinstance(message.data, Exception):
        return message.data
    return Closed(1006)
