"""Leave to ask, attempts and waits."""

from __future__ import annotations

import asyncio
import contextlib
import time
from datetime import UTC, datetime
from itertools import pairwise

import pytest

from mdp.config.exchange_sections import ExchangeSettings
from mdp.domain.market import Exchange, Market
from mdp.domain.quota import Usage
from mdp.errors import CircuitOpen, ExchangeError, ExchangeUnavailable, PayloadError, RateLimited, RequestRejected
from mdp.exchanges.asking import Asker, Question, RetryWaits, Tally
from mdp.exchanges.verdicts import Answer, Outcome, Reach
from mdp_tests.exchanges.harness import EasyBudget

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


def _asker(budget=None, waits=NO_WAITS, read_usage=lambda _: None, **changes):
    return Asker(Exchange.OKX, budget or EasyBudget(), read_usage, ExchangeSettings(**changes), waits)


def _ask(send, *, read=lambda answer: answer.body, tally=None, market=None, **changes):
    return asyncio.run(_asker(**changes).ask(Question(send, COSTS, market), read, tally))


COSTS = {"requests": 1}
MARKET = Market.parse("okx:BTC-USDT")
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
    asker = _asker()
    assert asker._wait_before_retry(RateLimited("okx", "", retry_after_s=60)) == 60
    assert asker._wait_before_retry(RateLimited("okx", "", retry_after_s=60.1)) is False


def test_what_was_asked_for_is_held_for_everybody_even_when_it_is_reported():
    budget = EasyBudget()
    send, _ = _sender(RateLimited("okx", "banned", retry_after_s=600))
    with pytest.raises(RateLimited):
        _ask(send, budget=budget)
    ((seconds, reason),) = budget.cooled
    assert seconds == 600
    assert "banned" in reason


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


def test_a_retry_is_one_line_in_the_log_and_nothing_on_standard_output(caplog, capsys):
    send, _ = _sender(LIMITED, GOOD)
    _ask(send)
    assert [record.message for record in caplog.records] == ["okx: slow down; wait 0.05 s; attempt 2 in 0.1 s"]
    assert capsys.readouterr().out == ""


def _scripted(*steps):
    """Like ``_sender``, but a step may be any exception, or a number of seconds in which nothing comes."""
    left = list(steps)

    async def send():
        step = left.pop(0)
        if isinstance(step, float):
            await asyncio.sleep(step)
            raise ExchangeUnavailable("okx", "late")
        if isinstance(step, BaseException) and not isinstance(step, RateLimited | RequestRejected):
            raise step
        return step if isinstance(step, Outcome) else Outcome(ANSWER, step)

    return send


USAGE = Usage("requests", left=3)
ENDINGS = {
    "a good answer": (GOOD, [USAGE]),
    "a refusal": (RequestRejected("okx", "no"), [USAGE]),
    "too often": (RateLimited("okx", "banned", retry_after_s=600), [USAGE]),
    "an answer that says it is down": (Outcome(ANSWER, GONE), [USAGE]),
    "no answer": (GONE, [None]),
    "a mistake of ours": (ZeroDivisionError(), [None]),
    "a keyboard interrupt": (KeyboardInterrupt(), [None]),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_budget_hears_of_the_end_of_every_request_exactly_once(ending):
    step, ends = ENDINGS[ending]
    budget = EasyBudget()
    with contextlib.suppress(ExchangeError, ZeroDivisionError, KeyboardInterrupt):
        _ask(_scripted(step), budget=budget, attempts=1, read_usage=lambda _: USAGE)
    (leave,) = budget.given
    assert leave.ends == ends


def test_the_budget_hears_of_a_request_that_is_given_up_and_of_a_body_that_cannot_be_read():
    budget = EasyBudget()

    async def work():
        asking = asyncio.create_task(_asker(budget).ask(Question(_scripted(60.0), COSTS), lambda _: None))
        await asyncio.sleep(0.01)
        assert [leave.ends for leave in budget.given] == [[]]
        asking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asking

    asyncio.run(work())
    assert [leave.ends for leave in budget.given] == [[None]]

    def read(_):
        raise PayloadError("okx", "what is this")

    with pytest.raises(PayloadError):
        _ask(_scripted(GOOD), budget=budget, read=read)
    assert [len(leave.ends) for leave in budget.given] == [1, 1]


def test_a_request_takes_leave_with_what_it_costs_and_the_symbol_it_is_about():
    budget = EasyBudget()
    _ask(_scripted(GOOD), budget=budget, market=MARKET)
    _ask(_scripted(GOOD), budget=budget)
    assert [(leave.costs, leave.symbol) for leave in budget.given] == [(COSTS, "BTC-USDT"), (COSTS, None)]


def test_repeats_are_counted_by_their_reason_and_waits_are_added_up():
    tally = Tally()
    send = _scripted(GONE, RateLimited("okx", "slow", retry_after_s=0.01), GONE, GONE, GOOD)
    _ask(send, tally=tally, budget=EasyBudget(wait_s=0.25), attempts=5)
    assert tally.failed == {"ExchangeUnavailable": 3, "RateLimited": 1}
    assert tally.waited_s == 5 * 0.25
    assert tally.answered == 2


def test_the_last_failure_is_counted_too_for_who_asks_again():
    tally = Tally()
    with pytest.raises(ExchangeUnavailable):
        _ask(_scripted(GONE, GONE, GONE), tally=tally, attempts=3)
    assert tally.failed == {"ExchangeUnavailable": 3}


def test_a_cool_down_that_the_budget_refuses_to_wait_for_is_reported_and_nothing_is_sent():
    budget = EasyBudget(longest_s=1)
    budget.cool_down(600, "somebody else was banned")
    tally = Tally()
    with pytest.raises(RateLimited) as caught:
        _ask(_scripted(), budget=budget, tally=tally)
    assert caught.value.retry_after_s == pytest.approx(600, abs=5)
    assert (budget.given, tally.failed, len(budget.cooled)) == ([], {}, 1)


async def _fails(asker, times, step=GONE):
    for _ in range(times):
        with pytest.raises(ExchangeUnavailable):
            await asker.ask(Question(_scripted(*[step] * 4), COSTS), lambda _: None)


@pytest.mark.parametrize("step", [GONE, Outcome(ANSWER, GONE)], ids=["no answer", "an answer that says so"])
def test_after_failures_in_a_row_the_exchange_is_left_alone_until_one_probe_is_answered(step):
    asker = _asker(attempts=1, failures_to_open=3, probe_after_s=0.1)
    under_way, most, sent = [], [], []

    async def send():
        sent.append(time.monotonic())
        under_way.append(1)
        most.append(len(under_way))
        await asyncio.sleep(0.02)
        under_way.pop()
        return GOOD

    async def work():
        await _fails(asker, 3, step)
        opened = time.monotonic()
        await asyncio.gather(*(asker.ask(Question(send, COSTS), lambda _: None) for _ in range(4)))
        return opened

    opened = asyncio.run(work())
    assert len(sent) == 4
    assert sent[0] - opened >= 0.09
    assert sent[1] - sent[0] >= 0.02  # the others waited for the probe's answer
    assert most[0] == 1


@pytest.mark.parametrize("step", [RequestRejected("okx", "no"), RateLimited("okx", "slow", retry_after_s=600)])
def test_an_exchange_that_refuses_is_not_down(step):
    class Heedless(EasyBudget):
        def cool_down(self, seconds, reason):
            """Hold nobody: what is looked at is the circuit."""

    asker = _asker(Heedless(), attempts=1, failures_to_open=2, probe_after_s=3_600)

    async def work():
        for _ in range(4):
            with pytest.raises(type(step)):
                await asker.ask(Question(_scripted(step), COSTS), lambda _: None)
        await _fails(asker, 1)
        with pytest.raises(type(step)):
            await asker.ask(Question(_scripted(step), COSTS), lambda _: None)
        await _fails(asker, 1)  # one after an answer: not the second in a row

    asyncio.run(work())


def test_a_circuit_that_stays_open_longer_than_a_minute_is_reported_at_once_with_the_time_left(caplog):
    budget = EasyBudget()
    asker = _asker(budget, attempts=4, failures_to_open=2, probe_after_s=61)

    async def work():
        with pytest.raises(CircuitOpen) as caught:
            await asker.ask(Question(_scripted(GONE, GONE), COSTS), lambda _: None)
        assert caught.value.retry_after_s == pytest.approx(61, abs=2)
        assert caught.value.retryable
        assert "2 times in a row" in str(caught.value)
        with pytest.raises(CircuitOpen):
            await asker.ask(Question(_scripted(), COSTS), lambda _: None)

    asyncio.run(asyncio.wait_for(work(), 5))
    assert len(budget.given) == 2
    assert len(caplog.records) == 2  # of the two failures; an open circuit is not tried again


def test_a_probe_that_fails_is_not_repeated_by_whoever_sent_it():
    budget = EasyBudget()
    asker = _asker(budget, attempts=4, failures_to_open=1, probe_after_s=0.01)

    async def work():
        await _fails(asker, 1)  # the first request opens the circuit, and its second attempt is the probe
        with pytest.raises(CircuitOpen, match="tried again in"):
            await asker.ask(Question(_scripted(GONE), COSTS), lambda _: None)

    asyncio.run(asyncio.wait_for(work(), 5))
    assert len(budget.given) == 3


def test_a_probe_that_is_given_up_leaves_its_turn_to_another():
    asker = _asker(attempts=1, failures_to_open=1, probe_after_s=0.01)

    async def work():
        await _fails(asker, 1)
        probe = asyncio.create_task(asker.ask(Question(_scripted(60.0), COSTS), lambda _: None))
        await asyncio.sleep(0.05)
        probe.cancel()
        return await asker.ask(Question(_scripted(GOOD), COSTS), lambda answer: answer.body)

    assert asyncio.run(asyncio.wait_for(work(), 5)) == "candles"


def test_no_leave_is_taken_while_a_probe_is_waited_for():
    budget = EasyBudget()
    asker = _asker(budget, attempts=1, failures_to_open=1, probe_after_s=0.05)
    sent = []

    async def send():
        sent.append(time.monotonic())
        await asyncio.sleep(0.35 if len(sent) == 1 else 0)  # the others look whether it is back three times
        return GOOD

    async def work():
        await _fails(asker, 1)
        await asyncio.gather(*(asker.ask(Question(send, COSTS), lambda _: None) for _ in range(4)))

    asyncio.run(asyncio.wait_for(work(), 5))
    assert (len(budget.given), len(sent)) == (5, 4)


def test_a_probe_whose_leave_is_refused_leaves_its_turn_to_another():
    class Refusing(EasyBudget):
        is_refusing = False

        async def acquire(self, costs, symbol=None):
            if self.is_refusing:
                raise LIMITED
            return await EasyBudget.acquire(self, costs, symbol)

    budget = Refusing()
    asker = _asker(budget, attempts=1, failures_to_open=1, probe_after_s=0.01)

    async def work():
        await _fails(asker, 1)
        budget.is_refusing = True
        with pytest.raises(RateLimited):
            await asker.ask(Question(_scripted(), COSTS), lambda _: None)
        budget.is_refusing = False
        return await asker.ask(Question(_scripted(GOOD), COSTS), lambda answer: answer.body)

    assert asyncio.run(asyncio.wait_for(work(), 5)) == "candles"


def test_leave_that_comes_when_the_circuit_has_opened_meanwhile_is_given_back_unused():
    class LateBudget(EasyBudget):
        async def acquire(self, costs, symbol=None):
            await asyncio.sleep(0.02)
            return await EasyBudget.acquire(self, costs, symbol)

    budget = LateBudget()
    asker = _asker(budget, attempts=1, failures_to_open=1, probe_after_s=0.05)
    sent = []

    async def send():
        sent.append(time.monotonic())
        if len(sent) == 1:
            raise GONE
        return GOOD

    async def work():
        questions = [asker.ask(Question(send, COSTS), lambda _: None) for _ in range(3)]
        return await asyncio.gather(*questions, return_exceptions=True)

    results = asyncio.run(work())
    assert [type(result) for result in results].count(ExchangeUnavailable) == 1
    assert len(sent) == 3
    assert sent[1] - sent[0] >= 0.04
    assert all(len(leave.ends) == 1 for leave in budget.given)
    assert len(budget.given) > len(sent)


def test_no_more_requests_are_under_way_than_the_setting_says_repeats_included():
    under_way, most = [], []

    async def send():
        under_way.append(1)
        most.append(len(under_way))
        is_bad = len(most) % 4 == 0
        await asyncio.sleep(0.002)
        under_way.pop()
        if is_bad:
            raise GONE
        return GOOD

    async def work():
        asker = _asker(pages_in_flight=3, attempts=10, failures_to_open=100)
        await asyncio.gather(*(asker.ask(Question(send, COSTS), lambda _: None) for _ in range(20)))

    asyncio.run(work())
    assert max(most) == 3


def test_a_refusal_is_remembered_only_as_far_as_it_goes():
    asker = _asker()
    refused = {
        reach: Outcome(ANSWER, RequestRejected("okx", reach.value), reach=reach) for reach in reversed(list(Reach))
    }

    async def work(outcome, market):
        with pytest.raises(RequestRejected):
            await asker.ask(Question(_scripted(outcome), COSTS, market), lambda _: None)

    other = Market.parse("okx:ETH-USDT")
    good = Question(_scripted(*[GOOD] * 9), COSTS, MARKET)
    asyncio.run(work(refused[Reach.REQUEST], MARKET))
    assert asyncio.run(asker.ask(good, lambda _: 1)) == 1
    asyncio.run(work(refused[Reach.MARKET], other))
    assert asyncio.run(asker.ask(good, lambda _: 1)) == 1
    asyncio.run(work(None, other))  # not even sent
    asyncio.run(work(refused[Reach.EXCHANGE], MARKET))
    for market in (MARKET, other, None):
        asyncio.run(work(None, market))
