"""The count that all processes share: one connection to the bus, and the calls of one process.

Not here: the rules (``script``), who waits (``desk``), what happens without it (``local``).
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import time
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import Any, cast

import msgspec
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError, ResponseError

from mdp.bus.address import ANSWER_S, CONNECT_S, Address, machine
from mdp.bus.messages import Answered, Ask, Cooling, Hello, Recalled, Reply, Want
from mdp.bus.script import PREFIX, SCRIPT
from mdp.bus.terms import Terms
from mdp.domain.quota import Priority

NO_WAIT_S = 0.005
"""Less is the call itself."""

_SHA = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Reply).decode


class BusLost(Exception):
    """The bus does not answer, or not as it should; never leaves this package."""


def connect(address: Address) -> Redis:
    """Return a client with one connection, made when first used. Nothing is tried again behind our back."""
    return Redis.from_url(
        address.url,
        single_connection_client=True,
        socket_timeout=ANSWER_S,
        socket_connect_timeout=CONNECT_S,
        retry=Retry(NoBackoff(), 0),
    )


class SharedCount:
    """The shared count as one process of one exchange sees it. Belongs to one event loop.

    Args:
        address: Where the bus is.
        egress: Name of the address from which requests leave.
        terms: Quotas and shares.
    """

    def __init__(self, address: Address, egress: str, terms: Terms) -> None:
        self._address = address
        self._terms = terms
        self._client: Redis | None = None
        name = f"{egress}:{terms.name}"
        self._key = f"{PREFIX}{{{name}}}"
        self._ask = Ask(
            name=name,
            client=secrets.token_hex(6),
            machine=machine(),
            mono=0.0,
            env=terms.env,
            timeout=terms.timeout_s,
            horizon=terms.horizon_s,
            quotas=terms.quota_terms(),
            live=terms.priority is Priority.LIVE,
        )
        self.client_id = self._ask.client
        self.seen_at = 0.0
        self.room = [0.0] * len(terms.quotas)

    async def join(self, recalled: list[Recalled], cooling: list[Cooling]) -> Reply:
        """Connect, and write what this process asked in the last windows into the count.

        Raises:
            BusLost: nobody is there, or nobody who can count.
        """
        await self.leave()
        try:
            client = self._client = connect(self._address)
            await cast("Awaitable[Any]", client.initialize())
            server = await client.info("server")
            run, uptime_s = server["run_id"], float(server["uptime_in_seconds"])
            await client.script_load(SCRIPT)
        except (RedisError, OSError, KeyError) as error:
            raise BusLost(str(error)) from error
        self._ask.hello = Hello(run, uptime_s, secrets.token_hex(6), _is_new(self._address))
        try:
            return await self._call(recalled=recalled, cooling=cooling)
        finally:
            self._ask.hello = None

    async def ask(
        self,
        wants: list[Want],
        answered: list[Answered],
        cooling: list[Cooling],
        *,
        waited: Sequence[float] = (),
        about: str = "",
    ) -> Reply:
        """Settle requests that ended and ask leave for others, in one step.

        Raises:
            BusLost: whether any of it was counted is not known.
        """
        return await self._call(
            wants=wants,
            answered=answered,
            cooling=cooling,
            waited_s=sum(waited),
            waits=sum(seconds > NO_WAIT_S for seconds in waited),
            about=about,
        )

    async def leave(self) -> None:
        """Close the connection."""
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(RedisError, OSError):
                await client.aclose()

    async def _call(self, **said: Any) -> Reply:
        ask = msgspec.structs.replace(self._ask, mono=time.monotonic(), **said)
        if self._client is None:
            raise BusLost("not connected")
        try:
            body = await self._evaluate(self._client, _encode(ask))
            reply = _decode(body)
        except (RedisError, OSError, msgspec.MsgspecError) as error:
            raise BusLost(str(error)) from error
        self._learn(reply)
        return reply

    async def _evaluate(self, client: Redis, body: bytes) -> bytes:
        for is_known in (True, False):
            try:
                return cast("bytes", await cast("Any", client).execute_command("EVALSHA", _SHA, 1, self._key, body))
            except NoScriptError:  # somebody flushed the server's scripts
                if not is_known:
                    raise
                await client.script_load(SCRIPT)
        raise ResponseError("the server does not keep scripts")

    def _learn(self, reply: Reply) -> None:
        """Keep the best lower bound of (the count's clock - ours): its clock was read before the answer came."""
        ask = self._ask
        self.seen_at = time.monotonic()
        ahead = reply.now - self.seen_at
        if reply.epoch != ask.epoch or ask.ahead is None or ahead > ask.ahead:
            ask.ahead = ahead
        ask.epoch = reply.epoch
        ask.waiting_at = reply.waiting_at
        self.room = reply.room


def new_mark(bus_dir: Path) -> Path:
    """Return the file that is there while the server of a ``bus_dir`` has never been started a second time."""
    return bus_dir / "bus" / "is-new"


def _is_new(address: Address) -> bool:
    return address.keeps is not None and new_mark(address.keeps).exists()
