"""Streams of the real service over a real bus: killed and started again in the middle, it costs no candle."""

from __future__ import annotations

import threading
import time

import pytest

from mdp.client import BufferSnapshot, CandleUpdate, Client, Disconnected, Fresh, Missing, NotFound, Retrying, Stale
from mdp.config.settings import load_settings
from mdp.domain.live import CandleState
from mdp.domain.timeframe import Timeframe
from mdp_tests.client.feeding import FIRST, Feed, live
from mdp_tests.client.serving import Service, build_lake, store_minutes
from mdp_tests.support.builders import MARKET

pytestmark = pytest.mark.slow

BTC, M1 = str(MARKET), Timeframe.M1


def minute(update):
    return (update.candle.open_us - live(0, CandleState.CLOSED).open_us) // 60_000_000


@pytest.fixture
def place(tmp_path):
    build_lake(tmp_path)
    settings = load_settings(data_dir=tmp_path, live={"buffer_size": 10})
    feed = Feed(settings)
    with Service(tmp_path, MDP_LIVE__BUFFER_SIZE="10") as service:
        yield settings, feed, service
    feed.close()


def follow(url, heard, is_done):
    """Follow in a thread until ``is_done``."""

    def work():
        retrying = Retrying(first_pause_s=0.05, longest_pause_s=0.3)
        with Client(url, retrying=retrying) as client, client.stream(BTC) as updates:
            for update in updates:
                heard.append(update)
                if is_done(update):
                    return

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def wait_until(holds, seconds=30):
    for _ in range(seconds * 20):
        if holds():
            return
        time.sleep(0.05)
    raise AssertionError("it did not come to hold")


def ends(heard):
    return [minute(one) for one in heard if isinstance(one, CandleUpdate) and one.is_closed]


def test_a_service_that_is_killed_and_started_again_costs_no_candle(place):
    settings, feed, service = place
    feed.close_minutes(5)
    heard = []
    last = FIRST + 5 + 20 + 3 + 30 + 4 - 1
    following = follow(service.url, heard, lambda one: ends([one]) == [last])
    wait_until(lambda: any(isinstance(one, BufferSnapshot) for one in heard))
    feed.close_minutes(20)  # as it happens
    service.kill()
    feed.close_minutes(3)  # a short absence: the buffer still reaches back
    service.start()
    wait_until(lambda: ends(heard)[-1:] == [feed.next - 1])
    service.kill()
    feed.close_minutes(30)  # a long one: it does not
    store_minutes(settings, FIRST, feed.next)
    service.start()
    wait_until(lambda: ends(heard)[-1:] == [feed.next - 1])
    feed.close_minutes(4)
    following.join(20)
    assert not following.is_alive()
    assert ends(heard) == list(range(FIRST + 5, last + 1)), "each end once and in order"
    reasons = {one.reason for one in heard if isinstance(one, CandleUpdate) and one.is_closed}
    assert {"changed", "history"} <= reasons
    assert sum(isinstance(one, BufferSnapshot) for one in heard) == 1
    assert any(isinstance(one, Disconnected) for one in heard)
    assert [one for one in heard if isinstance(one, Missing)] == []


def test_a_buffer_is_had_by_asking_too_and_is_not_sent_twice(place):
    _, feed, service = place
    feed.close_minutes(12)
    with Client(service.url) as client:
        wait_until(lambda: client.buffer(BTC, "1m").seq >= 12 + 11 + 12)
        one, two = client.buffer(BTC, "1m"), client.buffer(BTC, "1m")
        assert one == two
        assert (one.is_stale, len(one.closed), minute(CandleUpdate(MARKET, M1, one.newest, "read", 1))) == (
            False, 11, FIRST + 11,
        )  # fmt: skip


def test_a_market_that_is_not_there_ends_the_stream_with_what_there_is(place):
    with Client(place[2].url) as client, client.stream("binance:DOGE-USDT") as updates, pytest.raises(NotFound):
        next(updates)


def test_a_feed_that_goes_makes_its_buffers_stale_and_one_that_comes_fresh(place):
    _, feed, service = place
    feed.close_minutes(3)
    heard = []
    following = follow(service.url, heard, lambda one: ends([one]) == [FIRST + 3])
    wait_until(lambda: heard)
    feed.leave()
    wait_until(lambda: any(isinstance(one, Stale) for one in heard))
    feed.come()
    feed.close_minutes(1)
    following.join(20)
    assert not following.is_alive()
    assert ends(heard) == [FIRST + 3]
    assert [type(one) for one in heard if isinstance(one, Stale | Fresh)] == [Stale, Fresh]
