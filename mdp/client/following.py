"""Streams in a thread that waits: connected for ever, with what was missed fetched before going on.

Not here: the same in the event loop (``streaming``), what is to be done next (``course``).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Self

from websockets.sync.client import ClientConnection, reconnect

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


class _Direct(reconnect):
    """A connection to the very service that was named, and to no other to which it might point."""

    def process_redirect(self, exc: Exception) -> Exception:
        return exc


class Stream(Iterator[StreamUpdate]):
    """Updates as they come, for ever: close it when done, best with ``with``.

    It ends with the error where trying again cannot help, such as a wrong key or a topic that is not there. Use
    it in one thread; :meth:`close` may come from another.

    Args:
        address: Of the service.
        course: What is wanted and known.
        fetch: Gives stored candles.
    """

    def __init__(self, address: Address, course: Course, fetch: Callable[[Fill], list[LiveCandle]]) -> None:
        self._address = address
        self._course = course
        self._fetch = fetch
        self._connection: ClientConnection | None = None
        self._closed = threading.Event()

    def __next__(self) -> StreamUpdate:
        while not self._closed.is_set():
            if self._course.ready:
                return self._course.ready.popleft()
            try:
                self._advance()
            except (*FAILURES, ApiError) as failure:
                self._disconnect()
                if not self._closed.is_set():  # else it is what closing looks like from here
                    self._course.lost(failure)
        raise StopIteration

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; no more updates come."""
        self._closed.set()
        self._disconnect()

    def buffer(self, market: str | Market, timeframe: str | Timeframe) -> CandleBuffer | None:
        """Return all that is known of a buffer now; None before its first snapshot."""
        from mdp.domain.candle_buffer import CandleBuffer

        held = self._course.tracker.buffer(as_market(market), as_timeframe(timeframe))
        return None if held is None else CandleBuffer.of(held)

    def _advance(self) -> None:
        connection = self._connection or self._connect()  # another thread may close the stream at any time
        if connection is None:
            return
        step = self._course.next_step
        if isinstance(step, Send):
            connection.send(step.text)
            self._course.sent()
        elif isinstance(step, Fill):
            self._fill(step)
        else:
            self._course.heard(self._hear(connection))

    def _connect(self) -> ClientConnection | None:
        """Connect after the pause; None: the stream was closed meanwhile."""
        if self._closed.wait(self._course.pause_s):
            return None
        connection = _Direct(self._address.stream_url, **options(self._address)).__enter__()
        self._connection = connection
        if self._closed.is_set():  # maybe before it was there to be closed
            connection.close()
            return None
        self._course.opened()
        return connection

    def _hear(self, connection: ClientConnection) -> str | bytes:
        try:
            return connection.recv(timeout=self._course.patience_s)
        except TimeoutError as error:
            raise self._course.silent() from error

    def _fill(self, fill: Fill) -> None:
        try:
            candles = self._fetch(fill)
        except ApiError as error:
            self._course.not_filled(fill, error)
        else:
            self._course.filled(fill, candles)

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
