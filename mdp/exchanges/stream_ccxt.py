"""Streams through CCXT: its addresses, its subscriptions and its pings; every message is read by us.

``watch_ohlcv`` subscribes and then waits for ever: its future is never resolved, for CCXT drops the closed flag, gives
only the last row of a burst, and takes ten times as long over a message as we do.
Not here: the connection (``stream_wire``), what a message means (each exchange's ``stream_parse``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ccxt.base import errors as ccxt

from mdp.config.exchange_sections import ExchangeSettings
from mdp.domain.market import Exchange
from mdp.errors import ExchangeError, RequestRejected
from mdp.exchanges.stream import SharedStream
from mdp.exchanges.stream_messages import Said
from mdp.exchanges.stream_watching import Watcher
from mdp.exchanges.stream_wire import Manner, Message, Wire
from mdp.exchanges.verdicts import Answer
from mdp.ports import MarketClock


class WiredMixin:
    """Put before a class of CCXT's: its connections are ours.

    Attributes:
        open_wire: Makes one.
    """

    clients: dict[str, Any]
    open_wire: Callable[[str], Wire]

    def client(self, url: str) -> Wire:
        """Return the connection to an address; a new one if there is none that works."""
        wire: Wire | None = self.clients.get(url)
        if wire is None or wire.is_over:
            wire = self.clients[url] = self.open_wire(url)
        return wire

    def ws_dial_delay(self, url: str) -> float:  # noqa: ARG002
        """Never wait before connecting: whoever watches decides when to try again."""
        return 0


class Dialect(NamedTuple):
    """What is special about one exchange.

    Attributes:
        exchange: Which.
        ccxt_class: CCXT's class, with :class:`WiredMixin` in front.
        urls: Its addresses, by CCXT's names.
        parse: Reads a message that came at a time.
        judge: What an answer means, for a handshake that is refused.
        spell: CCXT's message that subscribes, as request (None: none is told) and channels, or markets.
        pace_s: Seconds between two messages of ours.
        is_sandbox: Whether CCXT spells addresses as those of the exchange's sandbox.
    """

    exchange: Exchange
    ccxt_class: type[Any]
    urls: Mapping[str, Any] | str
    parse: Callable[[str, int], Said]
    judge: Callable[[Answer], ExchangeError | None]
    spell: Callable[[Mapping[str, Any]], tuple[str, tuple[str, ...]] | None]
    pace_s: float = 0.0
    is_sandbox: bool = False


class CcxtStream(SharedStream):
    """One exchange's stream through ``ccxt.pro``: a ``watch_ohlcv`` for each market, all on one connection."""

    def __init__(self, dialect: Dialect, settings: ExchangeSettings, clock: MarketClock) -> None:
        super().__init__(settings, clock)
        self.exchange = dialect.exchange
        self.pace_s = dialect.pace_s
        self._dialect = dialect
        self._ccxt = dialect.ccxt_class(
            {
                "urls": {"api": {"ws": dialect.urls}},
                "options": {"defaultType": "spot", "OHLCVLimit": 2, "sandboxMode": dialect.is_sandbox},
                "enableRateLimit": False,  # the wire paces what is sent
                "newUpdates": True,
                "verify": False,  # the session of the wires has certificates
            }
        )
        self._ccxt.own_session = False  # wires bring theirs; CCXT then has nothing that must be closed
        self._ccxt.open_wire = self._open_ccxt_wire

    def _open_ccxt_wire(self, url: str) -> Wire:
        ping = getattr(self._ccxt, "ping", None)
        manner = Manner(self._settings.timeout_s, self._dialect.pace_s, None if ping is None else lambda: ping(None))
        wire = self._open_wire(url, manner)
        wire.before_send = self._note_request
        return wire

    async def _subscribe(self, watcher: Watcher) -> None:
        if any(watcher.market_id in wire.accepted for wire in self._wires):
            watcher.accept()  # it was left a moment ago, and the exchange still sends it
        self._know(watcher)
        try:
            await self._ccxt.watch_ohlcv(watcher.market.symbol, "1m")
        except ccxt.BaseError as error:
            what = f"CCXT does not subscribe to {watcher.market.symbol} ({type(error).__name__}: {error})"
            raise RequestRejected(self.exchange.value, what) from error

    def _know(self, watcher: Watcher) -> None:
        """Tell CCXT of a market, so that it need not ask the exchange for all of them."""
        market = watcher.market
        if market.symbol in (self._ccxt.markets or {}):
            return
        known = list((self._ccxt.markets or {}).values())
        base, quote = market.base, market.quote
        spelled = {"id": watcher.market_id, "lowercaseId": watcher.market_id.lower(), "symbol": market.symbol}
        coins = {"base": base, "quote": quote, "baseId": base, "quoteId": quote}
        self._ccxt.set_markets([*known, {**spelled, **coins, "type": "spot", "spot": True, "contract": False}])

    def _note_request(self, wire: Wire, message: Message) -> None:
        """Remember which request asks for which market: an answer may name only the request."""
        spelled = self._dialect.spell(message) if isinstance(message, dict) else None
        if spelled is None:
            return
        request, market_ids = spelled
        wire.asked[request] = market_ids
        for market_id in market_ids:
            if market_id in self._watchers:
                self._watchers[market_id].expect_answer(self._settings.timeout_s)

    def _parse(self, text: str, received_us: int) -> Said:
        return self._dialect.parse(text, received_us)

    def _judge_handshake(self) -> Callable[[Answer], Exception | None]:
        return self._dialect.judge
