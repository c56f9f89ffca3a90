"""The real service over a small lake and a real bus: a process that tests start, kill and start again.

As a program: the service. Not here: a service that only says what a test tells it (``scripted``).
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import httpx
import polars as pl

from mdp.config.settings import load_settings
from mdp.domain.candles import DVOL_SCHEMA, GAP_SCHEMA
from mdp.domain.interval import Interval
from mdp.domain.resample import resample
from mdp.domain.revisions import find_revisions
from mdp.domain.timeframe import Timeframe
from mdp.pipeline.snapshots import create_snapshot
from mdp.ports import DVOL as DVOL_TABLE
from mdp.ports import GAPS, OHLCV, REVISIONS, Slice
from mdp.storage import open_store
from mdp_tests.support.builders import DVOL, MARKET, NOW, at, candle, candles, frame

START = at("2024-12-30")
DAYS = 3
WHOLE = Interval(START, START + timedelta(days=DAYS))
HOLE = Interval(at("2024-12-30T10:00"), at("2024-12-30T10:40"))
SNAPSHOT = "q1"


def minutes(first=0, last=DAYS * 1440, market=MARKET):
    """Stored minutes, counted from ``START``; each closes a little higher, none in the hole."""
    opened = [START + timedelta(minutes=one) for one in range(first, last)]
    rows = (
        candle(
            one, exchange=market.exchange.value, symbol=market.symbol_key, close=100 + (one - START) / WHOLE.duration
        )
        for one in opened
        if not HOLE.contains(one)
    )
    return candles(*rows)


def build_lake(data_dir):
    """Three days of one market with a hole, a revision and a snapshot, and an hour of an index."""
    settings = load_settings(data_dir=data_dir)
    store = open_store(settings)
    rows = minutes()
    store.append(REVISIONS, find_revisions(rows.head(1).with_columns(close=pl.lit(99.5)), rows.head(1), revised_at=NOW))
    store.replace(OHLCV, Slice(MARKET, (Timeframe.M1,), WHOLE), rows)
    store.replace(OHLCV, Slice(MARKET, (Timeframe.H1,), WHOLE), resample(rows, Timeframe.H1))
    gap = {
        "exchange": "binance", "symbol": "BTC-USDT", "timeframe": "1m", "start": HOLE.start, "end": HOLE.end,
        "slots": 40, "cause": "exchange_outage", "source": "rest", "seen_at": NOW, "first_seen_at": NOW,
        "sightings": 2, "is_permanent": True, "detail": "maintenance",
    }  # fmt: skip
    store.replace(GAPS, Slice(MARKET, (Timeframe.M1,), WHOLE), frame([gap], GAP_SCHEMA))
    hour = Interval(START, START + timedelta(hours=1))
    store.replace(DVOL_TABLE, Slice(DVOL, (Timeframe.M1,), hour), index_minutes(hour))
    create_snapshot(store, SNAPSHOT, [MARKET], [Timeframe.M1, Timeframe.H1], WHOLE, lambda: NOW)
    return settings


def store_minutes(settings, first, last):
    """Store further minutes, as the run that persists live candles does."""
    window = Interval(START + timedelta(minutes=first), START + timedelta(minutes=last))
    open_store(settings).replace(OHLCV, Slice(MARKET, (Timeframe.M1,), window), minutes(first, last))


def index_minutes(window):
    opened = [window.start + timedelta(minutes=one) for one in range(window.slots(Timeframe.M1))]
    rows = [
        {"exchange": "deribit", "symbol": "BTC-DVOL", "timeframe": "1m", "open_time": one, "dvol": 50.0,
         "hour_open_time": one - timedelta(hours=1), "age_minutes": 0, "source": "rest", "ingested_at": NOW}
        for one in opened
    ]  # fmt: skip
    return frame(rows, DVOL_SCHEMA)


class Service:
    """The service in a process of its own, always at the same port.

    Args:
        data_dir: Of the lake and the bus.
        settings: As environment variables.
    """

    def __init__(self, data_dir: Path, **settings: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        said = {"MDP_DATA_DIR": str(data_dir), "MDP_API__MAX_ROWS": "1000", "MDP_API__HEARTBEAT_S": "0.5", **settings}
        self._environment = {**os.environ, **said}
        self.folder = data_dir
        self._log = data_dir / "service.log"
        self._process: subprocess.Popen | None = None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self):
        """Start it and wait until it answers."""
        with self._log.open("a") as log:
            command = [sys.executable, "-m", "mdp_tests.client.serving", str(self.port)]
            self._process = subprocess.Popen(command, env=self._environment, stdout=log, stderr=log)
        for _ in range(300):
            try:
                httpx.get(f"{self.url}/api/v1/snapshots", trust_env=False)
            except httpx.TransportError:
                if self._process.poll() is not None:
                    break
                time.sleep(0.1)
            else:
                return
        self.stop()
        raise AssertionError(f"the service did not start:\n{self._log.read_text()[-3000:]}")

    def kill(self):
        """End it as a crash does."""
        self._process.kill()
        self._process.wait(10)

    def stop(self):
        """End it as an operator does."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()


def main() -> None:
    """Serve until told to end."""
    import uvicorn

    from mdp.api.app import create_app

    app = create_app(load_settings())
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=False, timeout_graceful_shutdown=5)


if __name__ == "__main__":
    main()
