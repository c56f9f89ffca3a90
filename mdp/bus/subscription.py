"""Hearing topics: one connection of its own, which is known to be alive, or ends with an error.

Not here: what is said (``topics``).
"""

from __future__ import annotations

import asyncio
from typing import Any, Self, cast

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError

from mdp.bus.address import ANSWER_S
from mdp.bus.connections import Connections
from mdp.bus.live_keys import LiveKeys
from mdp.errors import BusUnavailable
from mdp.ports.live import Message

QUIET_S = 2.0
"""After so long without a message the server is asked whether it is there."""


class Subscription:
    """Messages whose topic fits one of the patterns, in the order in which they were said.

    It begins with ``ready`` or the first message that is waited for. Whoever wants a buffer and then each change of it
    calls ``ready``, reads the buffer, and passes by what is not newer than its ``seq``.

    Args:
        connections: Of the process.
        keys: Names of the environment.
        patterns: Such as ``candles.binance.*.1m``.
    """

    def __init__(self, connections: Connections, keys: LiveKeys, patterns: tuple[str, ...]) -> None:
        self._connections = connections
        self._keys = keys
        self._patterns = patterns
        self._connection: AbstractConnection | None = None

    async def ready(self) -> None:
        """Return when everything that is said from now on will be heard.

        Raises:
            BusUnavailable: nobody is there.
        """
        if self._connection is not None:
            return
        connection: Any = await self._connections.open_another()
        try:
            async with asyncio.timeout(ANSWER_S):
                await connection.send_command("PSUBSCRIBE", *map(self._keys.channel, self._patterns))
                for _ in self._patterns:
                    await connection.read_response()
        except (RedisError, OSError, TimeoutError) as error:
            await self._connections.drop(connection)
            raise BusUnavailable(f"the bus does not let us subscribe: {error}") from error
        except BaseException:
            await self._connections.drop(connection)
            raise
        self._connection = connection

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        await self.ready()
        try:
            while True:
                kind, *said = await self._hear()
                if kind == b"pmessage":
                    return Message(self._keys.topic(said[1]), said[2])
        except (RedisError, OSError, TimeoutError) as error:
            await self.aclose()
            raise BusUnavailable(f"the bus broke off what it was telling: {error}") from error
        except BaseException:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        """Hear no more."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await self._connections.drop(connection)

    async def _hear(self) -> list[bytes]:
        connection = cast("Any", self._connection)
        # the library gives None where there was nothing to read in time
        heard = await connection.read_response(timeout=QUIET_S, disconnect_on_error=False)
        if heard is None:
            await connection.send_command("PING", check_health=False)
            # a pong, or a message that was faster; the pong that then comes late does no harm
            heard = await connection.read_response(timeout=ANSWER_S, disconnect_on_error=False)
        if heard is None:
            raise TimeoutError(f"silent for {QUIET_S + ANSWER_S:g} s")
        return cast("list[bytes]", heard)
