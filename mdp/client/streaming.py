"""Streams in the event loop: connected for ever, with what was missed fetched before going on.

Not here: the same in a thread (``following``), what is to be done next (``course``).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from websockets.asyncio.client import ClientConnection, connect

from mdp.client.address import Address
from mdp.client.arguments import as_market, as_timeframe
from mdp.client.connecting import FAILURES, options
from mdp.client.course import Course
from mdp.client.errors import ApiError
from mdp.client.tracking import Fill, Send
from mdp.client.updates import StreamUpdate
from mdp.domain.live import LiveCandle
from mdp.domain.market import Market
from mdp.domain.timeframe import Timeframe

if TYPE_CHECKING:
    from mdp.domain.candle_buffer import CandleBuffer


class _Direct(connect):
    """A connection to the very service that was named, and to no other to which it might point."""

    def process_redirect(self, exc: Exception) -> Exception:
        return exc


class AsyncStream(AsyncIterator[StreamUpdate]):
    """Updates as they come, for ever: close it when done, best with ``async with``.

    It ends with the error where trying again cannot help, such as a wrong key or a topic that is not there. Waiting for
    an update may be cancelled, as ``asyncio.wait_for`` does: nothing is lost, the next one comes when asked again.

    Args:
        address: Of the service.
        course: What is wanted and known.
        fetch: Gives stored candles.
    """

    def __init__(self, address: Address, course: Course, fetch: Callable[[Fill], Awaitable[list[LiveCandle]]]) -> None:
        self._address = address
        self._course = course
        self._fetch = fetch
        self._connection: ClientConnection | None = None
        self._is_closed = False

    async def __anext__(self) -> StreamUpdate:
        while not self._is_closed:
            if self._course.ready:
                return self._course.ready.popleft()
            try:
                await self._advance()
            except (*FAILURES, ApiError) as failure:
                await self._disconnect()
                if not self._is_closed:  # else it is what closing looks like from here
                    self._course.lost(failure)
        raise StopAsyncIteration

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connection; no more updates come."""
        self._is_closed = True
        await self._disconnect()

    def buffer(self, market: str | Market, timeframe: str | Timeframe) -> CandleBuffer | None:
        """Return all that is known of a buffer now; None before its first snapshot."""
        from mdp.domain.candle_buffer import CandleBuffer

        held = self._course.tracker.buffer(as_market(market), as_timeframe(timeframe))
        return None if held is None else CandleBuffer.of(held)

    async def _advance(self) -> None:
        connection = self._connection or await self._connect()  # another task may close the stream at any time
        if connection is None:
            return
        step = self._course.next_step
        if isinstance(step, Send):
            await connection.send(step.text)
            self._course.sent()
        elif isinstance(step, Fill):
            await self._fill(step)
        else:
            self._course.heard(await self._hear(connection))

    async def _connect(self) -> ClientConnection | None:
        """Connect after the pause; None: the stream was closed meanwhile."""
        await asyncio.sleep(self._course.pause_s)
        if self._is_closed:
            return None
        connection = await _Direct(self._address.stream_url, **options(self._address))
        if self._is_closed:
            await connection.close()
            return None
        self._connection = connection
        self._course.opened()
        return connection

    async def _hear(self, connection: ClientConnection) -> str | bytes:
        try:
            async with asyncio.timeout(self._course.patience_s):
                return await connection.recv()
        except TimeoutError as error:
            raise self._course.silent() from error

    async def _fill(self, fill: Fill) -> None:
        try:
            candles = await self._fetch(fill)
        except ApiError as error:
            self._course.not_filled(fill, error)
        else:
            self._course.filled(fill, candles)

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()
