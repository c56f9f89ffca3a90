"""Candles and buses for the tests of the live bus; as a program: a process that publishes until it is killed."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sys
from collections import deque
from pathlib import Path

from mdp.bus import open_live_bus
from mdp.config.settings import Settings, load_settings
from mdp.domain.live import CandleState, Change, Entry, LiveCandle
from mdp.domain.market import Market
from mdp.domain.timeframe import Timeframe
from mdp.errors import BusUnavailable

BTC = Market.parse("binance:BTC-USDT")
DVOL = Market.parse("deribit:BTC-DVOL")
START_US = 1_735_516_800_000_000
"""2024-12-30, midnight: open time of slot 0 of every timeframe."""

FORMING, CLOSED, CONFIRMED, CORRECTED = CandleState


def candle(slot=0, state=FORMING, *, close=1.5, timeframe=Timeframe.M1, received_us=None, **more) -> LiveCandle:
    """Return the candle of a slot after ``START_US``."""
    open_us = START_US + slot * timeframe.microseconds
    values = {"open": 1.0, "high": 9.0, "low": 0.5, "close": close, "volume": 3.25, "quote_volume": None, "trades": 7}
    values |= {"minutes": 1, "source": "stream", **more}
    return LiveCandle(open_us, state=state, received_us=open_us + 7 if received_us is None else received_us, **values)


def minute(slot=0, state=FORMING, **more) -> Change:
    """Return the change of a minute's candle."""
    return Change(Timeframe.M1, candle(slot, state, **more))


def settings_of(data_dir: Path, **more) -> Settings:
    """Return settings whose bus is the embedded one of ``data_dir``."""
    return load_settings(data_dir=data_dir, simulated=True, **more)


def entry(number: int) -> Entry:
    """Return an entry that can be told from others."""
    return Entry(BTC, candle(number, CLOSED, close=float(number)), told_us=number)


async def publish_for_ever(data_dir: Path) -> None:
    """Publish changes of all timeframes and one entry each; print each number that was answered.

    As a feed does, entries of the last seconds are handed on again after another start of the server.
    """
    last: deque[int] = deque(maxlen=5_000)
    async with open_live_bus(settings_of(data_dir)) as bus:
        epoch = ""
        for number in itertools.count(1):
            changes = [Change(timeframe, candle(number, CLOSED, timeframe=timeframe)) for timeframe in Timeframe]
            with contextlib.suppress(BusUnavailable):
                await bus.publish(BTC, changes, [entry(number)])
                if epoch not in ("", bus.epoch):
                    await bus.publish(BTC, [], [entry(one) for one in last])
                epoch = bus.epoch
                last.append(number)
                print(number, flush=True)


if __name__ == "__main__":
    asyncio.run(publish_for_ever(Path(sys.argv[1])))
