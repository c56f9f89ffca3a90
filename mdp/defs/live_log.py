"""What a live run tells Dagster, told from a thread so that nothing waits for Dagster's database.

Writing an event takes 10 to 50 ms, and seconds when others write too; meanwhile no lease would be renewed. Not here:
what is told.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

Answer = TypeVar("Answer")


class Telling(Protocol):
    """The part of Dagster's context of an op that is used here."""

    @property
    def log(self) -> Any:
        """Where lines of the run log go."""
        ...

    def log_event(self, event: Any) -> None:
        """Store an event."""
        ...


class RunLog:
    """Writes lines and events of a run in the order in which they came, from one thread. Use it inside ``with``."""

    def __init__(self, context: Telling) -> None:
        self._context = context
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="run-log")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown(wait=True)

    def info(self, message: str) -> None:
        """Say what is good to know."""
        self._put(lambda: self._context.log.info(message))

    def warning(self, message: str) -> None:
        """Say what a person must know."""
        self._put(lambda: self._context.log.warning(message))

    def error(self, message: str) -> None:
        """Say what is broken."""
        self._put(lambda: self._context.log.error(message))

    def event(self, event: Any) -> None:
        """Store an event."""
        self._put(lambda: self._context.log_event(event))

    async def ask(self, question: Callable[[], Answer]) -> Answer:
        """Ask Dagster's storage something, behind what was said before."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, question)

    def _put(self, write: Callable[[], None]) -> None:
        self._thread.submit(_write, write)


def _write(write: Callable[[], None]) -> None:
    try:
        write()
    except Exception:  # buffers are worth more than words about them
        logging.getLogger(__name__).exception("Dagster did not take what the live run told")
