"""Reading from storage in a thread of its own, so that a store that hangs holds up nothing else.

The threads of the event loop are few: names of hosts are looked up in them, and the process waits for them at its end.
Not here: what is read (``seeding``, ``rereading``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from threading import Thread
from typing import TypeVar

Read = TypeVar("Read")


async def read_aside(function: Callable[[], Read]) -> Read:
    """Return what a function returns, or raise what it raises. If this is cancelled, the function goes on alone."""
    loop = asyncio.get_running_loop()
    reading: asyncio.Future[Read] = loop.create_future()

    def finish(error: BaseException | None, value: Read | None) -> None:
        if reading.done():  # nobody waits any more
            return
        if error is not None:
            reading.set_exception(error)
        else:
            reading.set_result(value)  # type: ignore[arg-type]

    def work() -> None:
        error, value = None, None
        try:
            value = function()
        except BaseException as raised:  # whoever waits is told, whatever it is
            error = raised
        call_in(loop, partial(finish, error, value))

    Thread(target=work, name="reading storage", daemon=True).start()
    return await reading


def call_in(loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
    """Have a loop call a function, from another thread, in the order of the calls; once it has ended: nothing."""
    with suppress(RuntimeError):  # closed
        loop.call_soon_threadsafe(function)
