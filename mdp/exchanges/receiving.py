"""One answer on its way: never more of it is received than was booked before, where bandwidth is limited.

Not here: the booking (``ports.Bandwidth``), what is asked (``asking``, ``archive_downloads``).
"""

from __future__ import annotations

import socket
from types import TracebackType
from typing import Self

import aiohttp

from mdp.exchanges.verdicts import Answer
from mdp.ports import Bandwidth

_PARTS = 6


class Receiving:
    """What is booked for one answer, and what came of it; use it inside ``async with``, around the request.

    What was booked and did not come is given back; what came without being booked is counted afterwards.

    Args:
        bandwidth: Where it is booked; None: there is no limit, and nothing is done.
        ahead: Bytes that may come before anybody looks; None: the bandwidth's window.

    Attributes:
        waited_s: Seconds that this answer waited for its bookings.
    """

    def __init__(self, bandwidth: Bandwidth | None, ahead: int | None = None) -> None:
        self.waited_s = 0.0
        self._bandwidth = bandwidth
        self._ahead = ahead if ahead is not None or bandwidth is None else bandwidth.window
        self._size: int | None = None
        self._booked = self._received = 0

    async def __aenter__(self) -> Self:
        await self._book(self._ahead or 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.count(0)

    def expect(self, size: int | None) -> None:
        """Note how large the answer is, where it says so; what was booked beyond it is given back at once."""
        self._size = size
        if self._bandwidth is not None and size is not None and size < self._booked:
            self._bandwidth.charge(size - self._booked)
            self._booked = size

    async def took(self, size: int) -> None:
        """Count a part that came, and wait until as much more may come."""
        self._received += size
        if self._bandwidth is None:
            return
        wanted = self._received + (self._ahead or 0)
        await self._book((wanted if self._size is None else min(wanted, self._size)) - self._booked)

    def count(self, size: int) -> None:
        """Count the rest of the answer, after which nothing comes; without waiting."""
        self._received += size
        if self._bandwidth is not None and self._received != self._booked:
            self._bandwidth.charge(self._received - self._booked)
            self._booked = self._received

    async def _book(self, size: int) -> None:
        if self._bandwidth is not None and size > 0:
            self._booked += size
            self.waited_s += await self._bandwidth.reserve(size)


def size_of(answer: Answer) -> int:
    """Return how many bytes an answer took on its way, as its header says.

    Where it does not, and the answer was packed, its length when unpacked: more than was received, never less.
    """
    said = answer.headers.get("content-length", "")
    return int(said) if said.isdecimal() else len(answer.body)


def limited_connector(bandwidth: Bandwidth, connections: int) -> aiohttp.TCPConnector:
    """Return a connector whose sockets take no more ahead of their reader than is booked ahead.

    The kernel would otherwise receive whole files while nobody reads them. It takes the double of what it is told; as
    much is what aiohttp buffers (:func:`buffer_size`), and what it reads last: together the window.
    """

    def open_socket(address: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, _, _ = address
        opened = socket.socket(family, kind, protocol)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, bandwidth.window // _PARTS)
        return opened

    return aiohttp.TCPConnector(limit=connections, socket_factory=open_socket)


def buffer_size(bandwidth: Bandwidth) -> int:
    """Return aiohttp's ``read_bufsize``: it stops reading at the double of it."""
    return bandwidth.window // _PARTS
