"""The count that all processes share: it never gives more than a quota, on whatever clock."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.exceptions import ResponseError

from mdp.bus.messages import Cooling, Recalled, Told
from mdp.domain.quota import Window
from mdp_tests.bus.conftest import TIMEOUT_S, Caller, per_window
from mdp_tests.domain.test_quota import most_in_a_window

few = settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])


@few
@given(
    limit=st.integers(1, 6),
    steps=st.lists(st.tuples(st.floats(0, 4), st.integers(1, 3), st.booleans()), min_size=1, max_size=25),
)
def test_the_script_decides_as_the_pure_rules_do(redis, limit, steps):
    one = Caller(redis, f"pure{next(Caller.names)}:okx", per_window(limit))
    one.hello(1_000.0)
    window, now = Window(limit, 10.0, TIMEOUT_S), 1_000.0
    for passes, cost, is_answered in steps:
        now += round(passes, 3) + 1e-5  # never exactly on a border, where the last bit of a sum decides
        want = one.want(min(cost, limit))
        pause = window.wait_s(now, min(cost, limit))
        assert (one.ask(now, want)[0] >= 0) is (pause <= 0)
        if pause <= 0:
            window.take(now, min(cost, limit), want.id)
            if is_answered:
                window.answered(now, min(cost, limit), want.id)
                one.say(now, answered=[one.end(want)])


@few
@given(
    seed=st.integers(0, 10_000),
    limit=st.integers(1, 10),
    horizon=st.sampled_from([0.0, 0.05]),
    slowness_s=st.sampled_from([0.0, 0.3, TIMEOUT_S]),
)
def test_many_processes_together_never_exceed_a_quota(redis, seed, limit, horizon, slowness_s):
    name, now, chance = f"many{next(Caller.names)}:okx", 1_000.0, random.Random(seed)
    callers = [Caller(redis, name, per_window(limit, 2.0), horizon=horizon) for _ in range(3)]
    for one in callers:
        one.hello(now)
    arrivals, answers = [], []
    for _ in range(60):
        now += chance.uniform(0, 4.0 / limit)
        one = chance.choice(callers)
        ended = [answer for answer in answers if answer[0] <= now and answer[1] is one]
        answers = [answer for answer in answers if answer not in ended]
        wants = [one.want() for _ in range(chance.randint(1, 4))]
        waits = one.ask(now, *wants, answered=[one.end(want, now - at) for at, _, want in ended])
        for want, wait in zip(wants, waits, strict=True):
            if wait >= 0:
                taken_s = wait + chance.uniform(0, slowness_s - wait if slowness_s > wait else 0)
                arrivals.append((now + chance.uniform(wait, taken_s), 1))
                if chance.random() < 0.9:  # the others die with their process
                    answers.append((now + taken_s, one, want))
    assert arrivals
    assert most_in_a_window(arrivals, 2.0) <= limit


def test_leave_is_given_a_little_ahead_and_spaced_evenly(caller):
    one = caller(per_window(100), horizon=0.35)
    waits = one.ask(1_000.0, *(one.want() for _ in range(8)))
    # 0.15 s of burst, then one each 0.1 s as far as leave is given ahead
    assert waits[:5] == pytest.approx([0, 0, 0.05, 0.15, 0.25])
    assert waits[5] == pytest.approx(0.35)
    assert all(wait < 0 for wait in waits[6:])


def test_a_dead_process_gives_its_room_back_a_time_out_and_a_window_later(caller):
    one, other = caller(per_window(1)), caller(per_window(1))
    assert one.ask(1_000.0) == [0]
    assert other.ask(1_000.0 + TIMEOUT_S + 9.999)[0] < 0
    assert other.ask(1_000.0 + TIMEOUT_S + 10.0)[0] >= 0


def test_what_is_refused_says_when_there_will_be_room(caller):
    one = caller(per_window(1))
    want = one.want()
    one.ask(1_000.0, want)
    one.say(1_001.0, answered=[one.end(want)])
    assert one.ask(1_004.0)[0] == pytest.approx(-7.0)


def test_an_environment_keeps_to_its_share_and_all_together_to_the_quota(caller):
    one, other = caller(per_window(4, share=3), env="staging"), caller(per_window(4, share=3))
    taken = [each.ask(1_000.0 + 3.4 * step)[0] >= 0 for step, each in enumerate((one, one, one))]
    assert taken == [True, True, True]
    assert one.ask(1_009.0)[0] < 0
    assert other.ask(1_009.0)[0] >= 0
    assert other.ask(1_010.9)[0] < 0


def test_a_symbol_keeps_to_its_share_and_does_not_hold_the_others(caller):
    one = caller(per_window(100))
    bitcoin = [one.want(1, "BTC-USDT", 1) for _ in range(2)]
    waits = one.ask(1_000.0, *bitcoin, one.want())
    assert [wait >= 0 for wait in waits] == [True, False, True]


def test_what_waits_is_not_overtaken_by_a_smaller_request(caller):
    one = caller(per_window(10))
    one.ask(1_000.0, one.want(8))
    waits = one.ask(1_009.0, one.want(4), one.want(1))
    assert all(wait < 0 for wait in waits)


def test_a_live_request_that_waits_goes_before_every_backfill(caller):
    backfill, live = caller(per_window(1)), caller(per_window(1), live=True)
    want = backfill.want()
    backfill.ask(1_000.0, want)
    backfill.say(1_000.0, answered=[backfill.end(want)])
    assert live.ask(1_009.5)[0] < 0
    assert backfill.ask(1_010.0)[0] < 0
    assert live.ask(1_010.05)[0] >= 0


def test_a_live_process_that_died_while_it_waited_holds_nobody_for_long(caller):
    backfill, live = caller(per_window(2)), caller(per_window(2), live=True)
    backfill.ask(1_000.0)
    assert live.ask(1_000.0, live.want(2))[0] < 0
    assert backfill.ask(1_005.0)[0] >= 0


def test_a_live_request_that_got_leave_holds_nobody(caller):
    backfill, live = caller(per_window(200)), caller(per_window(200), live=True)
    assert live.ask(1_000.0, *(live.want() for _ in range(5)))[-1] < 0
    assert backfill.ask(1_000.06)[0] < 0
    assert live.ask(1_000.06)[0] >= 0
    assert backfill.ask(1_000.12)[0] >= 0


@pytest.mark.parametrize("step_s", [-3_600, 3_600])
def test_a_step_of_the_wall_clock_neither_stalls_nor_gives_too_much(caller, redis, name, step_s):
    one = caller(per_window(1))
    one.ask(1_000.0)
    # as if the server's clock had been an hour elsewhere when it was last read
    redis.hincrbyfloat(f"mdp:budget:{{{name}}}:state", "wall", -step_s)
    assert one.ask(1_001.0)[0] < 0
    assert one.ask(1_000.0 + TIMEOUT_S + 10.0)[0] >= 0


def test_a_new_process_of_a_known_machine_knows_how_much_time_has_passed(caller):
    one = caller(per_window(1))
    one.ask(1_000.0)
    one.say(1_000.0)
    assert caller(per_window(1), at=1_005.0).ask(1_005.0)[0] < 0
    assert caller(per_window(1), at=1_013.5).ask(1_013.5)[0] >= 0


def test_clocks_of_two_machines_that_show_different_times_agree(caller):
    one, other = caller(per_window(1)), caller(per_window(1), at=7.0, machine="two")
    assert one.ask(1_000.0) == [0]
    other.say(7.0)
    assert other.ask(7.0 + 9.0)[0] < 0
    assert other.ask(7.0 + TIMEOUT_S + 10.1)[0] >= 0


def test_the_longest_cool_down_counts_for_everybody(caller):
    one, other = caller(per_window(100)), caller(per_window(100))
    one.say(1_000.0, cooling=[Cooling(30, "429", is_counted=True)])
    one.say(1_001.0, cooling=[Cooling(5, "a shorter one", is_counted=True)])
    reply = other.say(1_010.0, wants=[other.want()])
    assert (reply.cool, reply.reason) == (pytest.approx(20, abs=0.1), "429")
    assert reply.waits[0] < 0
    assert other.ask(1_030.1)[0] >= 0


def test_what_somebody_else_uses_at_this_address_takes_room(caller):
    one = caller(per_window(100, window=1e9, calendar=True))
    want = one.want(10)
    one.ask(1_000.0, want)
    reply = one.say(1_001.0, answered=[one.end(want, told=[Told(0, 70, -1, -1)])])
    assert reply.room == [30]
    reply = one.say(1_002.0, answered=[one.end(want, told=[Told(0, 40, -1, -1)])])
    assert reply.room == [30]


def test_no_leave_is_given_for_room_that_somebody_else_has_taken(caller):
    one = caller(per_window(100, window=1e9, calendar=True))
    want = one.want()
    one.ask(1_000.0, want)
    one.say(1_001.0, answered=[one.end(want, told=[Told(0, 99, -1, -1)])])
    assert one.ask(1_002.0, one.want(2))[0] < 0
    assert one.ask(1_002.0, one.want(1))[0] >= 0


def test_what_is_reported_at_the_border_of_a_calendar_window_is_ignored(caller):
    one = caller(per_window(100, window=1.9, calendar=True))  # no moment is a second from both borders
    want = one.want()
    one.ask(1_000.0, want)
    assert one.say(1_000.1, answered=[one.end(want, told=[Told(0, 70, -1, -1)])]).room == [99]


def test_when_nothing_is_left_all_wait_for_the_reset(caller):
    one, other = caller(per_window(100)), caller(per_window(100))
    want = one.want()
    one.ask(1_000.0, want)
    one.say(1_001.0, answered=[one.end(want, told=[Told(0, -1, 0, 4)])])
    assert other.ask(1_003.0)[0] == pytest.approx(-2.0, abs=0.1)
    assert other.ask(1_005.1)[0] >= 0


def test_who_comes_back_brings_its_requests_and_they_count_once(caller):
    one = caller(per_window(3))
    want = one.want()
    one.ask(1_000.0, want)
    again = [Recalled(want.id, "", want.costs, [9.0]), Recalled("alone.1", "", want.costs, [9.0])]
    assert one.hello(1_001.0, recalled=again).room == [1]
    assert one.hello(1_002.0, recalled=again).room == [1]


def test_a_server_that_was_started_again_is_not_trusted_until_all_are_back(caller):
    one = caller(per_window(3))
    assert one.say(1_000.0).young == 0
    one.ask(1_000.0)
    assert one.hello(1_001.0, run="after a crash").young == pytest.approx(3)
    assert one.say(1_003.0).young == pytest.approx(1)
    assert one.say(1_004.0).young == 0


def test_a_server_that_is_empty_for_a_reason_nobody_knows_is_not_trusted_either(redis, name):
    one = Caller(redis, name, per_window(3))
    assert one.hello(1_000.0, is_new=False, uptime=1).young == pytest.approx(3)


def test_an_exchange_that_is_new_to_a_server_of_yesterday_is_trusted(redis, name):
    one = Caller(redis, name, per_window(3))
    assert one.hello(1_000.0, is_new=False, uptime=80_000).young == 0


def test_a_server_of_yesterday_that_was_emptied_is_not_trusted_by_those_who_knew_it(redis, name):
    one = Caller(redis, name, per_window(3))
    one.words.epoch = "before"
    assert one.hello(1_000.0, is_new=False, uptime=80_000).young == pytest.approx(3)


def test_a_server_started_again_after_all_had_ended_is_trusted(caller):
    one = caller(per_window(3))
    one.ask(1_000.0)
    assert one.hello(1_020.0, run="the next morning").young == 0


def test_nobody_asks_a_server_that_lost_everything_before_saying_so(caller, redis, name):
    one = caller(per_window(3))
    redis.delete(f"mdp:budget:{{{name}}}:state")
    with pytest.raises(ResponseError, match="EPOCH"):
        one.ask(1_001.0)
