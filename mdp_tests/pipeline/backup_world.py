"""A small lake that is backed up and put back.

Not here: what must hold (``test_backing_up``, ``test_backing_up_restoring``).
"""

from __future__ import annotations

from datetime import timedelta

from mdp.config.settings import load_settings
from mdp.domain.interval import Interval, parse_time
from mdp.domain.market import Market
from mdp.domain.timeframe import Timeframe
from mdp.pipeline.backing_up.creating import create_backup
from mdp.pipeline.backing_up.restoring import Choices, restore_backup
from mdp.ports import OHLCV, Slice
from mdp.storage import DeltaStore
from mdp_tests.support import builders

MARKET = Market.parse("binance:BTC-USDT")
START = parse_time("2024-12-30T00:00Z")
NOW = parse_time("2025-01-08T03:30Z")
WHOLE = Slice(MARKET, (Timeframe.M1,), Interval(START, START + timedelta(hours=1)))


def lake_in(data_dir):
    """Return the settings of a data directory that holds an hour of candles."""
    found = load_settings(data_dir=data_dir, simulated=True)
    store(found).replace(OHLCV, WHOLE, candles())
    return found


def candles(close=100.0):
    prices = {"open": close, "high": close, "low": close, "close": close}
    return builders.candles(*(builders.candle(START + timedelta(minutes=minute), **prices) for minute in range(60)))


def store(settings):
    return DeltaStore(settings.lake_dir, snapshots_dir=settings.snapshots_dir)


def back_up(settings, place, after=timedelta(), **more):
    return create_backup(settings, store(settings), place, lambda: NOW + after, patience_s=0, **more)


def put_back(folder, settings, into, **choices):
    restore_backup(folder, settings, into, lambda: NOW, Choices(**choices))
    return load_settings(data_dir=into, simulated=True)


def read(settings):
    return store(settings).read(OHLCV, WHOLE)
