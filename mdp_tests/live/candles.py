"""Live candles for the tests of the feed, that say what matters and hide what does not. Not here: tests."""

from __future__ import annotations

from typing import Any

from mdp.domain.live import CandleState, LiveCandle
from mdp.domain.timeframe import Timeframe

MINUTE = Timeframe.M1.microseconds
SECOND = 1_000_000
START = 1_741_219_200_000_000
"""2025-03-06T00:00Z."""


def minute(number: int, state: CandleState = CandleState.CLOSED, **values: Any) -> LiveCandle:
    """Return the minute so many minutes after ``START``; flat at 100 with volume 1 unless ``values`` say otherwise."""
    opened = START + number * MINUTE
    source = "rest" if state is CandleState.CONFIRMED else "stream"
    candle = LiveCandle(opened, 100.0, 100.0, 100.0, 100.0, 1.0, 100.0, 7, 1, state, source, opened + MINUTE)
    return candle._replace(**values)
