"""The end of the service, known before it comes: streams say goodbye while their connections are still open.

Not here: waiting for requests in flight, which the server does (``cli.serve``).
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def told_of_the_end(closing: asyncio.Event) -> Iterator[None]:
    """Set an event when this process is told to end, and pass the signal on to whoever heeded it before.

    uvicorn tells an application of the end only once all connections are closed, which a stream never does by itself.
    In a thread that is not the main one no signal comes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in _SIGNALS}

    def heed(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(closing.set)
        handler = before[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)

    for number in _SIGNALS:
        signal.signal(number, heed)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
