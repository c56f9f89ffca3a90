"""What is counted: no window of an exchange ever holds more than its quota, whatever the network does."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdp.domain.quota import Window, earliness_s, share_of, spacing_s

TIMEOUT_S = 3.0


def most_in_a_window(arrivals: list[tuple[float, float]], window_s: float) -> float:
    """The most that an exchange counts in any window; a window that ends with an arrival holds the most."""
    return max(
        (sum(cost for at, cost in arrivals if end - window_s < at <= end) for end, _ in arrivals),
        default=0.0,
    )


class Sender:
    """Asks as fast as leave is given; where between leave and answer a request arrives, nobody knows."""

    def __init__(self, window: Window, chance: random.Random) -> None:
        self.window, self.chance = window, chance
        self.now = 1_000.0
        self.arrivals: list[tuple[float, float]] = []
        self.answers: list[tuple[float, float, str]] = []

    def send(self, number: int, cost: float, slowness_s: float, dies: bool) -> None:
        while (pause := self._wait(cost)) > 0:
            self.now += pause * self.chance.choice((0.5, 1.0, 1.0, 1.1)) + 1e-6
        self.window.take(self.now, cost, str(number))
        taken_s = self.chance.uniform(0, slowness_s)
        self.arrivals.append((self.now + self.chance.uniform(0, taken_s), cost))
        if not dies:
            self.answers.append((self.now + taken_s, cost, str(number)))

    def _wait(self, cost: float) -> float:
        for answer in sorted(one for one in self.answers if one[0] <= self.now):
            self.answers.remove(answer)
            self.window.answered(*answer)
        return self.window.wait_s(self.now, cost)


@given(
    limit=st.integers(1, 12),
    window_s=st.sampled_from([0.5, 2.0, 5.0]),
    slowness_s=st.sampled_from([0.0, 0.05, 1.0, TIMEOUT_S]),
    costs=st.lists(st.integers(1, 3), min_size=1, max_size=40),
    deaths=st.sets(st.integers(0, 39), max_size=10),
    chance=st.randoms(use_true_random=False),
)
def test_no_window_of_the_exchange_holds_more_than_the_limit(limit, window_s, slowness_s, costs, deaths, chance):
    sender = Sender(Window(limit, window_s, TIMEOUT_S), chance)
    for number, cost in enumerate(costs):
        sender.send(number, min(cost, limit), slowness_s, number in deaths)
    assert most_in_a_window(sender.arrivals, window_s) <= limit


@given(limit=st.integers(1, 200), window_s=st.sampled_from([2.0, 5.0, 60.0]), cost=st.integers(1, 3))
def test_requests_are_spaced_evenly_with_no_more_than_a_small_burst(limit, window_s, cost):
    cost = min(cost, limit)
    window, now, left = Window(limit, window_s, TIMEOUT_S), 0.0, []
    while now < 2 * window_s:
        if (pause := window.wait_s(now, cost)) > 0:
            now += pause
            continue
        window.take(now, cost, str(len(left)))
        window.answered(now, cost, str(len(left)))
        left.append(now)
    spacing = spacing_s(cost, limit, window_s)
    allowed = 1 + earliness_s(cost, limit, window_s) / spacing
    for first, start in enumerate(left):
        for number, moment in enumerate(left[first:], 1):
            assert number <= (moment - start) / spacing + allowed + 1e-6


def test_a_quota_is_used_to_97_parts_in_100_when_an_answer_takes_50_ms():
    for limit, window_s in ((20, 2.0), (40, 2.0), (600, 5.0)):
        window, now, given_, answers = Window(limit, window_s, TIMEOUT_S), 0.0, 0, []
        while now < 10 * window_s:
            while answers and answers[0][0] <= now:
                window.answered(*answers.pop(0))
            if (pause := window.wait_s(now, 1)) > 0:
                now = min([now + pause, *(answer[0] for answer in answers[:1])])
                continue
            window.take(now, 1, str(given_))
            answers.append((now + 0.05, 1, str(given_)))
            given_ += 1
        assert given_ / (10 * limit) >= 0.97 * 0.999


def test_a_request_takes_room_until_a_window_after_its_answer():
    window = Window(1, 2.0, TIMEOUT_S)
    window.take(10.0, 1, "a")
    window.answered(11.0, 1, "a")
    assert window.wait_s(12.999, 1) == pytest.approx(0.001)
    assert window.wait_s(13.0, 1) <= 0


def test_a_request_of_a_process_that_died_is_forgotten_a_time_out_and_a_window_later():
    window = Window(1, 2.0, TIMEOUT_S)
    window.take(10.0, 1, "a")
    assert window.wait_s(10.0 + TIMEOUT_S + 1.999, 1) > 0
    assert window.wait_s(10.0 + TIMEOUT_S + 2.0, 1) <= 0


def test_an_answer_that_comes_after_its_request_was_forgotten_counts_again():
    window = Window(1, 2.0, TIMEOUT_S)
    window.take(10.0, 1, "a")
    assert window.wait_s(16.0, 1) <= 0
    window.answered(16.0, 1, "a")
    assert window.wait_s(17.0, 1) == pytest.approx(1.0)


def test_a_request_that_was_not_sent_leaves_room():
    window = Window(1, 2.0, TIMEOUT_S)
    window.take(10.0, 1, "a")
    window.give_back("a")
    assert window.used == 0


def test_a_limit_that_became_smaller_lets_nothing_leave_until_enough_has_ended():
    window = Window(4, 2.0, TIMEOUT_S)
    for number, at in enumerate((10.0, 10.5, 11.0, 11.5)):
        window.take(at, 1, str(number))
        window.answered(at, 1, str(number))
    window.limit = 2
    assert window.wait_s(12.9, 1) > 0
    assert window.wait_s(13.0, 1) <= 0


def test_nothing_leaves_without_a_limit():
    assert Window(0, 2.0, TIMEOUT_S).wait_s(10.0, 1) == 2.0


@pytest.mark.parametrize(
    ("amount", "shares", "whole"),
    [
        (6_000, (0.8,), 4_800),
        (20, (0.8,), 16),
        (100, (0.29,), 29),
        (20, (0.8, 0.33), 5),
        (20, (0.04,), 0),
        (600, (), 600),
    ],
)
def test_a_share_is_whole_and_never_more_than_it_is(amount, shares, whole):
    assert share_of(amount, *shares) == whole
