"""Ending a cool-down before its time, on the word of a person who knows better than the exchange's answer.

Not here: beginning one (``desk``), showing what lasts (``report``).
"""

from __future__ import annotations

from contextlib import closing
from typing import Any, cast

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from mdp.bus.address import ANSWER_S, CONNECT_S, Address, bus_address
from mdp.bus.keeper import Keeper
from mdp.bus.report import ExchangeUse, read_report
from mdp.bus.script import EXCHANGES, PREFIX
from mdp.config.masking import masked
from mdp.config.settings import Settings
from mdp.domain.market import Exchange
from mdp.errors import ConfigError


def lift_cool_down(settings: Settings, exchange: Exchange) -> list[ExchangeUse]:
    """End the cool-down of an exchange at the address of these settings, wherever it is reached.

    The server of a data directory that nobody uses is started for it: its file remembers cool-downs. A process that
    knows of the cool-down already keeps to it until it ends.

    Returns:
        The exchange as it was, once for each cool-down; empty: there was none.

    Raises:
        ConfigError: the bus does not answer.
    """
    address = bus_address(settings)
    if address.keeps is None:
        return _lift(settings, address, exchange)
    if not (address.keeps / "bus").is_dir():
        return []
    keeper = Keeper(address.keeps)
    keeper.start()
    try:
        keeper.wait_until_ready()
        return _lift(settings, address, exchange)
    finally:
        keeper.close()


def _lift(settings: Settings, address: Address, exchange: Exchange) -> list[ExchangeUse]:
    uses = read_report(settings).exchanges
    egress = settings.bus.egress
    retry = Retry(NoBackoff(), 0)
    client = Redis.from_url(address.url, socket_timeout=ANSWER_S, socket_connect_timeout=CONNECT_S, retry=retry)
    with closing(client):
        redis = cast("Any", client)  # the library leaves it untyped
        try:
            for name in (member.decode() for member in redis.smembers(EXCHANGES)):
                if name.partition("@")[0] == f"{egress}:{exchange.value}":
                    redis.hdel(f"{PREFIX}{{{name}}}:state", "cool", "reason")
        except (RedisError, OSError) as error:
            raise ConfigError(
                "MDP_BUS__URL", got=masked(address.url), expected=f"a bus that answers: {error}"
            ) from error
    return [use for use in uses if (use.exchange, use.egress) == (exchange.value, egress) and use.cool_down_s]
