"""Connections of one process to the bus: as many as calls wait at once, made when needed, thrown away when in doubt.

Each call is one round trip, nothing is tried again behind the caller's back, and one that is cut short by a time-out or
a cancellation costs its connection, for the answer may still come. Not here: what is asked (``live``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from typing import Any, NoReturn, cast

import hiredis
from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError, ResponseError

from mdp.bus.address import ANSWER_S, CONNECT_S, Address
from mdp.bus.live_script import MARK, Script
from mdp.config.masking import masked
from mdp.errors import BusUnavailable

OLDEST_SERVER = 7
"""First major version whose streams forget what was deleted while it was taken."""


class Connections:
    """The connections of one event loop.

    Args:
        address: Where the bus is.
        mark: Key of the mark that each start of the server gets before anything is written.
        hint: What to do when nobody is there, for people; may be empty.
    """

    def __init__(self, address: Address, mark: bytes, hint: str = "") -> None:
        self._where = masked(address.url) if address.keeps is None else str(address.keeps / "bus")
        self._mark = mark
        self._hint = hint
        self._maker: Any = ConnectionPool.from_url(
            address.url,
            socket_timeout=None,  # the call as a whole has one
            socket_connect_timeout=CONNECT_S,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            driver_info=None,
        )
        self._idle: list[AbstractConnection] = []
        self._lent: set[AbstractConnection] = set()
        self._run = ""
        self._losses = 0
        self._is_closed = False

    @property
    def epoch(self) -> str:
        """Return which server answered last, and which start of it; empty before the first answer."""
        return f"{self._run}.{self._losses}" if self._losses else self._run

    def lost_something(self) -> None:
        """Begin another epoch: the server is the same, but not all is there that was written."""
        self._losses += 1

    async def call(self, *words: Any, wait_s: float = 0.0) -> Any:
        """Send a command and return its answer.

        Args:
            words: The command.
            wait_s: How long the server itself may wait before it answers.

        Raises:
            BusUnavailable: no answer, or one that is an error.
            ResponseError: the error, where a script of ours gave it.
        """
        try:
            async with asyncio.timeout(ANSWER_S + wait_s):
                return await self._call(words)
        except ResponseError as error:
            if isinstance(error, NoScriptError) or str(error).startswith("HELD "):
                raise
            self._fail(error)
        except (RedisError, OSError, TimeoutError) as error:
            self._fail(error)

    async def run(self, script: Script, keys: tuple[bytes, ...], *arguments: Any) -> Any:
        """Run a script as one step; its text is sent only to a server that does not know it."""
        try:
            return await self.call("EVALSHA", script.sha, len(keys), *keys, *arguments)
        except NoScriptError:
            return await self.call("EVAL", script.text, len(keys), *keys, *arguments)

    async def open_another(self) -> AbstractConnection:
        """Return a connection that belongs to the caller alone, until it gives it to ``drop``.

        Raises:
            BusUnavailable: nobody is there.
        """
        try:
            async with asyncio.timeout(ANSWER_S):
                connection = await self._connect()
        except (RedisError, OSError, TimeoutError) as error:
            self._fail(error)
        self._lent.add(connection)
        return connection

    async def drop(self, connection: AbstractConnection) -> None:
        """Close a connection of ``open_another``."""
        self._lent.discard(connection)
        await _drop(connection)

    async def close(self) -> None:
        """Close what is open."""
        self._is_closed = True
        await self._forget_idle()
        for connection in list(self._lent):
            await self.drop(connection)

    async def _call(self, words: tuple[Any, ...]) -> Any:
        connection = self._idle.pop() if self._idle else await self._connect()
        try:
            answer = await _asked(connection, *words)
        except ResponseError:
            self._idle.append(connection)
            raise
        except BaseException:
            await _drop(connection)
            await self._forget_idle()  # they go the same way; each would otherwise fail a call of its own
            raise
        if self._is_closed:
            await _drop(connection)
        else:
            self._idle.append(connection)
        return answer

    async def _connect(self) -> AbstractConnection:
        connection: AbstractConnection = self._maker.make_connection()
        try:
            await _sent(cast("Any", connection).connect())
            told = (await _asked(connection, "INFO", "server")).decode()
            facts = dict(line.split(":", 1) for line in told.splitlines() if ":" in line)
            if int(facts.get("redis_version", "0").partition(".")[0]) < OLDEST_SERVER:
                raise ResponseError(f"it is of version {facts.get('redis_version')}: 7 or later is needed")
            await _asked(connection, "EVAL", MARK.text, 1, self._mark, facts["run_id"])
        except BaseException:
            await _drop(connection)
            raise
        if facts["run_id"] != self._run:
            self._run, self._losses = facts["run_id"], 0
        return connection

    async def _forget_idle(self) -> None:
        idle, self._idle = self._idle, []
        for connection in idle:
            await _drop(connection)

    def _fail(self, error: BaseException) -> NoReturn:
        why = str(error) or f"no answer within {ANSWER_S:g} s"
        hint = self._hint if isinstance(error, RedisConnectionError) else ""
        raise BusUnavailable(f"the bus ({self._where}) cannot be reached: {why}{hint}") from error


async def _drop(connection: AbstractConnection) -> None:
    """Close a connection without waiting for the other side."""
    with suppress(RedisError, OSError, RuntimeError):
        await _sent(connection.disconnect(nowait=True))


async def _asked(connection: AbstractConnection, *words: Any) -> Any:
    # the library's own packing takes a hundred microseconds for the sixty words of a step of ours, this takes five
    await _sent(connection.send_packed_command(hiredis.pack_command(words), check_health=False))
    return await _sent(connection.read_response())


def _sent(awaitable: Any) -> Awaitable[Any]:
    return cast("Awaitable[Any]", awaitable)  # the library leaves it untyped
