"""Deribit's stream of its volatility index, made into minutes.

Not here: what the exchanges share (``exchanges.stream``), what a message means (``stream_parse``), minutes from ticks
(``ticks``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from mdp.config.exchange_sections import ExchangeSettings
from mdp.domain.market import Exchange
from mdp.exchanges.deribit.client import judge
from mdp.exchanges.deribit.stream_parse import FIRST_SUBSCRIPTION, channel_of, parse_message
from mdp.exchanges.deribit.ticks import TickMinutes
from mdp.exchanges.stream import SharedStream
from mdp.exchanges.stream_messages import OTHER, Minutes, Said, Tick
from mdp.exchanges.stream_watching import Watcher
from mdp.exchanges.stream_wire import Manner, Wire
from mdp.exchanges.verdicts import Answer
from mdp.ports import MarketClock

_HEARTBEAT_S = 10  # the shortest that it allows. Source: docs.deribit.com public/set_heartbeat, 2026-07


class DeribitStream(SharedStream):
    """Deribit's volatility index: forming minutes from ticks; it never says that a minute is closed."""

    exchange = Exchange.DERIBIT

    def __init__(self, settings: ExchangeSettings, clock: MarketClock) -> None:
        super().__init__(settings, clock)
        self._minutes: dict[str, TickMinutes] = {}
        self._last_request = FIRST_SUBSCRIPTION - 1

    async def _subscribe(self, watcher: Watcher) -> None:
        wire = next(iter(self._wires), None) or self._open_deribit_wire()
        await asyncio.shield(wire.connect())
        self._last_request += 1
        wire.asked[str(self._last_request)] = (watcher.market_id,)
        watcher.expect_answer(self._settings.timeout_s)
        await wire.send(_call(self._last_request, "public/subscribe", channels=[channel_of(watcher.market_id)]))

    def _open_deribit_wire(self) -> Wire:
        greeting = _call(FIRST_SUBSCRIPTION - 1, "public/set_heartbeat", interval=_HEARTBEAT_S)
        manner = Manner(self._settings.timeout_s, greetings=(greeting,))
        return self._open_wire(f"{self._settings.ws_url}/ws/api/v2", manner)

    def _parse(self, text: str, received_us: int) -> Said:
        said = parse_message(text, received_us)
        if not isinstance(said, Tick):
            return said
        candle = self._minutes.setdefault(said.market_id, TickMinutes()).take(said)
        return OTHER if candle is None else Minutes(said.market_id, (candle,), said.time_ms * 1_000)

    def _judge_handshake(self) -> Callable[[Answer], Exception | None]:
        return judge


def _call(request: int, method: str, **parameters: object) -> dict[str, object]:
    return {"jsonrpc": "2.0", "id": request, "method": method, "params": parameters}
