"""What the streams of all exchanges share: watchers, one connection for all of them, and who is told what.

A connection is never mended. When it breaks every watcher is told, and the next ``watch`` starts from nothing: a new
connection, a new subscription, no candle from before.
Not here: how a subscription is sent (``stream_ccxt``, Deribit's ``stream``), what a message means (``stream_parse``).
"""

from __future__ import annotations

import asyncio
import math
import ssl
from abc import ABC, abstractmethod
from collections.abc import Iterable
from datetime import timedelta
from functools import partial
from time import monotonic
from types import TracebackType
from typing import Self

import aiohttp
import certifi

from mdp.config.exchange_sections import ExchangeSettings
from mdp.domain.market import Exchange, Market
from mdp.domain.timeframe import EPOCH
from mdp.errors import ExchangeError, ExchangeUnavailable, InputError, RequestRejected
from mdp.exchanges.stream_failures import JudgeHandshake, explain
from mdp.exchanges.stream_messages import (
    Accepted,
    Asking,
    Ending,
    Minutes,
    Refused,
    Said,
    Unreadable,
)
from mdp.exchanges.stream_watching import Watcher
from mdp.exchanges.stream_wire import Listener, Manner, Wire
from mdp.exchanges.symbols import to_market_id
from mdp.ports import MarketClock, Sink

_MICROSECOND = timedelta(microseconds=1)


class SharedStream(ABC):
    """One exchange's stream: all markets share a connection, which the first ``watch`` opens.

    Args:
        settings: Where it is (``ws_url``) and how long an answer may take (``timeout_s``).
        clock: The market's time, for ``received_us``.
    """

    exchange: Exchange
    pace_s = 0.0
    """Seconds between two messages of ours."""

    def __init__(self, settings: ExchangeSettings, clock: MarketClock) -> None:
        self._settings = settings
        self._clock = clock
        self._watchers: dict[str, Watcher] = {}
        self._wires: set[Wire] = set()
        self._session: aiohttp.ClientSession | None = None
        self._heard_at = -math.inf

    async def __aenter__(self) -> Self:
        # Proxies of the environment are ignored: aiohttp looks at them only when told to. As many connections as it
        # likes, for one that is being given up may not keep the next one waiting.
        is_encrypted = str(self._settings.ws_url).startswith("wss")  # loading certificates takes longer than a message
        context = ssl.create_default_context(cafile=certifi.where()) if is_encrypted else False
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, ssl=context))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        session, self._session = self._session, None
        for watcher in list(self._watchers.values()):
            watcher.fail(ExchangeUnavailable(self.exchange.value, "the stream was closed by us"))
        await asyncio.gather(*(wire.close() for wire in list(self._wires)))
        if session is not None:
            await session.close()
        await asyncio.sleep(0)  # what waited for a connection sees that it is gone

    async def watch(self, market: Market, sink: Sink) -> None:
        """Subscribe, and give every update to ``sink`` until the stream breaks. Run one task for each market.

        Raises:
            ExchangeUnavailable: the connection was refused, closed, reset, or did not answer in time.
            RateLimited: too many connections or subscriptions.
            RequestRejected: the exchange refused the subscription: no such market or channel.
            PayloadError: messages cannot be read.
            InputError: a market of another exchange, or one that is watched already.
        """
        watcher = self._admit(market, sink)
        # twice: a connection that is opened first, then an answer to the subscription; and its turn to be sent
        watcher.expect_answer(2 * self._settings.timeout_s + self.pace_s * len(self._watchers))
        subscribing = asyncio.create_task(self._subscribe(watcher))
        subscribing.add_done_callback(partial(_tell_failure, watcher))
        try:
            await watcher.wait()
        finally:
            subscribing.cancel()
            await asyncio.gather(subscribing, return_exceptions=True)
            self._dismiss(watcher)

    async def drop(self, reason: str) -> None:
        """Give up the connections at once: every pending ``watch`` raises ``ExchangeUnavailable`` with the reason."""
        error = ExchangeUnavailable(self.exchange.value, f"the connection was given up: {reason}")
        for wire in list(self._wires):
            wire.end(error)
        self._fail(self._watchers, error)

    def heard_s(self) -> float:
        """Return the seconds since anything came from the exchange, a pong included; infinity while unconnected."""
        return monotonic() - self._heard_at

    @abstractmethod
    async def _subscribe(self, watcher: Watcher) -> None:
        """Ask for a market, on the connection that is there or a new one."""

    @abstractmethod
    def _parse(self, text: str, received_us: int) -> Said:
        """Read a message."""

    @abstractmethod
    def _judge_handshake(self) -> JudgeHandshake:
        """Return the exchange's table of statuses."""

    def _open_wire(self, url: str, manner: Manner) -> Wire:
        """Return a new connection, not yet opened; its end is told to everybody who watches."""
        if self._session is None:
            raise InputError("stream", got="not entered, or closed", expected="to be used inside `async with`")
        wire = Wire(url, self._session, Listener(self._hear, self._note, self._lose), manner)
        self._wires.add(wire)
        return wire

    def _admit(self, market: Market, sink: Sink) -> Watcher:
        if market.exchange is not self.exchange:
            raise InputError("market", got=str(market), expected=f"a market of {self.exchange.value}")
        market_id = to_market_id(market)
        if market_id in self._watchers:
            raise InputError("market", got=str(market), expected="one that is not watched already")
        watcher = self._watchers[market_id] = Watcher(market, market_id, sink)
        return watcher

    def _dismiss(self, watcher: Watcher) -> None:
        watcher.leave()
        del self._watchers[watcher.market_id]
        for wire in self._wires:
            if watcher.market_id not in wire.accepted:
                wire.forget(watcher.market.symbol, watcher.market_id)
        if not self._watchers:  # whoever comes next starts anew
            for wire in list(self._wires):
                wire.end(ExchangeUnavailable(self.exchange.value, "nobody watches any more"))

    def _hear(self, wire: Wire, text: str) -> None:
        said = self._parse(text, (self._clock() - EPOCH) // _MICROSECOND)
        kind = type(said)
        if kind is Minutes:
            self._give(wire, said)  # type: ignore[arg-type]
        else:
            self._attend(wire, said)

    def _give(self, wire: Wire, said: Minutes) -> None:
        watcher = self._watchers.get(said.market_id)
        if watcher is not None:
            wire.accepted.add(said.market_id)
            watcher.give(said.candles, said.event_us)

    def _attend(self, wire: Wire, said: Said) -> None:
        """Act on what is not a candle."""
        match said:
            case Accepted():
                self._accept(wire, said)
            case Refused():
                refused = list(self._refused(wire, said))
                wire.accepted.difference_update(refused)
                self._fail(refused, said.error)
            case Unreadable(error, None):
                wire.end(error)
            case Unreadable(error, market_id):
                self._fail([str(market_id)], error)
            case Ending(reason):
                wire.end(ExchangeUnavailable(self.exchange.value, f"the connection is about to be closed: {reason}"))
            case Asking(answer):
                wire.answer(answer)
            case _:
                pass

    def _accept(self, wire: Wire, said: Accepted) -> None:
        asked = wire.asked.pop(said.request, ()) if said.request is not None else ()
        granted = asked if said.market_ids is None else said.market_ids
        for market_id in granted:
            wire.accepted.add(market_id)
            if market_id in self._watchers:
                self._watchers[market_id].accept()
        for market_id in set(asked).difference(granted):
            self._fail([market_id], absent(self.exchange, market_id))

    def _refused(self, wire: Wire, said: Refused) -> Iterable[str]:
        """Return the markets that a refusal concerns; where it does not say, those that are not accepted yet.

        What is accepted goes on: the exchange does not take it back with an error, but by closing the connection.
        """
        asked = wire.asked.pop(said.request, ()) if said.request is not None else ()
        if said.market_id is not None:
            return [said.market_id]
        return asked or [key for key, watcher in self._watchers.items() if not watcher.is_accepted]

    def _fail(self, market_ids: Iterable[str], error: Exception) -> None:
        for market_id in list(market_ids):
            watcher = self._watchers.get(market_id)
            if watcher is not None:
                watcher.fail(error)

    def _note(self) -> None:
        self._heard_at = monotonic()

    def _lose(self, wire: Wire, error: Exception) -> None:
        self._wires.discard(wire)
        if not self._wires:
            self._heard_at = -math.inf  # the next connection has a time of its own to be opened
        reason = explain(self.exchange, error, self._judge_handshake())
        self._fail(self._watchers, reason)


def absent(exchange: Exchange, market_id: str) -> ExchangeError:
    """Say that a channel is not among those that were accepted."""
    return RequestRejected(exchange.value, f"the exchange did not accept the channel of {market_id}: it has none")


def _tell_failure(watcher: Watcher, subscribing: asyncio.Task[None]) -> None:
    if not subscribing.cancelled() and (error := subscribing.exception()) is not None:
        watcher.fail(error if isinstance(error, Exception) else RuntimeError(str(error)))
