"""What live trading needs of the edges: streams of candles, the bus between processes, the market's clock.

Not here: the streams (``exchanges``), the bus (``bus``), what is done with either (``live``).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Protocol, Self

from mdp.domain.live import Buffer, Change, Entry, LiveCandle
from mdp.domain.market import Exchange, Market
from mdp.domain.timeframe import Timeframe


class MarketClock(Protocol):
    """The time in which an exchange's candles open and close: the machine's, or a simulator's, which may run faster."""

    def __call__(self) -> datetime:
        """Tell the UTC time."""
        ...

    @property
    def speed(self) -> float:
        """How many of its seconds pass in one of the machine's: 1.0 but for a simulator."""
        ...


@dataclass(frozen=True, slots=True)
class Streamed:
    """One update of a minute, as an exchange's stream gave it.

    Attributes:
        market: Whose.
        candle: State ``FORMING``, or ``CLOSED`` where the exchange itself says that it is finished. Source ``stream``.
        event_us: When the exchange says it sent it.
    """

    market: Market
    candle: LiveCandle
    event_us: int


Sink = Callable[[Streamed], None]
"""Takes each update, in the order in which they come, inside the event loop; must not raise."""


class CandleStream(Protocol):
    """One exchange's stream of minutes (of ticks, for a volatility index: minutes are made of them here).

    Use it inside ``async with``. All markets share as few connections as the exchange likes.
    """

    exchange: Exchange

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    async def watch(self, market: Market, sink: Sink) -> None:
        """Subscribe, and give every update to ``sink`` until the stream breaks. Run one task for each market.

        It does not reconnect: whoever watches decides when to call again, and asks REST for what was missed.

        Raises:
            ExchangeUnavailable: the connection was refused, closed, reset, or did not answer in time.
            RateLimited: too many connections or subscriptions.
            RequestRejected: the exchange refused the subscription: no such market or channel.
            PayloadError: messages cannot be read.
        """
        ...

    async def drop(self, reason: str) -> None:
        """Close the connections at once: every pending ``watch`` raises ``ExchangeUnavailable`` with the reason."""
        ...

    def heard_s(self) -> float:
        """Seconds since the connection gave any sign of life, a pong included; infinity while there is none."""
        ...


OpenStream = Callable[[Exchange], CandleStream]
"""Makes the stream of an exchange, not yet connected."""


@dataclass(frozen=True, slots=True)
class Message:
    """What a subscriber hears.

    Attributes:
        topic: Such as ``candles.binance.BTC-USDT.1m``.
        body: JSON, as ``docs/asyncapi.yaml`` describes it.
    """

    topic: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Taken:
    """An entry that was taken for storage, until it is acknowledged."""

    id: str
    entry: Entry


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits for storage.

    Attributes:
        entries: Handed on and not yet acknowledged.
        oldest_us: ``told_us`` of the oldest of them; None without any.
    """

    entries: int
    oldest_us: int | None


class Lease(Protocol):
    """The right to be the only one, for a short time; it lapses when it is not renewed."""

    name: str
    holder: str

    async def renew(self) -> bool:
        """Extend it; False: it lapsed and may be somebody else's now. Whoever held it must stop."""
        ...

    async def release(self) -> None:
        """Give it up, if it is still held."""
        ...


class LiveBus(Protocol):
    """Where feeds, the live run and readers meet. Use it inside ``async with``; belongs to one event loop.

    Every call raises ``BusUnavailable`` while the bus cannot be reached; a call that did may have happened.
    Connections come back by themselves. All keys belong to the environment of the settings.
    """

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    @property
    def epoch(self) -> str:
        """Which server this is, and which start of it: another value means that what was written may be lost."""
        ...

    async def publish(self, market: Market, changes: Sequence[Change], entries: Sequence[Entry] = ()) -> None:
        """Write changed candles into their buffers, hand on entries and tell subscribers, all in one atomic step."""
        ...

    async def rewrite(self, market: Market, buffers: Mapping[Timeframe, Sequence[LiveCandle]]) -> None:
        """Replace the whole content of some buffers of a market, in one atomic step; their ``seq`` goes on."""
        ...

    async def buffer(self, market: Market, timeframe: Timeframe) -> Buffer | None:
        """Return a buffer; None where no feed ever wrote one."""
        ...

    def subscribe(self, *patterns: str) -> AsyncIterator[Message]:
        """Hear messages whose topic fits a pattern such as ``candles.binance.*.1m``; ends only with an error.

        Messages while the bus was away are lost: a jump in ``seq`` tells it, and the buffer is read again.
        """
        ...

    async def take(self, consumer: str, *, at_most: int, wait_s: float) -> Sequence[Taken]:
        """Take entries for storage: first those that ``consumer`` or a consumer that is gone took and never finished.

        Args:
            consumer: Who takes them; the holder of the lease ``live``.
            at_most: How many.
            wait_s: How long to wait for the first one.
        """
        ...

    async def acknowledge(self, taken: Sequence[Taken]) -> None:
        """Say that entries are stored: nobody takes them again."""
        ...

    async def backlog(self) -> Backlog:
        """Tell what waits for storage."""
        ...

    async def lease(self, name: str, holder: str, *, for_s: float) -> Lease | None:
        """Take a lease; None: somebody else holds it. A holder that asks again gets its own."""
        ...

    async def holder_of(self, name: str) -> str | None:
        """Tell who holds a lease; None: nobody."""
        ...

    async def revoke(self, name: str, holder: str) -> None:
        """Free a lease of a holder that is known to be dead, so that nobody waits for it to lapse."""
        ...

    async def tell(self, name: str, said: bytes, *, for_s: float) -> None:
        """Say something about oneself, such as ``feed/binance``; it is forgotten after ``for_s``."""
        ...

    async def told(self, prefix: str) -> Mapping[str, bytes]:
        """Return what is said under names with a prefix."""
        ...
