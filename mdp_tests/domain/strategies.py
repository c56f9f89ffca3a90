"""Random times, windows and candles for property tests.

Not here: what must hold of them (the tests).
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
from hypothesis import strategies as st

from mdp.domain.candles import CANDLE_SCHEMA, RAW_SCHEMA
from mdp.domain.interval import Interval
from mdp.domain.timeframe import Timeframe
from mdp_tests.support.builders import MARKET, NOW, Row, frame, raw

START = datetime(2024, 2, 28, tzinfo=UTC)
"""First day of random candles: the next one is 29 February."""

MINUTE = timedelta(minutes=1)

timeframes = st.sampled_from(Timeframe)

moments = st.integers(0, 4_102_444_800_000_000).map(
    lambda us: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)
)
"""Any microsecond from 1970 to 2100."""


@st.composite
def windows(draw: st.DrawFn, *, step: timedelta = timedelta(seconds=20), most: int = 400) -> Interval:
    """A window whose bounds are multiples of ``step`` near ``START``; may be empty."""
    first = draw(st.integers(-most, most))
    return Interval(START + first * step, START + (first + draw(st.integers(0, most))) * step)


@st.composite
def present_minutes(draw: st.DrawFn, *, most: int = 2 * 1440) -> list[int]:
    """Which of ``most`` minutes hold a candle: a few stretches, with a few of their minutes taken out."""
    stretches = draw(st.lists(st.tuples(st.integers(0, most - 1), st.integers(1, most)), min_size=1, max_size=4))
    minutes = {minute for first, length in stretches for minute in range(first, min(first + length, most))}
    return sorted(minutes - draw(st.sets(st.integers(0, most - 1), max_size=20)))


@st.composite
def minute_candles(draw: st.DrawFn, *, most: int = 2 * 1440) -> pl.DataFrame:
    """Good 1m candles with gaps, idle minutes and unknown amounts; sorted, unique, possibly none."""
    present = draw(present_minutes(most=most))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count = len(present)
    is_idle = random.random(count) < draw(st.sampled_from([0.0, 0.05, 0.5, 0.95, 1.0]))
    is_unknown = random.random(count) < draw(st.sampled_from([0.0, 0.01]))
    corners = np.round(random.lognormal(10, 0.1, (4, count)), 2)
    unknown = pl.Series(is_unknown)

    def amount(values: np.ndarray) -> pl.Series:
        return pl.Series(np.where(is_idle, 0, values)).set(unknown, None)

    columns = {
        "exchange": MARKET.exchange.value,
        "symbol": MARKET.symbol_key,
        "timeframe": "1m",
        "open_time": _times(START, np.array(present, dtype=np.int64) * 60),
        "open": corners[0],
        "high": corners.max(axis=0),
        "low": corners.min(axis=0),
        "close": corners[1],
        "volume": np.where(is_idle, 0, np.round(random.lognormal(1, 2, count), 8)),
        "quote_volume": amount(random.lognormal(8, 2, count)),
        "trades": amount(random.integers(1, 5000, count)),
        "minutes": 1,
        "source": "rest",
        "ingested_at": _times(NOW, random.integers(0, 60, count)),
    }
    return pl.DataFrame(columns, schema=CANDLE_SCHEMA)


def _times(first: datetime, seconds: np.ndarray) -> pl.Series:
    """``first`` and the seconds after it, made without a Python object for each."""
    return pl.Series(seconds * 1_000_000 + int(first.timestamp()) * 1_000_000).cast(CANDLE_SCHEMA["open_time"])


ASKED = Interval(START, START + timedelta(minutes=5))
"""The window for which random raw rows were asked: small, so that rows collide and fall outside."""

_numbers = st.sampled_from([0.0, -0.0, -1.0, 1.0, 99.0, 100.0, 101.0, 1e308, math.nan, math.inf, -math.inf, None])
_spoiled = {
    **dict.fromkeys(("open", "high", "low", "close", "volume", "quote_volume"), _numbers),
    "trades": st.sampled_from([None, -1, 0]),
    "closed": st.sampled_from([False, None]),
    "open_time": st.one_of(st.none(), st.integers(-90, 390).map(lambda s: START + timedelta(seconds=s))),
}


@st.composite
def raw_rows(draw: st.DrawFn) -> Row:
    """A raw row near the window, good but for some of its columns, which hold anything that they can hold."""
    good = raw(START + draw(st.integers(-1, 5)) * MINUTE, window_start=START)
    spoiled = draw(st.one_of(st.just(set()), st.sets(st.sampled_from(sorted(_spoiled)), max_size=3)))
    received = NOW + draw(st.integers(-1, 1)) * timedelta(seconds=1)
    return {**good, "fetched_at": received, **{name: draw(_spoiled[name]) for name in sorted(spoiled)}}


raw_frames = st.lists(raw_rows(), max_size=12).map(lambda rows: frame(rows, RAW_SCHEMA))
