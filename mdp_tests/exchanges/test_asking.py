"""Leave to ask, attempts and waits."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from itertools import pairwise

import pytest

from mdp.config.sections import ExchangeSettings
from mdp.errors import ExchangeUnavailable, PayloadError, RateLimited, RequestRejected
from mdp.exchanges.asking import Asker, RetryWaits, Tally
from mdp.exchanges.binance import client as binance
from mdp.exchanges.bybit import client as bybit
from mdp.exchanges.ccxt_transport import HEADROOM, throttle_config
from mdp.exchanges.okx import client as okx
from mdp.exchanges.pace import Pace
from mdp.exchanges.verdicts import Answer, Outcome

ANSWER = Answer(200, {}, "candles", datetime(2025, 1, 1, tzinfo=UTC))
NO_WAITS = RetryWaits(0.0, 0.0, 0.0)


def _sender(*steps):
    """Return a request that ends as each step says in turn, and the list of when it was sent."""
    left, sent = list(steps), []

    async def send():
        sent.append(time.monotonic())
        step = left.pop(0)
        if isinstance(step, ExchangeUnavailable):
            raise step
        return step if isinstance(step, Outcome) else Outcome(ANSWER, step)

    return send, sent


def _ask(send, *, attempts=4, read=lambda answer: answer.body, pace=None, waits=NO_WAITS, tally=None):
    async def work():
        return await Asker(pace or Pace(), attempts, waits).ask(send, read, tally)

    return asyncio.run(work())


GONE = ExchangeUnavailable("okx", "gone")
LIMITED = RateLimited("okx", "slow down", retry_after_s=0.05)
GOOD = Outcome(ANSWER)


def test_a_good_answer_is_read_at_once():
    send, sent = _sender(GOOD)
    assert _ask(send) == "candles"
    assert len(sent) == 1


@pytest.mark.parametrize("attempts", [1, 2, 5])
def test_a_failure_is_repeated_as_often_as_set_and_then_reported(attempts):
    send, sent = _sender(*[GONE] * 9)
    with pytest.raises(ExchangeUnavailable):
        _ask(send, attempts=attempts)
    assert len(sent) == attempts


def test_a_failure_that_a_retry_cannot_help_is_reported_at_once():
    send, sent = _sender(RequestRejected("okx", "no such symbol"), GOOD)
    with pytest.raises(RequestRejected):
        _ask(send)
    assert len(sent) == 1


@pytest.mark.parametrize(("is_transient", "times"), [(True, 3), (False, 1)])
def test_an_unreadable_body_is_asked_for_again_only_if_it_may_have_been_an_accident(is_transient, times):
    send, sent = _sender(*[GOOD] * 9)

    def read(_):
        raise PayloadError("okx", "what is this", is_transient=is_transient)

    with pytest.raises(PayloadError):
        _ask(send, attempts=3, read=read)
    assert len(sent) == times


def test_a_mistake_of_ours_is_not_repeated():
    send, sent = _sender(*[GOOD] * 9)

    def read(_):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        _ask(send, read=read)
    assert len(sent) == 1


def test_a_wait_that_the_exchange_asks_for_is_kept():
    send, sent = _sender(RateLimited("okx", "slow down", retry_after_s=0.2), GOOD)
    _ask(send)
    assert sent[1] - sent[0] >= 0.2


def test_a_wait_is_kept_up_to_a_minute_and_reported_beyond():
    asker = Asker(Pace(), 4, NO_WAITS)
    assert asker._wait_before_retry(RateLimited("okx", "", retry_after_s=60)) == 60
    assert asker._wait_before_retry(RateLimited("okx", "", retry_after_s=60.1)) is False


def test_what_was_asked_for_is_held_for_everybody_even_when_it_is_reported():
    pace = Pace()
    send, _ = _sender(RateLimited("okx", "banned", retry_after_s=600))
    with pytest.raises(RateLimited):
        _ask(send, pace=pace)

    async def another():
        await asyncio.wait_for(pace.acquire(), 0.05)

    with pytest.raises(TimeoutError):
        asyncio.run(another())


def test_waits_grow_between_attempts():
    send, sent = _sender(GONE, GONE, GONE, GOOD)
    _ask(send, waits=RetryWaits(initial_s=0.02, longest_s=1, jitter_s=0))
    gaps = [later - earlier for earlier, later in pairwise(sent)]
    assert gaps[0] >= 0.02
    assert gaps[1] >= 0.04
    assert gaps[2] >= 0.08


def test_every_request_that_was_answered_is_counted_and_no_other():
    send, _ = _sender(GONE, LIMITED, RequestRejected("okx", "no"))
    tally = Tally()
    with pytest.raises(RequestRejected):
        _ask(send, tally=tally)
    assert tally.answered == 2


def _gaps(pace, requests):
    async def work():
        times = []

        async def one():
            await pace.acquire()
            times.append(time.monotonic())

        await asyncio.gather(*(one() for _ in range(requests)))
        return times

    times = asyncio.run(work())
    return [later - earlier for earlier, later in pairwise(times)]


def test_requests_are_spaced_evenly_at_the_rate():
    started = time.monotonic()
    _gaps(Pace(100), 21)
    assert time.monotonic() - started >= 0.199


def test_a_pace_without_a_rate_does_not_wait():
    assert sum(_gaps(Pace(), 50)) < 1


def test_a_rest_is_not_saved_up_for_a_burst():
    pace = Pace(50)
    _gaps(pace, 1)
    time.sleep(0.1)
    assert min(_gaps(pace, 3)) >= 0.018


def test_a_cool_down_holds_those_who_wait_already():
    pace = Pace()

    async def work():
        pace.cool_down(0.05)
        waiting = asyncio.create_task(pace.acquire())
        await asyncio.sleep(0.02)
        started = time.monotonic()
        pace.cool_down(0.15)
        pace.cool_down(0.01)  # a shorter one does not shorten it
        await waiting
        return time.monotonic() - started

    assert asyncio.run(work()) >= 0.15


QUOTAS = [
    (binance, binance.RecordedBinance, ("public", "get", "klines"), 50),
    (bybit, bybit.RecordedBybit, ("public", "get", "v5/market/kline"), 120),
    (okx, okx.RecordedOkx, ("public", "get", "market/history-candles"), 10),
    (okx, okx.RecordedOkx, ("public", "get", "market/candles"), 20),
]


@pytest.mark.parametrize("share", [1.0, 0.8, 0.25])
@pytest.mark.parametrize(("client", "ccxt_class", "path", "documented"), QUOTAS)
def test_ccxts_throttler_lets_through_our_share_of_the_documented_quota(client, ccxt_class, path, documented, share):
    settings = ExchangeSettings(rest_url="http://127.0.0.1:9", rate_share=share)
    exchange = client.open_client(settings, lambda: ANSWER.received_at, None)._ccxt
    assert isinstance(exchange, ccxt_class)
    assert exchange.enableRateLimit
    costs = exchange.describe()["api"]
    for part in path:
        costs = costs[part]
    per_second = 1_000 / (exchange.rateLimit * costs["cost"])
    assert per_second == pytest.approx(documented * share * HEADROOM)
    assert exchange.tokenBucket["refillRate"] == pytest.approx(1 / exchange.rateLimit)
    assert exchange.tokenBucket["algorithm"] == "leakyBucket"


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_the_rate_that_ccxts_throttler_reaches_is_the_one_set_and_no_more(share):
    settings = ExchangeSettings(rest_url="http://127.0.0.1:9", rate_share=share)
    exchange = binance.open_client(settings, lambda: ANSWER.received_at, None)._ccxt
    requests = int(40 * share)

    async def work():
        started = time.monotonic()
        await asyncio.gather(*(exchange.throttle(binance.KLINES_COST) for _ in range(requests)))
        return requests / (time.monotonic() - started)

    reached = asyncio.run(work())
    assert reached <= 50 * share * HEADROOM * requests / (requests - 1)  # the first needs no wait
    assert reached >= 50 * share * 0.5


def test_ccxt_looks_at_its_queue_a_few_times_a_request_and_not_every_millisecond():
    assert throttle_config(10, 1, 1)["tokenBucket"]["delay"] == pytest.approx(0.02 / HEADROOM)
    assert throttle_config(1_000, 1, 1)["tokenBucket"]["delay"] == pytest.approx(0.001)


def test_a_retry_is_one_line_in_the_log_and_nothing_on_standard_output(caplog, capsys):
    send, _ = _sender(LIMITED, GOOD)
    _ask(send)
    assert [record.message for record in caplog.records] == ["okx: slow down; wait 0.05 s; attempt 2 in 0.1 s"]
    assert capsys.readouterr().out == ""
