"""What each exchange's side of a stream can do, and what all of them share.

Not here: the exchanges' own words (``binance``, ``bybit``, ``okx``, ``deribit``).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from mdp.domain.market import Exchange
from mdp.simulator.candles import UNITS
from mdp.simulator.stream_faults import StreamNotice, StreamRejected, StreamShutdown
from mdp.simulator.streams.connection import Connection
from mdp.simulator.streams.updates import Update

if TYPE_CHECKING:
    from mdp.simulator.streams.hub import Hub


class Speech(ABC):
    """How one exchange talks in its streams.

    Attributes:
        exchange: Which one.
        period_ms: Simulated time between two messages about one market.
        repeats_ms: After so much simulated time a message that says nothing new is sent all the same.
        market_ids: The exchange's own spellings, and the symbols they stand for.
    """

    exchange: Exchange
    period_ms: int
    repeats_ms: int = 0
    market_ids: Mapping[str, str]

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    @abstractmethod
    def refusal(self, path: str, client: str) -> tuple[int, str] | None:
        """Return status and text with which a handshake is refused; None: it is not."""

    def opened(self, connection: Connection) -> None:  # noqa: B027 most exchanges need nothing here
        """Begin with a client whose handshake is done."""

    def closed(self, connection: Connection) -> None:  # noqa: B027 most exchanges need nothing here
        """Forget a client."""

    @abstractmethod
    def hear(self, connection: Connection, message: bytes) -> None:
        """Take one message of a client."""

    def hear_pong(self, connection: Connection, payload: bytes) -> None:  # noqa: B027 most exchanges need nothing here
        """Take a PONG frame of a client."""

    def hear_ping(self, connection: Connection) -> None:  # noqa: B027 most exchanges need nothing here
        """Take a PING frame of a client, which is answered already."""

    def beat(self, connection: Connection, now_s: float) -> None:  # noqa: B027 most exchanges need nothing here
        """Do what is due for a connection; called about once a real second."""

    @abstractmethod
    def say(self, market_id: str, update: Update, now_ms: int) -> bytes:
        """Return the message about one market, as text."""

    def wrap(self, market_id: str, message: bytes) -> bytes:  # noqa: ARG002
        """Return a message as it comes over a connection whose messages name their stream."""
        return message

    def announce(self, connection: Connection, fault: StreamNotice | StreamShutdown) -> None:  # noqa: B027 most exchanges need nothing here
        """Say that the connection will close."""

    def subscribe(self, connection: Connection, topic: str, market_id: str) -> None:
        """Begin to push the messages about a market; again changes nothing."""
        symbol = self.market_ids[market_id]
        connection.topics[topic] = symbol
        self._hub.pump.join(self, market_id, symbol, connection)

    def unsubscribe(self, connection: Connection, topic: str) -> None:
        """Push a topic no more."""
        symbol = connection.topics.pop(topic, None)
        if symbol is not None and symbol not in connection.topics.values():
            self._hub.pump.part(self, symbol, connection)

    def rejection(self, connection: Connection, symbol: str | None) -> StreamRejected | None:
        """Return the scripted fault that refuses a subscription; None: there is none."""
        return self._hub.rejection(connection, symbol)


def read_object(message: bytes) -> dict[str, Any] | None:
    """Return a JSON object; None: it is none."""
    try:
        content = msgspec.json.decode(message)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return content if isinstance(content, dict) else None


def texts(given: object) -> list[str]:
    """Return the texts of a list; whatever else is given counts as none."""
    return [one for one in given if isinstance(one, str)] if isinstance(given, list) else []


def eight_decimals(value: int) -> str:
    """Print units with exactly eight decimals, as Binance does."""
    return f"{value // UNITS}.{value % UNITS:08d}"


def shortest_decimal(value: int) -> str:
    """Print units without trailing zeros, as Bybit and OKX do."""
    return eight_decimals(value).rstrip("0").rstrip(".")
