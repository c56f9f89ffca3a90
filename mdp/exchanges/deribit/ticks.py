"""Minutes of a volatility index from its ticks. Pure.

Deribit streams values, no candles, and says nothing when a minute ends: a minute made here is always ``FORMING``, and
holds the ticks that were seen, which may be fewer than there were. REST tells what the exchange's own candle is.
Not here: reading ticks (``stream_parse``), minutes from hours (``domain.dvol``).
"""

from __future__ import annotations

from dataclasses import dataclass

from mdp.domain.live import CandleState, LiveCandle
from mdp.exchanges.stream_messages import MINUTE_MS, Tick

_KEPT = 2
"""The minute that is forming, and the one before it for a tick that comes late."""


@dataclass(slots=True)
class _Minute:
    open: float
    high: float
    low: float
    close: float
    first_ms: int
    last_ms: int


class TickMinutes:
    """The newest minutes of one index. It outlives a connection: ticks after a reconnect belong to the same minute."""

    def __init__(self) -> None:
        self._minutes: dict[int, _Minute] = {}

    def take(self, tick: Tick) -> LiveCandle | None:
        """Return the minute that a tick belongs to, as it is now; None of a tick that is older than what is kept.

        Ticks may come late, twice or in another order: open is the value of the earliest, close that of the latest.
        """
        open_ms = tick.time_ms - tick.time_ms % MINUTE_MS
        minute = self._minutes.get(open_ms)
        if minute is None:
            if len(self._minutes) == _KEPT and open_ms < min(self._minutes):
                return None
            minute = _Minute(tick.value, tick.value, tick.value, tick.value, tick.time_ms, tick.time_ms)
            self._minutes[open_ms] = minute
            if len(self._minutes) > _KEPT:
                del self._minutes[min(self._minutes)]
        _add(minute, tick)
        prices = (minute.open, minute.high, minute.low, minute.close)
        no_amounts = (None, None, None)
        return LiveCandle(open_ms * 1_000, *prices, *no_amounts, 1, CandleState.FORMING, "stream", tick.received_us)


def _add(minute: _Minute, tick: Tick) -> None:
    minute.high = max(minute.high, tick.value)
    minute.low = min(minute.low, tick.value)
    if tick.time_ms < minute.first_ms:
        minute.open, minute.first_ms = tick.value, tick.time_ms
    if tick.time_ms >= minute.last_ms:
        minute.close, minute.last_ms = tick.value, tick.time_ms
