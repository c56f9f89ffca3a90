"""The right to be the only one: a key of the bus that lapses by the server's clock.

Not here: the steps on the server (``live_script``), who needs which lease (``live``, ``defs``).
"""

from __future__ import annotations

from mdp.bus.connections import Connections
from mdp.bus.live_script import FREE, HOLD
from mdp.errors import InputError


class LiveLease:
    """A lease that was taken.

    One that lapsed is lost. Only where the server was started again meanwhile, so that the delay was not the holder's,
    it is taken again if nobody else has it.

    Args:
        connections: Of the process.
        key: Where it is.
        name: Of the lease.
        holder: Of it.
        for_s: How long it lasts without being renewed.
    """

    def __init__(self, connections: Connections, key: bytes, name: str, holder: str, for_s: float) -> None:
        self._connections = connections
        self._key = key
        self.name = name
        self.holder = holder
        self._for_ms = as_milliseconds(for_s)
        self._epoch = ""
        self._is_released = False

    async def take(self) -> bool:
        """Take it, for the first time; False: somebody else has it."""
        return await self._hold(may_take=True)

    async def renew(self) -> bool:
        """Extend it; False: it lapsed and may be somebody else's now."""
        if self._is_released:
            return False
        is_held = await self._hold(may_take=False)
        if not is_held and self._connections.epoch != self._epoch:
            is_held = await self._hold(may_take=True)
        return is_held

    async def release(self) -> None:
        """Give it up, if it is still held."""
        self._is_released = True
        await self._connections.run(FREE, (self._key,), self.holder)

    async def _hold(self, *, may_take: bool) -> bool:
        held = await self._connections.run(HOLD, (self._key,), self.holder, self._for_ms, int(may_take))
        if held:
            self._epoch = self._connections.epoch
        return bool(held)


def as_milliseconds(for_s: float) -> int:
    """Return a time to live as the server counts it.

    Raises:
        InputError: it is not above 0.
    """
    if not for_s > 0:
        raise InputError("for_s", got=for_s, expected="seconds above 0")
    return max(1, round(for_s * 1_000))
