"""Builders of what feeds hand on: minutes of a market and of an index, as entries.

Not here: rows of tables (``support.builders``).
"""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import polars as pl

from mdp.config.reference import Reference
from mdp.domain.live import CandleState, Entry, LiveCandle
from mdp.domain.timeframe import EPOCH
from mdp.pipeline.live import keep_live
from mdp_tests.support.builders import DVOL, MARKET, at

DAY = at("2025-03-05")
MINUTE_US = 60_000_000
SETTLED_US = 15_000_000
NOTHING_KNOWN = Reference({}, ())
SURE = CandleState.CONFIRMED


def us(moment):
    return (moment - EPOCH) // timedelta(microseconds=1)


def minute(number, close=100.0, *, state=CandleState.CLOSED, source="stream", late_us=50_000, day=DAY, **values):
    """The minute of this number since midnight, flat at its close unless ``values`` say otherwise."""
    opened = us(day) + number * MINUTE_US
    close = float(close)
    prices = {"open": close, "high": close, "low": close, "close": close}
    amounts = {"volume": 1.0, "quote_volume": close, "trades": 3}
    said = {**prices, **amounts, "minutes": 1, "state": state, "source": source}
    return LiveCandle(open_us=opened, **{**said, "received_us": opened + MINUTE_US + late_us, **values})


def confirmed(number, close=100.0, **values):
    return minute(number, close, **{"state": SURE, "source": "rest", "late_us": SETTLED_US, **values})


def index_minute(number, close=50.0, **values):
    unknown = {"volume": None, "quote_volume": None, "trades": None}
    return confirmed(number, close, **{**unknown, **values})


def told(*candles, market=MARKET):
    return [Entry(market, one, told_us=one.received_us) for one in candles]


def absent(*numbers, asked_after_us=30_000_000, market=MARKET, requests=1):
    slots = tuple(us(DAY) + number * MINUTE_US for number in numbers)
    return Entry(market, absent_us=slots, requests=requests, told_us=slots[-1] + MINUTE_US + asked_after_us)


def walk(seed, numbers, *, gaps=0.05, idle=0.1):
    """Minutes of a random walk with gaps and idle ones, as an exchange gives them."""
    random = np.random.default_rng(seed)
    price = 100.0
    made = []
    for number in numbers:
        opened, price = price, price + random.normal()
        if random.random() < gaps:
            continue
        if random.random() < idle:
            made.append(minute(number, price, volume=0.0, quote_volume=0.0, trades=0))
            continue
        high, low = max(opened, price) + random.random(), min(opened, price) - random.random()
        volume = round(random.random() * 10, 5)
        made.append(minute(number, price, open=opened, high=high, low=low, volume=volume, quote_volume=volume * price))
    return made


def clock_at(number, seconds=5):
    """A clock that stands some seconds after the end of a minute."""
    return lambda: DAY + timedelta(minutes=number + 1, seconds=seconds)


def keep(store, entries, number, **how):
    return keep_live(entries, store, how.pop("reference", NOTHING_KNOWN), clock_at(number), **how)


def moment(number) -> datetime:
    return DAY + timedelta(minutes=number)


def closes(rows: pl.DataFrame, column="close"):
    """The closes by the number of the minute."""
    numbers = (rows["open_time"] - DAY).dt.total_minutes()
    return dict(zip(numbers.to_list(), rows[column].to_list(), strict=True))


INDEX = DVOL
