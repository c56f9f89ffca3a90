"""Pages kept ready to be sent: the same bytes as pages made anew, compressed as any client can read them."""

from __future__ import annotations

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdp.simulator.encoded_pages import PageCache, encode_page
from mdp.simulator.request_log import RequestLog
from mdp_tests.simulator.conftest import ms

START = ms("2024-12-30T00:00Z")
KLINES = ("/binance/api/v3/klines", {"symbol": "BTCUSDT", "interval": "1m", "startTime": START, "limit": 100})


@given(st.binary(max_size=5_000), st.binary(max_size=300))
def test_a_compressed_page_and_its_tail_are_one_gzip_stream(head, tail):
    body = encode_page(head, "recorded", as_gzip=True).with_tail(tail)
    assert gzip.decompress(body) == head + tail
    # as clients do that read one stream and stop
    stream = zlib.decompressobj(31)
    assert stream.decompress(body) == head + tail
    assert stream.eof
    assert encode_page(head, "recorded", as_gzip=False).with_tail(tail) == head + tail


def test_the_pages_used_last_are_kept():
    cache = PageCache(most_bytes=25)
    pages = {name: encode_page(name.encode() * 10, "recorded", as_gzip=False) for name in "abc"}
    cache.put("a", pages["a"])
    cache.put("b", pages["b"])
    assert cache.get("a") == pages["a"]
    cache.put("c", pages["c"])
    assert [cache.get(name) for name in "abc"] == [pages["a"], None, pages["c"]]


@pytest.mark.parametrize(
    ("path", "params"),
    [
        KLINES,
        (
            "/bybit/v5/market/kline",
            {"category": "spot", "symbol": "BTCUSDT", "interval": "1", "start": START, "limit": 100},
        ),
        ("/okx/api/v5/market/history-candles", {"instId": "BTC-USDT", "after": START, "limit": 100}),
    ],
)
def test_a_kept_page_is_the_page_made_anew_in_either_encoding(world, path, params):
    answers = []
    for encoding in ("gzip", "identity", "gzip", "identity"):
        response = world.ask(path, headers={"Accept-Encoding": encoding}, **params)
        assert response.headers.get("Content-Encoding") == (encoding if encoding == "gzip" else None)
        answers.append((response.content, response.headers["X-Simulator-Data"]))
    assert len(set(answers)) == 1
    assert len(world.simulation.pages._pages) == 2


def test_a_page_that_time_will_change_is_not_kept(world):
    path, params = KLINES
    near = {**params, "startTime": world.now_ms // 60_000 * 60_000 - 5 * 60_000}
    counts = []
    for _ in range(2):
        counts.append(len(world.ask(path, **near).json()))
        world.now_ms += 60_000
    assert counts == [6, 7]
    assert not world.simulation.pages._pages


def test_a_page_without_the_open_candle_is_not_kept_until_it_has_closed(world):
    after = world.now_ms // 60_000 * 60_000 + 1
    params = {"instId": "BTC-USDT", "after": after, "limit": 3}
    newest = []
    for _ in range(2):
        newest.append(int(world.ask("/okx/api/v5/market/history-candles", **params).json()["data"][0][0]))
        world.now_ms += 60_000
    assert newest == [after - 1 - 60_000, after - 1]


def test_a_kept_page_told_the_time_of_each_answer(world):
    params = {"category": "spot", "symbol": "BTCUSDT", "interval": "1", "start": START, "limit": 5}
    times = []
    for _ in range(2):
        times.append(world.ask("/bybit/v5/market/kline", **params).json()["time"])
        world.now_ms += 1_234
    assert times[1] - times[0] == 1_234


def test_the_log_keeps_the_newest_and_counts_all():
    log = RequestLog(kept=3)
    rest = {"client": "a:1", "method": "GET", "path": "/", "query": "", "size": 0, "faults": (), "quota_left": None}
    for number in range(10):
        log.add(at_s=0.0, exchange="okx", status=200 if number else None, **rest)
    assert [entry.number for entry in log.since()] == [8, 9, 10]
    assert [entry.number for entry in log.since(9)] == [10]
    assert log.counts() == {"none": 1, "200": 9}
