"""The lease of a feed: taken before anything is published, renewed all the time, and the end of the feed if it is lost.

Not here: how leases are kept (``bus``), what is done while it is held (``feed``).
"""

from __future__ import annotations

import asyncio
import logging
import time

from mdp.errors import BusUnavailable, LeaseHeld
from mdp.ports import Lease, LiveBus

_log = logging.getLogger(__name__)

_ASKED_AGAIN_S = 0.2


class Tenure:
    """The right to be the only feed of an exchange.

    Nothing may be published unless :meth:`is_valid`: also a process that was stopped for a while, and woke after its
    lease had lapsed, does not write a single candle before it has asked again.

    Args:
        bus: Where the lease is kept.
        name: Of the lease, such as ``feed/binance``.
        holder: Who holds it.
        lease_s: How long it lasts without being renewed.
    """

    def __init__(self, bus: LiveBus, name: str, holder: str, lease_s: float) -> None:
        self._bus = bus
        self.name = name
        self.holder = holder
        self._lease_s = lease_s
        self._lease: Lease | None = None
        self._valid_until = 0.0
        self._is_valid = asyncio.Event()

    def is_valid(self) -> bool:
        """Tell whether the lease is ours, for certain, in this instant."""
        return time.monotonic() < self._valid_until

    async def wait_valid(self) -> None:
        """Wait until it is ours for certain; without end while the bus is away."""
        while not self.is_valid():
            self._is_valid.clear()
            await self._is_valid.wait()

    async def take(self, *, waits: bool) -> None:
        """Take the lease.

        Args:
            waits: Whether to wait until whoever holds it is gone.

        Raises:
            LeaseHeld: somebody else holds it.
            BusUnavailable: the bus cannot be reached.
        """
        while True:
            asked_at = time.monotonic()
            self._lease = await self._bus.lease(self.name, self.holder, for_s=self._lease_s)
            if self._lease is not None:
                self._confirm(asked_at)
                return
            if not waits:
                raise LeaseHeld(self.name, await self._bus.holder_of(self.name) or "another process")
            await asyncio.sleep(_ASKED_AGAIN_S)

    async def hold(self) -> None:
        """Renew it until it is lost. A bus that is away, or came back without it, is no loss unless another has it.

        Raises:
            LeaseHeld: another process has it now.
        """
        while True:
            asked_at = time.monotonic()
            try:
                await self._renew(asked_at)
            except BusUnavailable:
                await asyncio.sleep(_ASKED_AGAIN_S)
                continue
            await asyncio.sleep(self._lease_s / 4)

    async def release(self) -> None:
        """Give it up, so that the next feed need not wait for it to lapse."""
        self._valid_until = 0.0
        if self._lease is not None:
            await self._lease.release()
            self._lease = None

    async def _renew(self, asked_at: float) -> None:
        if self._lease is not None and await self._lease.renew():
            self._confirm(asked_at)
            return
        self._valid_until = 0.0
        _log.warning("%s: the lease had lapsed; it is asked for again", self.name)
        self._lease = await self._bus.lease(self.name, self.holder, for_s=self._lease_s)
        if self._lease is None:
            raise LeaseHeld(self.name, await self._bus.holder_of(self.name) or "another process")
        self._confirm(asked_at)

    def _confirm(self, asked_at: float) -> None:
        # the bus counts from when the question came there: not before it was asked
        self._valid_until = asked_at + self._lease_s
        self._is_valid.set()
