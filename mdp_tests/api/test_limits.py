"""Counting: the last 60 seconds and no others, within memory that does not grow."""

from __future__ import annotations

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from mdp.api.limits import WINDOW_S, Limits


class _Clock:
    now = 100.0

    def __call__(self):
        return self.now


def test_as_many_as_allowed_pass_and_the_next_is_told_when():
    clock = _Clock()
    limits = Limits(10, clock)
    assert [limits.take("a", 3)[:2] for _ in range(4)] == [(True, 2), (True, 1), (True, 0), (False, 0)]
    clock.now += 45
    assert limits.take("a", 3) == (False, 0, 15)
    clock.now += 15
    assert limits.take("a", 3) == (True, 2, 60)


@given(
    st.lists(st.tuples(st.sampled_from([0, 0, 1, 2, 7, 29, 59, 60, 61, 200]), st.integers(1, 5)), max_size=60),
)
def test_it_counts_as_a_list_of_all_times_would(steps):
    clock, times = _Clock(), deque()
    limits = Limits(2, clock)
    for wait, limit in steps:
        clock.now += wait
        while times and times[0] <= clock.now - WINDOW_S:
            times.popleft()
        is_within = len(times) < limit
        if is_within:
            times.append(clock.now)
        use = limits.take("a", limit)
        assert use.is_within == is_within
        assert use.remaining == max(0, limit - len(times))
        assert use.reset_s == (WINDOW_S - int(clock.now - times[0]) if times else 0)


def test_names_do_not_share_and_the_one_not_heard_of_longest_is_forgotten():
    limits = Limits(3, _Clock())
    for name in "abac":
        limits.take(name, 5)
    limits.take("d", 5)
    assert len(limits) == 3
    assert limits.take("a", 5).remaining == 2
    assert limits.take("b", 5).remaining == 4


def test_made_up_names_do_not_fill_the_memory():
    limits = Limits(100, _Clock())
    for number in range(1_000):
        limits.take(str(number), 5)
    assert len(limits) == 100
