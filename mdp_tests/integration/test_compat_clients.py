"""Other people's clients, pointed at the drop-in klines by changing an address, get exactly what is stored.

CCXT, freqtrade and python-binance run in ``.venv-clients`` (``make clients``), as a user runs them, against the service
on a real port. Not here: the shapes themselves (``api.compat``).
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
import time
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import uvicorn
from fastapi import FastAPI

from mdp.api.app import create_app
from mdp.api.compat import router
from mdp.config.settings import load_settings
from mdp.domain.candles import GAP_SCHEMA
from mdp.domain.market import Market
from mdp.domain.resample import resample_all
from mdp.domain.timeframe import Timeframe
from mdp.ports import GAPS, OHLCV, Slice
from mdp.storage import open_store
from mdp_tests.support.builders import at, candles, every_minute, window

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

ROOT = Path(__file__).parent.parent.parent
CLIENTS = ROOT / ".venv-clients" / "bin"
PROGRAMS = ROOT / "mdp_tests" / "support" / "clients"
FIRST, LAST = "2024-11-29", "2024-12-31"
MISSING = at("2024-12-03T10:30")
"""A minute that no exchange has, and it is known why: clients must see the same hole."""


@pytest.fixture(scope="module")
def rows():
    """The minutes of a month: prices that move, amounts of the exchanges' own steps."""
    made = candles(*every_minute(FIRST, LAST))
    number = np.arange(made.height)
    # numpy divides exactly; polars multiplies by the reciprocal, and its prices would be none that are written in cents
    made = made.with_columns(
        pl.Series("open", np.divide(9_300_000 + number * 37 % 100_000, 100)),
        pl.Series("close", np.divide(9_300_000 + number * 41 % 100_000, 100)),
        pl.Series("volume", np.divide(number * 7_919 % 10_000_000 + 1, 100_000)),
        pl.Series("quote_volume", np.divide(number * 7_919 % 10_000_000 * 93_000 + 7, 100_000)),
        pl.Series("trades", number % 50 + 1),
    )
    return made.with_columns(high=pl.max_horizontal("open", "close"), low=pl.min_horizontal("open", "close")).filter(
        pl.col("open_time") != MISSING
    )


@pytest.fixture(scope="module")
def stored(rows):
    return {Timeframe.M1: rows, **resample_all(rows)}


@pytest.fixture(scope="module")
def service(tmp_path_factory, stored):
    settings = load_settings(data_dir=tmp_path_factory.mktemp("drop-in"))
    store = open_store(settings)
    for exchange in ("binance", "bybit", "okx"):
        for timeframe, frame in stored.items():
            part = Slice(Market.parse(f"{exchange}:BTC-USDT"), (timeframe,), window(FIRST, LAST))
            store.replace(OHLCV, part, frame.with_columns(exchange=pl.lit(exchange)))
        known = {"exchange": exchange, "symbol": "BTC-USDT", "timeframe": "1m", "start": MISSING, "slots": 1,
                 "end": MISSING + timedelta(minutes=1), "cause": "exchange_outage", "source": "rest",
                 "seen_at": at(LAST), "first_seen_at": at(LAST), "sightings": 1, "is_permanent": False,
                 "detail": None}  # fmt: skip
        part = Slice(Market.parse(f"{exchange}:BTC-USDT"), (Timeframe.M1,), window(FIRST, LAST))
        store.replace(GAPS, part, pl.DataFrame([known], GAP_SCHEMA))
    app = create_app(settings)
    if not any(getattr(route, "path", "").startswith("/compat/") for route in app.routes):
        app.include_router(router)
    with listening(app) as url:
        yield url


@contextmanager
def listening(app: FastAPI):
    """Serve an app on a free port of this machine."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, ws="none"))
        serving = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        serving.start()
        until = time.monotonic() + 30
        while not server.started and time.monotonic() < until:
            time.sleep(0.02)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            serving.join(10)


def run(*command, **options):
    """Run a client as a user does; what it prints."""
    assert (CLIENTS / "python").exists(), "there is no .venv-clients: run `make clients`"
    surroundings = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        [CLIENTS / command[0], *map(str, command[1:])],
        capture_output=True, text=True, timeout=200, check=False, env=surroundings, **options,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2_000:] + done.stderr[-4_000:]
    return done.stdout


def of_ccxt(frame: pl.DataFrame) -> list[list[float]]:
    times = frame["open_time"].dt.epoch("ms")
    return [list(row) for row in frame.select(times, "open", "high", "low", "close", "volume").iter_rows()]


def epoch_ms(moment) -> int:
    return round(moment.timestamp() * 1_000)


@pytest.mark.parametrize(("timeframe", "days"), [("1m", 3), ("1h", 30)])
def test_ccxt_pages_over_days_on_all_three_exchanges_and_gets_exactly_what_is_stored(service, stored, timeframe, days):
    first, last = at("2024-12-01"), at("2024-12-01") + timedelta(days=days)
    found = json.loads(run("python", PROGRAMS / "ask_ccxt.py", service, epoch_ms(first), epoch_ms(last), timeframe))
    frame = stored[Timeframe(timeframe)].filter(pl.col("open_time").is_between(first, last, closed="left"))
    expected = of_ccxt(frame)
    assert len(expected) == (3 * 1_440 - 1 if timeframe == "1m" else 30 * 24)
    for exchange in ("binance", "bybit", "okx"):
        assert found[exchange]["sync"] == expected, exchange
        assert found[exchange]["async"] == expected, exchange
        assert found[exchange]["markets"] == ["BTC/USDT", "ETH/USDT", "SOL/USDT"]
        assert found[exchange]["refused"] == ["BadSymbol", "BadRequest"]
        assert abs(found[exchange]["time"] / 1_000 - time.time()) < 120


def test_freqtrade_downloads_thirty_days_and_stores_our_candles_to_the_last_bit(service, stored, tmp_path):
    config = {
        "dry_run": True,
        "stake_currency": "USDT",
        "stake_amount": 100,
        "max_open_trades": 1,
        "exchange": {
            "name": "binance",
            "pair_whitelist": ["BTC/USDT"],
            "only_from_ccxt": True,
            "ccxt_config": {
                "urls": {"api": {"public": f"{service}/compat/binance/api/v3"}},
                "options": {"fetchMarkets": {"types": ["spot"]}},
            },
        },
        "pairlists": [{"method": "StaticPairList"}],
        "entry_pricing": {"price_side": "same", "use_order_book": False},
        "exit_pricing": {"price_side": "same", "use_order_book": False},
    }
    (tmp_path / "config.json").write_text(json.dumps(config), "utf-8")
    run("freqtrade", "create-userdir", "--userdir", tmp_path / "freqtrade")
    run(
        "freqtrade", "download-data", "-c", tmp_path / "config.json", "--userdir", tmp_path / "freqtrade",
        "--pairs", "BTC/USDT", "-t", "1m", "5m", "1h", "--timerange", "20241201-20241231",
        cwd=tmp_path,
    )  # fmt: skip
    columns = ["open", "high", "low", "close", "volume"]
    for timeframe in ("1m", "5m", "1h"):
        path = tmp_path / "freqtrade" / "data" / "binance" / f"BTC_USDT-{timeframe}.feather"
        theirs = pl.read_ipc(path.read_bytes()).with_columns(pl.col("date").cast(pl.Datetime("us", "UTC")))
        ours = stored[Timeframe(timeframe)].filter(
            pl.col("open_time").is_between(theirs["date"][0], theirs["date"][-1])
        )
        assert theirs["date"][0] == at("2024-12-01")
        # it always drops the newest candle, which on an exchange is still forming
        assert theirs["date"][-1] >= at("2024-12-31") - 2 * Timeframe(timeframe).duration
        assert theirs["date"].to_list() == ours["open_time"].to_list()
        assert theirs.select(columns).rows() == ours.select(columns).rows()


def test_python_binance_gets_what_is_stored_and_understands_refusals(service, rows):
    first, last = at("2024-12-01"), at("2024-12-02T12:00")
    found = json.loads(run("python", PROGRAMS / "ask_python_binance.py", service, epoch_ms(first), epoch_ms(last)))
    expected = rows.filter(pl.col("open_time").is_between(first, last))
    assert [row[0] for row in found["history"]] == expected["open_time"].dt.epoch("ms").to_list()
    assert [float(row[7]) for row in found["history"]] == expected["quote_volume"].to_list()
    assert [row[8] for row in found["history"]] == expected["trades"].to_list()
    assert [row[0] for row in found["newest"]] == [epoch_ms(at(f"2024-12-30T{hour}:00")) for hour in range(19, 24)]
    assert (found["code"], found["symbol"], found["earliest"]) == (-1121, "0.01000000", epoch_ms(at(FIRST)))
