"""How everything of live trading is called on the bus: keys, and the channels of topics.

All names of an environment share the part in braces, so that a cluster keeps them on one node and a script may use
them together. Not here: what stands under the keys (``rings``, ``entries``, ``topics``).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from mdp.domain.market import Exchange, Market
from mdp.domain.timeframe import Timeframe

GROUP = b"persister"
"""The consumer group of the closed entries."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where one buffer is written, and where its changes are told.

    Attributes:
        ring: Key.
        candles: Channel of its candles.
        buffers: Channel of what happened to it.
        slot_us: Length of a candle, in microseconds.
        market: Whose.
        timeframe: Length of its candles.
    """

    ring: bytes
    candles: bytes
    buffers: bytes
    slot_us: int
    market: Market
    timeframe: Timeframe


class LiveKeys:
    """The names of one environment.

    Args:
        env: Its name.
    """

    def __init__(self, env: str) -> None:
        self.prefix = f"mdp:live:{{{env}}}:"
        self._places: dict[tuple[Market, Timeframe], Place] = {}

    def place(self, market: Market, timeframe: Timeframe) -> Place:
        """Return where a buffer is."""
        found = self._places.get((market, timeframe))
        if found is None:
            topic = f"{market.exchange.value}.{market.symbol_key}.{timeframe.value}"
            found = self._places[market, timeframe] = Place(
                f"{self.prefix}ring:{market}:{timeframe.value}".encode(),
                f"{self.prefix}candles.{topic}".encode(),
                f"{self.prefix}buffers.{topic}".encode(),
                timeframe.microseconds,
                market,
                timeframe,
            )
        return found

    @cached_property
    def mark(self) -> bytes:
        """Return where it stands which start of the server was seen last, and from where each seq goes on since."""
        return f"{self.prefix}start".encode()

    @cached_property
    def entries(self) -> bytes:
        """Return the stream of entries that wait for storage."""
        return f"{self.prefix}entries".encode()

    @cached_property
    def unreadable(self) -> bytes:
        """Return the stream of entries that could not be read, kept for a person."""
        return f"{self.prefix}entries:unreadable".encode()

    @cached_property
    def names(self) -> bytes:
        """Return the set of the names under which something was said."""
        return f"{self.prefix}said".encode()

    def said(self, name: str) -> bytes:
        """Return where something is said."""
        return f"{self.prefix}said:{name}".encode()

    def lease(self, name: str) -> bytes:
        """Return where a lease is."""
        return f"{self.prefix}lease:{name}".encode()

    def channel(self, pattern: str) -> bytes:
        """Return the channel of a topic or of a pattern of topics."""
        return f"{self.prefix}{pattern}".encode()

    def topic(self, channel: bytes) -> str:
        """Return the topic of a channel."""
        return channel.decode().removeprefix(self.prefix)


def feed_lease(exchange: Exchange) -> str:
    """Return the lease of whoever may write the buffers of an exchange."""
    return f"feed/{exchange.value}"
