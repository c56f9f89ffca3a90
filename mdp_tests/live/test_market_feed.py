"""One market of a feed: what a refusal does, whose clock counts, what it says of what it does not take."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from datetime import timedelta

import pytest

from mdp.config.sections import LiveSettings
from mdp.domain.live import CandleState
from mdp.domain.market import Exchange, Market
from mdp.domain.timeframe import EPOCH, Timeframe
from mdp.errors import RequestRejected
from mdp.live import market_feed
from mdp.live.asking import Reason
from mdp.live.market_feed import MarketFeed
from mdp.live.market_health import health_of
from mdp.live.means import Means
from mdp.live.tenure import Tenure
from mdp.ports import Fetched, Streamed
from mdp_tests.live.candles import MINUTE, SECOND, START, minute
from mdp_tests.live.scripted_bus import ScriptedBus
from mdp_tests.live.test_publishing import answer, rest

FORMING = CandleState.FORMING


class Clock:
    speed = 1.0

    def __init__(self, ahead_us=0):
        self.now_us = START + 5 * MINUTE
        self.ahead_us = ahead_us

    def __call__(self):
        return EPOCH + timedelta(microseconds=self.now_us + self.ahead_us)


class Rest:
    """Answers what it was given, in turn; an exception is raised. The last one again and again."""

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), 0

    async def fetch(self, market, timeframe, window):
        self.asked += 1
        said = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(said, Exception):
            raise said
        return said


def fed(clock, source, market="binance:BTC-USDT"):
    own, bus = Market.parse(market), ScriptedBus()
    means = Means(own.exchange, (own,), LiveSettings(), 10, clock, source, None, bus, None)
    feed = MarketFeed(own, means, Tenure(bus, f"feed/{own.exchange.value}", "me", 2.0))
    feed.is_seeded = True
    return feed


def hear(feed, clock, number, *, is_dated=True, **values):
    """A minute comes now. Where the exchange does not date its messages, the time is ours."""
    received_us = feed.means.now_us()
    candle = minute(number, **values)._replace(received_us=received_us)
    feed._hear(Streamed(feed.market, candle, clock.now_us if is_dated else received_us))
    clock.now_us += SECOND


def test_rest_that_refuses_is_said_though_the_stream_works_and_is_asked_again_when_the_wait_is_over(monkeypatch):
    monkeypatch.setattr(market_feed, "REFUSED_AGAIN_S", 0.0)

    async def scene():
        clock, source = Clock(), Rest(RequestRejected("binance", "restricted location"), answer(rest(3)))
        feed = fed(clock, source)
        feed.watch.connecting(clock.now_us)
        hear(feed, clock, 5, state=FORMING)
        assert health_of(feed).state == "streaming"
        assert await feed.fetch(Timeframe.M1, START, clock.now_us) is None
        assert (health_of(feed).state, health_of(feed).detail) == ("refused", feed.rest_trouble)
        assert "restricted location" in feed.rest_trouble
        assert await feed.fetch(Timeframe.M1, START, clock.now_us) is not None
        assert (source.asked, health_of(feed).state, health_of(feed).detail) == (2, "streaming", "")

    asyncio.run(scene())


def test_a_refused_stream_and_refusals_that_are_over_do_not_lengthen_the_wait_of_rest(caplog):
    async def scene():
        clock, refusal = Clock(), RequestRejected("binance", "no")
        feed = fed(clock, Rest(refusal, refusal, answer(rest(3)), refusal))
        for _ in range(4):
            feed._pause_s(refusal, None, 0.0)
        waits = []
        for _ in range(4):
            feed._rest_after = 0.0
            await feed.fetch(Timeframe.M1, START, clock.now_us)
            waits.append(feed.rest_wait_s)
        first, second, _, again = waits
        assert max(first, again) <= market_feed.REFUSED_AGAIN_S
        assert second > market_feed.REFUSED_AGAIN_S * 0.95

    with caplog.at_level(logging.CRITICAL):
        asyncio.run(scene())


@pytest.mark.parametrize("ahead_s", [-360, 90])
def test_okx_beside_a_wrong_clock_of_ours_goes_by_the_clock_that_rest_read(ahead_s):
    async def scene():
        clock = Clock(ahead_s * SECOND)
        said = replace(answer(rest(3)), clock_ahead=timedelta(seconds=-ahead_s))
        feed = fed(clock, Rest(said), "okx:BTC-USDT")
        assert feed.market.exchange is Exchange.OKX
        await feed.fetch(Timeframe.M1, START, clock.now_us)
        for _ in range(3):
            hear(feed, clock, 5, is_dated=False, state=FORMING)
        assert feed.now_us() == clock.now_us
        assert (health_of(feed).newest_us, health_of(feed).refused) == (START + 5 * MINUTE, 0)

    asyncio.run(scene())


def test_what_no_buffer_takes_is_told_and_logged_once_when_rest_is_asked(caplog):
    async def scene():
        clock = Clock()
        feed = fed(clock, Rest(answer(rest(3))))
        hear(feed, clock, 5, state=FORMING)
        hear(feed, clock, 5, state=FORMING, high=0.5)
        assert health_of(feed).refused == 1
        await feed._ask_once(Reason.CONFIRM)
        await feed._ask_once(Reason.CONFIRM)

    with caplog.at_level(logging.WARNING):
        asyncio.run(scene())
    (line,) = [one.message for one in caplog.records if "refused" in one.message]
    assert "high_is_highest" in line


def test_a_source_that_does_not_say_its_clock_moves_nothing():
    async def scene():
        clock = Clock()
        feed = fed(clock, Rest(answer(rest(3))))
        fetched = await feed.fetch(Timeframe.M1, START, clock.now_us)
        assert isinstance(fetched, Fetched)
        assert feed.now_us() == clock.now_us

    asyncio.run(scene())
