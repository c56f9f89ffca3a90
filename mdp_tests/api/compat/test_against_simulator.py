"""The same question to the simulator of an exchange and to the drop-in klines: the same bytes come back.

The simulator was written from the exchanges' documents and holds recorded days. Not here: real clients
(``integration.test_compat_clients``).
"""

from __future__ import annotations

import asyncio
import itertools
import re
from datetime import datetime, timedelta

import httpx
import polars as pl
import pytest
from fastapi import FastAPI

from mdp.api.compat import router
from mdp.api.compat.weights import Weights
from mdp.api.surroundings import Surroundings
from mdp.config.settings import load_settings
from mdp.domain.candle_buffer import CandleBuffer
from mdp.domain.candles import CANDLE_SCHEMA, GAP_SCHEMA
from mdp.domain.live import CandleState, LiveCandle
from mdp.domain.market import Market
from mdp.domain.resample import resample_all
from mdp.domain.timeframe import EPOCH, Timeframe
from mdp.ports import GAPS, OHLCV, Slice
from mdp.simulator.app import create_app as create_simulator
from mdp.simulator.clock import to_ms
from mdp.simulator.simulation import build_simulation
from mdp.storage import open_store
from mdp_tests.support.builders import at, window

pytestmark = pytest.mark.slow  # worlds and files are made

START, END = "2024-12-30", "2025-01-01"
START_MS, END_MS = (to_ms(at(text)) for text in (START, END))
BTC = Market.parse("binance:BTC-USDT")
PATHS = {
    "binance": ("/api/v3/klines", {"symbol": "BTCUSDT", "interval": "1m"}),
    "bybit": ("/v5/market/kline", {"category": "spot", "symbol": "BTCUSDT", "interval": "1"}),
    "okx": ("/api/v5/market/history-candles", {"instId": "BTC-USDT", "bar": "1m"}),
}


class Buffers:
    """What a mirror holds, put there by a test."""

    def __init__(self):
        self.held = {}

    @property
    def wanted(self):
        return tuple(self.held)

    def find(self, market, timeframe):
        return self.held.get((market, timeframe))


addresses = (f"127.{number >> 8}.{number & 255}.1" for number in itertools.count(1))


def ask(app, path, params=None, *, address="127.0.0.1", **more):
    async def request():
        transport = httpx.ASGITransport(app, client=(address, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            return await client.request(more.pop("method", "GET"), path, params=params, **more)

    return asyncio.run(request())


@pytest.fixture(scope="module")
def simulator():
    return create_simulator(build_simulation(seed=7, clock=lambda: END_MS))


@pytest.fixture(scope="module")
def settings(tmp_path_factory, simulator):
    settings = load_settings(data_dir=tmp_path_factory.mktemp("compared"))
    store = open_store(settings)
    for exchange in PATHS:
        market = Market.parse(f"{exchange}:BTC-USDT")
        minutes = all_minutes(simulator, exchange)
        assert len(minutes) == 2 * 1_440
        for timeframe, rows in {Timeframe.M1: minutes, **resample_all(minutes)}.items():
            store.replace(OHLCV, Slice(market, (timeframe,), window(START, END)), rows)
    return settings


@pytest.fixture
def service(settings):
    app = FastAPI()
    app.include_router(router)
    app.state.surroundings = Surroundings(settings, bus=None, mirror=Buffers())
    return app


def all_minutes(simulator, exchange):
    """The minutes of two days, as the simulator tells them."""
    path, params = PATHS[exchange]
    found = {}
    for start_ms in range(START_MS, END_MS, 300 * 60_000):
        last_ms = min(start_ms + 300 * 60_000, END_MS) - 1
        names = {"binance": ("startTime", "endTime"), "bybit": ("start", "end"), "okx": ("before", "after")}[exchange]
        bounds = (start_ms - 1, last_ms + 1) if exchange == "okx" else (start_ms, last_ms)
        asked = {**params, "limit": 300, **dict(zip(names, bounds, strict=True))}
        answer = ask(simulator, f"/{exchange}{path}", asked, address=next(addresses)).json()
        found |= {int(row[0]): row for row in page(answer)}
    rows = [found[key] for key in sorted(found)]
    return pl.DataFrame([candle(exchange, row) for row in rows], CANDLE_SCHEMA, orient="row")


def page(body):
    if isinstance(body, list):
        return body
    return body["data"] if "data" in body else body["result"]["list"]


def candle(exchange, row):
    opened, *values = row
    quote, trades = (values[6], values[7]) if exchange == "binance" else (values[5], None)
    key = (exchange, "BTC-USDT", "1m", datetime.fromtimestamp(int(opened) / 1_000, tz=at(START).tzinfo))
    return (*key, *map(float, values[:5]), float(quote), trades, 1, "rest", at("2025-01-02"))


def untimed(body: bytes) -> bytes:
    """A body without what is no candle of ours: Bybit's time of answering, Binance's takers."""
    body = re.sub(rb'("time"|"serverTime"):\d+', rb"\1:0", body)
    return re.sub(rb',"[0-9.]+","[0-9.]+","0"\]', b',"0.00000000","0.00000000","0"]', body)


BINANCE = [
    {"startTime": START_MS, "endTime": END_MS - 1},
    {"startTime": START_MS + 1, "endTime": START_MS + 600_000, "limit": 5},
    {"startTime": START_MS * 1_000 + 1, "endTime": START_MS * 1_000 + 600_000_000},
    {"startTime": START_MS, "endTime": START_MS},
    {"startTime": START_MS + 60_000, "endTime": START_MS},
    {"endTime": END_MS - 1, "limit": 7},
    {"endTime": END_MS - 1, "limit": 5_000},
    {"symbol": "NOSUCH"},
    {"symbol": "btcusdt"},
    {"interval": "7m"},
    {"limit": 0},
    {"limit": -1},
    {"limit": ""},
    {"startTime": "2024-12-30"},
    {"endTime": "1.5"},
    {"timeZone": "moon"},
    {"nonsense": 1},
    {"symbol": None},
    {"interval": None},
]
BYBIT = [
    {"start": START_MS, "end": END_MS - 1},
    {"start": START_MS, "limit": 1_000},
    {"start": START_MS + 1, "end": START_MS + 600_000, "limit": 3},
    {"end": END_MS - 1, "limit": 5_000},
    {"category": None},
    {"category": "coins"},
    {"symbol": "NOSUCH"},
    {"interval": "7"},
    {"limit": 0},
    {"start": "x"},
]
OKX = [
    {"before": START_MS - 1, "after": START_MS + 600_000},
    {"after": END_MS},
    {"after": END_MS, "limit": 1_000},
    {"after": END_MS, "before": START_MS, "limit": 3},
    {"after": END_MS, "bar": ""},
    {"instId": "NO-SUCH"},
    {"instId": ""},
    {"bar": "7m"},
    {"limit": 0},
    {"after": "x"},
]


@pytest.mark.parametrize(
    ("exchange", "question"),
    [(exchange, question) for exchange, all_ in zip(PATHS, (BINANCE, BYBIT, OKX), strict=True) for question in all_],
    ids=str,
)
def test_the_same_question_has_the_same_answer(simulator, service, exchange, question):
    path, params = PATHS[exchange]
    asked = {name: value for name, value in {**params, **question}.items() if value is not None}
    theirs = ask(simulator, f"/{exchange}{path}", asked, address=next(addresses))
    ours = ask(service, f"/compat/{exchange}{path}", asked)
    assert ours.status_code == theirs.status_code
    assert untimed(ours.content) == untimed(theirs.content)


LONGER = [
    ("binance", {"endTime": END_MS - 1, "interval": "5m"}),
    ("binance", {"endTime": END_MS - 1, "interval": "1h", "limit": 48, "timeZone": "0"}),
    ("binance", {"endTime": END_MS - 1, "interval": "1d", "limit": 2}),
    ("bybit", {"end": END_MS - 1, "interval": "60", "limit": 48}),
    ("bybit", {"end": END_MS - 1, "interval": "D", "limit": 2}),
    ("okx", {"after": END_MS, "bar": "4H", "limit": 12}),
    ("okx", {"after": END_MS, "bar": "1Dutc", "limit": 2}),
]


@pytest.mark.parametrize(("exchange", "question"), LONGER, ids=str)
def test_longer_candles_are_the_same_but_for_what_floats_leave_of_large_sums(simulator, service, exchange, question):
    path, params = PATHS[exchange]
    theirs = page(ask(simulator, f"/{exchange}{path}", params | question, address=next(addresses)).json())
    ours = page(ask(service, f"/compat/{exchange}{path}", params | question).json())
    sums = {"binance": [7], "bybit": [6], "okx": [6, 7]}[exchange]
    for our, their in zip(ours, theirs, strict=True):
        for place in sums:
            assert float(our[place]) == pytest.approx(float(their[place]), rel=1e-15, abs=0)
            our[place] = their[place] = ""
        assert our[:9] == their[:9]


def test_what_is_not_kept_is_zero_of_the_same_type_and_said_so(service):
    answer = ask(service, "/compat/binance/api/v3/klines", {**PATHS["binance"][1], "limit": 1})
    assert [type(value) for value in answer.json()[0]] == [int, *[str] * 5, int, str, int, str, str, str]
    assert answer.json()[0][9:] == ["0.00000000", "0.00000000", "0"]
    assert answer.headers["x-mdp-not-kept"] == "taker_buy_base_volume,taker_buy_quote_volume"
    assert answer.headers["content-type"] == "application/json;charset=UTF-8"


def test_binance_counts_weight_and_refuses_too_much(service):
    def used(path):
        return int(ask(service, f"/compat/binance/api/v3/{path}").headers["x-mbx-used-weight-1m"])

    first = used("ping")
    assert (used("exchangeInfo") - first) % 6_000 in (20, 21)  # a minute may end in between
    for _ in range(310):
        answer = ask(service, "/compat/binance/api/v3/exchangeInfo")
    assert (answer.status_code, answer.json()["code"]) == (429, -1003)
    assert 1 <= int(answer.headers["retry-after"]) <= 60


def test_a_long_candle_made_of_many_short_ones_weighs_more(service):
    def weight(**more):
        service.state.binance_weights = Weights()
        asked = {**PATHS["binance"][1], "startTime": 0, "limit": 1_000, **more}
        answer = ask(service, "/compat/binance/api/v3/klines", asked)
        return answer.status_code, int(answer.headers["x-mbx-used-weight-1m"])

    assert weight() == weight(interval="3m") == (200, 2)
    assert weight(interval="1d", timeZone="8") == (200, 3)
    assert weight(interval="1d", timeZone="5:45") == (200, 21)
    assert weight(interval="1d", timeZone="0:01") == (400, 2)


HOLE_MS = START_MS + 610 * 60_000


@pytest.mark.parametrize(("cause", "is_permanent", "is_over"), [
    ("unknown", False, False), ("unknown", True, True), ("exchange_outage", False, True), (None, None, False),
])  # fmt: skip
def test_a_hole_in_storage_is_reached_over_only_where_the_table_of_gaps_ends_it(
    settings, tmp_path, cause, is_permanent, is_over
):
    store, minutes = open_store(load_settings(data_dir=tmp_path)), open_store(settings)
    part = Slice(BTC, (Timeframe.M1,), window(START, END))
    rows = minutes.read(OHLCV, part)
    hole = [EPOCH + timedelta(milliseconds=HOLE_MS + more * 60_000) for more in (0, 50)]
    store.replace(OHLCV, part, rows.filter((pl.col("open_time") < hole[0]) | (pl.col("open_time") >= hole[1])))
    if cause is not None:
        known = {"exchange": "binance", "symbol": "BTC-USDT", "timeframe": "1m", "start": hole[0], "end": hole[1],
                 "slots": 50, "cause": cause, "source": "rest", "seen_at": hole[1], "first_seen_at": hole[1],
                 "sightings": 1, "is_permanent": is_permanent, "detail": None}  # fmt: skip
        store.replace(GAPS, part, pl.DataFrame([known], GAP_SCHEMA))
    app = FastAPI()
    app.include_router(router)
    app.state.surroundings = Surroundings(load_settings(data_dir=tmp_path), bus=None, mirror=Buffers())

    def opened(**more):
        asked = {**PATHS["binance"][1], "startTime": START_MS, "limit": 1_000, **more}
        return [row[0] for row in ask(app, "/compat/binance/api/v3/klines", asked).json()]

    assert max(opened()) == (START_MS + 1_049 * 60_000 if is_over else HOLE_MS - 60_000)
    assert len(opened(interval="3m")) == (960 - 16 if is_over else 203)
    assert bool(opened(startTime=HOLE_MS)) == is_over


def test_times_may_be_asked_in_microseconds(simulator, service):
    asked = {**PATHS["binance"][1], "startTime": START_MS, "endTime": START_MS + 60_000}
    unit = {"X-MBX-TIME-UNIT": "MICROSECOND"}
    theirs = ask(simulator, "/binance/api/v3/klines", asked, headers=unit)
    ours = ask(service, "/compat/binance/api/v3/klines", asked, headers=unit)
    assert untimed(ours.content) == untimed(theirs.content)
    assert ours.json()[0][6] % 1_000_000 == 999_999


@pytest.mark.parametrize("path", ["klines?symbol=BTCUSDT&symbol=BTCUSDT&interval=1m", "klines?symbol=&interval=1m"])
def test_what_the_simulator_does_not_tell_apart_is_refused_as_documented(service, path):
    answer = ask(service, f"/compat/binance/api/v3/{path}")
    assert (answer.status_code, answer.json()["code"]) == (400, -1101 if "symbol=BTC" in path else -1105)


@pytest.mark.parametrize("exchange", PATHS)
def test_what_is_not_offered_is_refused_in_the_exchanges_words(service, exchange):
    for method, path in (
        ("GET", "/api/v3/account"),
        ("POST", PATHS[exchange][0]),
        ("GET", "/%2e%2e/%2e%2e/etc/passwd"),
    ):
        answer = ask(service, f"/compat/{exchange}{path}", method=method)
        assert answer.status_code == (405 if method == "POST" else 404)
        assert answer.headers.get("allow") == ("GET" if method == "POST" else None)
        body = answer.json()
        assert (
            body.get("code", body.get("retCode"))
            == {"binance": -1020, "bybit": 10404, "okx": "50115" if method == "POST" else "50016"}[exchange]
        )


def live(minute_ms, state, close):
    open_us = minute_ms * 1_000
    return LiveCandle(open_us, 1.0, 9.0, 0.5, close, 3.25, 6.5, 7, 1, state, "stream", open_us)


def test_live_candles_follow_the_stored_ones_in_every_shape(service):
    now = (datetime.now(EPOCH.tzinfo) - EPOCH) // EPOCH.resolution // 1_000
    first = now - now % 60_000 - 120_000
    states = (CandleState.CONFIRMED, CandleState.CLOSED, CandleState.FORMING)
    buffers = service.state.surroundings.mirror
    for exchange in PATHS:
        market = Market.parse(f"{exchange}:BTC-USDT")
        given = tuple(live(first + 60_000 * slot, state, 2.0 + slot) for slot, state in enumerate(states))
        buffers.held[market, Timeframe.M1] = CandleBuffer(market, Timeframe.M1, 100, given, 1, now * 1_000)
    klines = ask(service, "/compat/binance/api/v3/klines", PATHS["binance"][1]).json()
    assert [(row[0], row[4], row[8]) for row in klines][:2] == [
        (first, "2.00000000", 7),
        (first + 60_000, "3.00000000", 7),
    ]
    rows = ask(service, "/compat/okx/api/v5/market/candles", PATHS["okx"][1]).json()["data"]
    assert [row[8] for row in rows][-2:] == ["1", "1"]
    assert rows[0][8] == "0" or len(rows) == 2  # the minute may have ended meanwhile
    finished = ask(service, "/compat/okx/api/v5/market/history-candles", PATHS["okx"][1]).json()["data"]
    assert [row[8] for row in finished] == ["1", "1"]
    assert ask(service, "/compat/bybit/v5/market/kline", PATHS["bybit"][1]).json()["result"]["list"][-1][4] == "2"
