"""Ends of connections that no HTTP server offers: reset, dropped, left alone.

Not here: when a connection ends like that (``wire``).
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any

from starlette.types import Receive

_AT_ONCE = struct.pack("ii", 1, 0)
"""SO_LINGER: closing throws away what was not sent and tells the other side by RST."""


def reset(transport: Any) -> None:
    """Reset a TCP connection.

    Args:
        transport: Of the connection; None where a client asks inside this process.

    Raises:
        ConnectionResetError: there is no connection that could be reset.
    """
    if transport is None:
        raise ConnectionResetError("the simulator resets the connection")
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
    transport.abort()


def abort(transport: Any) -> None:
    """Close a connection without another byte.

    Raises:
        ConnectionResetError: there is no connection that could be closed.
    """
    if transport is None:
        raise ConnectionResetError("the simulator closes the connection")
    transport.abort()


async def until_disconnected(receive: Receive, seconds: float | None = None) -> None:
    """Return when the client is gone, at the latest after ``seconds``."""

    async def wait() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    try:
        await asyncio.wait_for(wait(), seconds)
    except TimeoutError:
        return
