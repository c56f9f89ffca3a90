"""Reading buffers without an event loop, for people, notebooks and the command line; starts nothing.

Not here: following their changes (``live``), frames (``reading``).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any, cast

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from mdp.bus.address import ANSWER_S, CONNECT_S, bus_address
from mdp.bus.live import NOBODY
from mdp.bus.live_keys import LiveKeys, feed_lease
from mdp.bus.rings import unpack_ring
from mdp.config.masking import masked
from mdp.config.settings import Settings
from mdp.domain.live import Buffer
from mdp.domain.market import Market
from mdp.domain.timeframe import Timeframe
from mdp.errors import BusUnavailable


def read_buffer(settings: Settings, market: Market, timeframe: Timeframe) -> Buffer | None:
    """Return a buffer; None where no feed ever wrote one; stale where no feed keeps it now.

    Raises:
        BusUnavailable: nobody runs the bus; says what to start.
        ConfigError: the folder for the bus's socket belongs to somebody else.
    """
    return _read(settings, [(market, timeframe)])[0]


def read_all(settings: Settings) -> list[Buffer]:
    """Return all buffers of the settings' markets that were ever written, by market and timeframe, as of one moment.

    Raises:
        BusUnavailable: nobody runs the bus; says what to start.
        ConfigError: the folder for the bus's socket belongs to somebody else.
    """
    wanted = [(Market.parse(text), timeframe) for text in settings.markets for timeframe in Timeframe]
    return [buffer for buffer in _read(settings, wanted) if buffer is not None]


def _read(settings: Settings, wanted: Sequence[tuple[Market, Timeframe]]) -> list[Buffer | None]:
    address, keys = bus_address(settings), LiveKeys(settings.env)
    retry = Retry(NoBackoff(), 0)
    client = Redis.from_url(address.url, socket_timeout=ANSWER_S, socket_connect_timeout=CONNECT_S, retry=retry)
    leases = {market.exchange: keys.lease(feed_lease(market.exchange)) for market, _ in wanted}
    with closing(client):
        try:
            names = [keys.place(*one).ring for one in wanted] + list(leases.values())
            found = cast("Any", client).mget(names)
        except (RedisError, OSError) as error:
            where, hint = (masked(address.url), "") if address.keeps is None else (str(address.keeps / "bus"), NOBODY)
            raise BusUnavailable(f"the bus ({where}) cannot be reached: {error}{hint}") from error
    rings, held = found[: len(wanted)], dict(zip(leases, found[len(wanted) :], strict=True))
    buffers = [unpack_ring(ring, *one) for ring, one in zip(rings, wanted, strict=True)]
    return [
        replace(one, is_stale=True) if one is not None and held[one.market.exchange] is None else one for one in buffers
    ]
