"""A small lake for reading: two markets and an index over one night, some of it missing."""

from __future__ import annotations

from datetime import timedelta

import polars as pl
import pytest

from mdp.config.settings import load_settings
from mdp.domain.candles import DVOL_SCHEMA
from mdp.domain.market import Market
from mdp.domain.resample import resample
from mdp.domain.timeframe import Timeframe
from mdp.ports import DVOL as DVOL_TABLE
from mdp.ports import OHLCV, Slice
from mdp.storage import open_store
from mdp_tests.support.builders import DVOL, MARKET, NOW, candles, every_minute, frame, window

NIGHT = window("2024-12-30T20:00", "2024-12-31T04:00")
OKX = Market.parse("okx:BTC-USDT")


@pytest.fixture(scope="session")
def lake(tmp_path_factory):
    """Settings of a lake: Binance has all of the night, OKX lacks 22:00 to 00:00, the index 23:30 to 00:00."""
    settings = load_settings(data_dir=tmp_path_factory.mktemp("night"))
    store = open_store(settings)
    for market, missing in ((MARKET, range(0)), (OKX, range(120, 240))):
        rows = [
            {**row, "exchange": market.exchange.value, "close": float(number), "high": 1e6, "low": 0.5}
            for number, row in enumerate(every_minute("2024-12-30T20:00", "2024-12-31T04:00"))
            if number not in missing
        ]
        minutes = candles(*rows)
        for timeframe, made in ((Timeframe.M1, minutes), (Timeframe.H1, resample(minutes, Timeframe.H1))):
            store.replace(OHLCV, Slice(market, (timeframe,), NIGHT), made)
    store.replace(DVOL_TABLE, Slice(DVOL, (Timeframe.M1,), NIGHT), index_minutes())
    return settings


def index_minutes():
    moments = [NIGHT.start + timedelta(minutes=number) for number in range(480)]
    rows = [
        {"exchange": "deribit", "symbol": "BTC-DVOL", "timeframe": "1m", "open_time": moment, "dvol": float(number),
         "hour_open_time": moment - timedelta(hours=1), "age_minutes": 0, "source": "rest", "ingested_at": NOW}
        for number, moment in enumerate(moments)
        if not 210 <= number < 240
    ]  # fmt: skip
    return frame(rows, DVOL_SCHEMA).with_columns(pl.col("age_minutes").cast(pl.Int32))
