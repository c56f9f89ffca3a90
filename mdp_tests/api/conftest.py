"""A service over a small lake: one collected day of one market, with a minute missing; no bus.

Not here: a service with live buffers (``live_service``), as a process (``integration``).
"""

from __future__ import annotations

import polars as pl
import pytest
from starlette.testclient import TestClient

from mdp.api.app import create_app
from mdp.config.settings import load_settings
from mdp.domain.candles import GAP_SCHEMA
from mdp.domain.resample import resample
from mdp.domain.timeframe import RESAMPLED, Timeframe
from mdp.ports import FETCHES, GAPS, OHLCV, Slice
from mdp.storage import open_store
from mdp_tests.pipeline.test_failed_days import fetched
from mdp_tests.pipeline.test_report_by_day import gap
from mdp_tests.support.builders import MARKET, at, candles, every_minute, frame, window


@pytest.fixture(scope="session")
def lake(tmp_path_factory):
    """A data directory whose lake holds 2024-12-30 of ``MARKET``, without 10:30, at all timeframes."""
    folder = tmp_path_factory.mktemp("lake")
    store = open_store(load_settings(data_dir=folder, simulated=True))
    day = window("2024-12-30", "2024-12-31")
    minutes = candles(*every_minute("2024-12-30", "2024-12-31")).filter(pl.col("open_time") != at("2024-12-30T10:30"))
    store.append(FETCHES, fetched("2024-12-30", at("2025-01-01")))
    minutes_only = Slice(MARKET, (Timeframe.M1,), day)
    store.replace(GAPS, minutes_only, frame([gap("2024-12-30T10:30", "2024-12-30T10:31", "unknown")], GAP_SCHEMA))
    made = [minutes]
    for timeframe in RESAMPLED:
        made.append(resample(made[-1], timeframe))
    store.replace(OHLCV, Slice(MARKET, tuple(Timeframe), day), pl.concat(made))
    return folder


@pytest.fixture(scope="session")
def settings(lake):
    return load_settings(data_dir=lake, simulated=True, api={"access_log": "off"})


@pytest.fixture(scope="session")
def client(settings):
    """Asks the service as somebody on the same machine does."""
    with TestClient(create_app(settings), base_url="http://127.0.0.1:8000", client=("127.0.0.1", 50_000)) as asking:
        yield asking
