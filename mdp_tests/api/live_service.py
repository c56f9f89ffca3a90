"""Live buffers of a service without a bus: put into its memory as the mirror would.

Not here: a real bus (``integration``).
"""

from __future__ import annotations

from dataclasses import replace

from mdp.domain.candle_buffer import CandleBuffer
from mdp.domain.live import CandleState, LiveCandle
from mdp.domain.timeframe import Timeframe
from mdp_tests.support.builders import MARKET, at

M1 = Timeframe.M1
MINUTE_US = 60_000_000
FIRST_US = int(at("2025-01-06T10:00").timestamp()) * 1_000_000
FORMING, CONFIRMED = CandleState.FORMING, CandleState.CONFIRMED


def live_candle(number, close, state=CONFIRMED, source="stream"):
    """The candle of one minute; received a quarter of a second after its end, so that its time has a fraction."""
    opened = FIRST_US + number * MINUTE_US
    received = opened + MINUTE_US + 250_000
    return LiveCandle(opened, close, close + 1.5, close - 0.5, close, 0.25, 1e-7, number, 1, state, source, received)


def live_buffer(seq=7, count=30, market=MARKET, timeframe=M1):
    """Confirmed minutes and a forming one."""
    candles = tuple(live_candle(number, 100.0 + number) for number in range(count))
    newest = live_candle(count, 200.1, FORMING)
    return CandleBuffer(market, timeframe, 100, (*candles, newest), seq, newest.received_us)


def put(client, buffer):
    """Have a service hold a buffer."""
    client.app.state.surroundings.mirror.places[buffer.market, buffer.timeframe].buffer = buffer


def forget(client):
    """Have a service hold none."""
    for place in client.app.state.surroundings.mirror.places.values():
        place.buffer = None


def grown_stale(buffer):
    """The same buffer after the bus went away."""
    return replace(buffer, is_stale=True)
