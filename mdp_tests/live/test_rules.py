"""The rules of a feed: what REST must say twice, when it is asked, when a stream is dead. Given clocks, no waiting."""

from __future__ import annotations

import random
from math import inf

import pytest

from mdp.domain.live import CandleState
from mdp.live.asking import Pace, Reason, Watch, confirmation_start, is_ahead
from mdp.live.backoff import Backoff
from mdp.live.exchange_time import ExchangeTime
from mdp.live.ledger import Ledger
from mdp.live.seeding import minutes_needed_since
from mdp_tests.live.candles import MINUTE, SECOND, START, minute

CONFIRMED, FORMING = CandleState.CONFIRMED, CandleState.FORMING
PACE = Pace.at_speed(1.0, 8)
SETTLE = 10 * SECOND


def test_a_finished_minute_is_news_once_for_each_of_its_values():
    ledger = Ledger(SETTLE)
    assert not ledger.note(minute(0, FORMING))
    assert ledger.note(minute(0))
    assert not ledger.note(minute(0, CONFIRMED))
    assert ledger.note(minute(0, CONFIRMED, volume=2.0))
    assert not ledger.note(minute(0, CONFIRMED, volume=2.0))


def test_rest_is_believed_at_once_where_nothing_is_known_or_the_same():
    ledger = Ledger(SETTLE)
    assert ledger.may_take(minute(0, CONFIRMED), START)
    ledger.note(minute(0))
    assert ledger.may_take(minute(0, CONFIRMED), START)


def test_rest_overrules_a_finished_minute_only_by_saying_the_same_twice_the_settling_time_apart():
    ledger = Ledger(SETTLE)
    ledger.note(minute(0))
    other, third = minute(0, CONFIRMED, volume=0.5), minute(0, CONFIRMED, volume=0.7)
    assert not ledger.may_take(other, START)
    assert ledger.doubted() == (START,)
    assert ledger.ask_again_us(START) == START + SETTLE
    assert not ledger.may_take(other, START + SETTLE - 1)
    assert not ledger.may_take(third, START + SETTLE), "other values begin a doubt of their own"
    assert not ledger.may_take(third, START + 2 * SETTLE - 1)
    assert ledger.may_take(third, START + 2 * SETTLE)
    assert ledger.doubted() == ()


def test_a_lagging_answer_is_forgotten_when_rest_agrees_again():
    ledger = Ledger(SETTLE)
    ledger.note(minute(0))
    assert not ledger.may_take(minute(0, CONFIRMED, volume=0.5), START)
    assert ledger.may_take(minute(0, CONFIRMED), START + SETTLE)
    assert not ledger.may_take(minute(0, CONFIRMED, volume=0.5), START + 2 * SETTLE), "it counts as the first again"


def test_a_minute_is_absent_only_when_it_is_lacking_twice_the_settling_time_apart():
    ledger = Ledger(SETTLE)
    assert not ledger.is_absent(START, START)
    assert not ledger.is_absent(START, START + SETTLE - 1)
    assert ledger.is_absent(START, START + SETTLE)
    assert not ledger.is_absent(START, START + 2 * SETTLE), "it begins anew"


def test_a_clock_that_is_set_back_begins_a_doubt_anew():
    ledger = Ledger(SETTLE)
    assert not ledger.is_absent(START, START + MINUTE)
    assert not ledger.is_absent(START, START)
    assert ledger.is_absent(START, START + SETTLE)


def test_a_ledger_forgets_what_is_old():
    ledger = Ledger(SETTLE)
    ledger.note(minute(0))
    ledger.note(minute(1))
    ledger.is_absent(START, START)
    ledger.forget_before(START + MINUTE)
    assert (ledger.known(START), ledger.doubted()) == (None, ())
    assert ledger.known(START + MINUTE) is not None


def watched(told_at_s: float = 0) -> Watch:
    watch = Watch()
    watch.connecting(START)
    watch.heard(minute(0, FORMING), START + round(told_at_s * SECOND))
    return watch


def test_while_the_stream_is_down_rest_is_polled_at_once_and_then_every_two_seconds():
    watch = watched()
    watch.asked(START)
    watch.disconnected()
    assert watch.due(START, PACE) is Reason.DOWN
    watch.asked(START)
    assert watch.due(START + 2 * SECOND - 1, PACE) is None
    assert watch.due(START + 2 * SECOND, PACE) is Reason.DOWN


def test_a_stream_that_gave_nothing_yet_does_not_stop_the_polling():
    watch = Watch()
    watch.connecting(START)
    assert watch.due(START, PACE) is Reason.DOWN
    watch.heard(minute(0, FORMING), START)
    assert watch.due(START, PACE) is None


def test_rest_is_asked_about_a_silent_stream_and_not_before():
    watch = watched()
    assert watch.due(START + 8 * SECOND - 1, PACE) is None
    assert watch.due(START + 8 * SECOND, PACE) is Reason.SILENT


def test_a_stream_is_dead_when_it_still_has_not_told_what_rest_knew_a_second_ago():
    watch, knows_more = watched(), minute(0, FORMING, volume=3.0)
    asked = START + 8 * SECOND
    watch.asked(asked)
    assert not watch.is_dead(knows_more, asked, PACE)
    assert not watch.is_streaming(asked, PACE)
    assert watch.due(asked + SECOND - 1, PACE) is None
    assert watch.due(asked + SECOND, PACE) is Reason.SILENT
    assert not watch.is_dead(knows_more, asked + SECOND - 1, PACE)
    assert watch.is_dead(knows_more, asked + SECOND, PACE)
    assert watch.silences == 1
    assert asked + SECOND - START <= 10 * SECOND, "noticed within ten seconds"


def test_a_market_in_which_nothing_happens_is_left_alone():
    watch = watched()
    for second in range(8, 120):
        assert not watch.is_dead(minute(0, FORMING), START + second * SECOND, PACE)
    assert watch.is_streaming(START + 120 * SECOND, PACE)
    assert not watch.is_dead(None, START + 121 * SECOND, PACE)


def test_a_stream_that_tells_what_rest_knew_is_alive_however_late():
    watch, asked = watched(), START + 8 * SECOND
    assert not watch.is_dead(minute(0, FORMING, volume=3.0), asked, PACE)
    watch.heard(minute(0, FORMING, volume=3.0), asked + SECOND // 2)
    assert not watch.is_dead(minute(0, FORMING, volume=4.0), asked + SECOND, PACE)


def test_a_stream_that_is_opened_in_vain_is_given_longer_each_time():
    watch, now, dead_after = watched(), START, []
    for _ in range(3):
        opened = now
        while not watch.is_dead(minute(9, FORMING, volume=(now - START) / SECOND), now, PACE):
            now += SECOND
            assert now < START + 120 * SECOND
        dead_after.append((now - opened) // SECOND)
        watch.disconnected()
        watch.connecting(now)
    assert dead_after == [9, 17, 33]


@pytest.mark.parametrize(
    ("rest", "told", "ahead"),
    [
        (minute(1), minute(0), True),
        (minute(0), minute(1), False),
        (minute(0, volume=1.5), minute(0), True),
        (minute(0, trades=8), minute(0), True),
        (minute(0, volume=0.5, trades=6), minute(0), False),
        (minute(0, volume=None, trades=None, close=99.0), minute(0, volume=None, trades=None), True),
        (minute(0, volume=None, trades=None), minute(0, volume=None, trades=None), False),
    ],
)
def test_rest_is_ahead_when_it_knows_a_newer_minute_or_more_of_the_same(rest, told, ahead):
    assert is_ahead(rest, told) is ahead


def test_no_wait_is_shorter_in_real_time_than_a_stream_needs_to_be_read():
    fast = Pace.at_speed(60.0, 8)
    assert fast == Pace(30 * SECOND, 12 * SECOND, 15 * SECOND, 15 * SECOND)
    assert Pace.at_speed(1.0, 8) == Pace(8 * SECOND, SECOND, 2 * SECOND, 2 * SECOND)


def test_a_confirmation_asks_from_the_first_minute_that_is_due_or_the_last_three_settled_ones():
    now = START + 10 * MINUTE + SETTLE
    assert confirmation_start((), now, SETTLE, 3, MINUTE) == START + 7 * MINUTE
    assert confirmation_start((START + 2 * MINUTE, START + 9 * MINUTE), now, SETTLE, 3, MINUTE) == START + 2 * MINUTE


def test_waits_double_up_to_the_longest_and_begin_again_after_a_good_minute():
    backoff = Backoff(0.1, 1.0, 60.0, random.Random(1))
    waits = [backoff.failed(0.0) for _ in range(6)]
    for wait, most in zip(waits, (0.1, 0.2, 0.4, 0.8, 1.0, 1.0), strict=True):
        assert most / 2 <= wait <= most
    assert backoff.failed(59.9) > 0.1
    assert backoff.failed(60.0) <= 0.1
    backoff.failed(0.0)
    backoff.reset()
    assert backoff.failed(0.0) <= 0.1


def test_waits_without_end_of_the_trouble_double_all_the_same():
    backoff = Backoff(0.5, 10.0, inf, random.Random(1))
    waits = [backoff.failed(0.0) for _ in range(6)]
    assert waits[5] > 5.0


def test_one_message_with_a_wrong_time_does_not_move_our_clock():
    time_ = ExchangeTime()
    for number in range(5):
        time_.heard(START + number * SECOND, START + number * SECOND)
    time_.heard(START + 60 * MINUTE, START + 6 * SECOND)
    assert time_.ahead_us == 0


def test_a_clock_of_ours_that_is_an_hour_slow_is_found_by_the_second_quickest_message():
    time_, hour = ExchangeTime(), 60 * MINUTE
    assert time_.ahead_us == 0
    for second, delay in enumerate((300_000, 20_000, 900_000)):
        time_.heard(START + hour + second * SECOND, START + second * SECOND + delay)
    assert time_.ahead_us == hour - 300_000


def test_several_minutes_of_one_message_with_a_wrong_time_are_one_witness():
    time_ = ExchangeTime()
    for number in range(5):
        time_.heard(START + number * SECOND, START + number * SECOND)
    for _ in range(3):
        time_.heard(START + 60 * MINUTE, START + 6 * SECOND)
    assert time_.ahead_us == 0


RECEIPTS = [MINUTE - SECOND, MINUTE, MINUTE + SECOND, 2 * MINUTE]


@pytest.mark.parametrize("ahead", [6 * MINUTE, -90 * SECOND])
def test_where_the_exchange_does_not_say_when_it_sent_its_clock_as_rest_told_it_counts(ahead):
    time_ = ExchangeTime()
    time_.measured(ahead, 1.0)
    for later in RECEIPTS:
        now = START + later - ahead
        time_.heard(now, now, open_us=START + later - later % MINUTE, is_told=False)
    assert time_.ahead_us == ahead


def test_where_the_exchange_does_not_say_when_it_sent_a_slow_clock_shows_by_minutes_that_open():
    time_, slow = ExchangeTime(), 6 * MINUTE
    for later in RECEIPTS:
        now = START + later - slow
        time_.heard(now, now, open_us=START + later - later % MINUTE, is_told=False)
    assert slow - MINUTE <= time_.ahead_us <= slow


def test_messages_that_say_when_they_were_sent_are_believed_before_an_older_answer_of_rest():
    time_ = ExchangeTime()
    time_.measured(-90 * SECOND, 1.0)
    assert time_.ahead_us == -90 * SECOND
    for number in range(3):
        time_.heard(START + number * SECOND, START + number * SECOND)
    assert time_.ahead_us == 0


def test_a_clock_that_was_read_slowly_or_beside_a_fast_one_is_not_called_wrong():
    time_ = ExchangeTime()
    time_.measured(4 * SECOND, 1.0)
    assert time_.ahead_us == 0
    time_.measured(90 * SECOND, 60.0)
    assert time_.ahead_us == 0


def test_messages_that_take_their_time_do_not_move_the_clock():
    time_ = ExchangeTime()
    time_.heard(START, START + 1_900_000)
    assert time_.ahead_us == 0


def test_a_clock_that_was_corrected_is_believed_after_two_minutes():
    time_ = ExchangeTime()
    time_.heard(START + 60 * MINUTE, START)
    for number in range(1, 4):
        time_.heard(START + number * MINUTE, START + number * MINUTE)
    assert time_.ahead_us == 0


@pytest.mark.parametrize(
    ("now", "needed"),
    [
        (START + 600 * MINUTE, START),
        (START + 70 * MINUTE, START - 30 * MINUTE),
        (START + 59 * MINUTE, START - 1440 * MINUTE),
        (START + 30 * SECOND, START - 1440 * MINUTE),
    ],
)
def test_minutes_are_needed_for_the_ring_and_for_the_day_that_forms(now, needed):
    assert minutes_needed_since(now, 100) == needed


def test_a_stream_that_was_accepted_and_never_speaks_is_opened_anew_again_and_again():
    watch, deaths, now = Watch(), 0, START
    watch.connecting(now)
    for _ in range(120):
        now += SECOND
        if (reason := watch.due(now, PACE)) is None:
            continue
        watch.asked(now)
        knows = minute(0, FORMING, volume=(now - START) / SECOND)
        if reason is Reason.SILENT and watch.is_dead(knows, now, PACE):
            deaths += 1
            watch.connecting(now)
    assert deaths >= 3


@pytest.mark.parametrize("was_told", [True, False])
@pytest.mark.parametrize("happened_meanwhile", [True, False])
def test_a_stream_that_is_opened_in_a_market_in_which_nothing_happens_is_left_alone(was_told, happened_meanwhile):
    watch, now = watched() if was_told else Watch(), START
    watch.connecting(now)
    knows = minute(0, FORMING, volume=9.0 if happened_meanwhile else 1.0)
    for _ in range(120):
        now += SECOND
        if watch.due(now, PACE) is not None:
            watch.asked(now)
            assert not watch.is_dead(knows, now, PACE), "it takes the connection of all markets along"


def test_storage_that_agrees_ends_its_own_doubt_and_not_that_of_rest():
    ledger, other = Ledger(SETTLE), minute(0, CONFIRMED, volume=0.5)
    ledger.note(minute(0))
    ledger.doubt_stored(START, START)
    ledger.agree_stored(START)
    assert ledger.doubted() == ()
    assert not ledger.may_take(other, START)
    ledger.doubt_stored(START, START)
    ledger.agree_stored(START)
    assert ledger.may_take(other, START + SETTLE), "said twice, whatever was read in between"


def test_what_storage_says_is_not_the_first_of_two_answers_that_lack_a_minute():
    ledger = Ledger(SETTLE)
    ledger.note(minute(0))
    ledger.doubt_stored(START, START)
    assert not ledger.is_absent(START, START + SETTLE)
    assert ledger.is_absent(START, START + 2 * SETTLE)
