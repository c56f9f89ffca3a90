"""Counting alone: what all processes take together while the bus is gone stays within what they may."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from mdp.bus.leases import Lease, Memory
from mdp.bus.local import LocalCount
from mdp.bus.terms import Terms
from mdp.domain.market import Exchange
from mdp.domain.quota import Priority, Quota
from mdp_tests.domain.test_quota import most_in_a_window

QUOTA = Quota("requests", 20, 2.0)
TERMS = Terms(Exchange.OKX, "exchange.test", "local-dev", (QUOTA,), 1.0, {}, 0.5, Priority.BACKFILL)
LOST_AT = 100.0


class Process:
    """One of four processes; ``asked`` is when its requests arrived before the bus was lost."""

    def __init__(self, name: str, asked: list[float], room: float) -> None:
        self.name, self.number = name, 0
        memory = Memory(TERMS)
        for moment in asked:
            memory._ended.append(self.lease(moment))
        self.count = LocalCount(TERMS, 0.25, memory, lost_at=LOST_AT, room=[room])

    def lease(self, moment: float) -> Lease:
        self.number += 1
        want = TERMS.want(f"{self.name}.{self.number}", {"requests": 1}, None)
        return Lease(want, moment, moment, [0], lambda lease: None, answered_at=moment)

    def ask(self, now: float) -> bool:
        lease = self.lease(now)
        if self.count.wait_s(now, lease.want) > 0:
            return False
        self.count.take(now, lease.want)
        self.count.answered(lease)
        return True


@given(
    asked=st.lists(st.tuples(st.integers(0, 3), st.floats(LOST_AT - 1.99, LOST_AT)), max_size=20),
    busy=st.sets(st.integers(0, 3), min_size=1),
    seed=st.integers(0, 1_000),
)
def test_four_processes_that_lost_the_bus_stay_within_the_quota_together(asked, busy, seed):
    before = sorted(asked, key=lambda one: one[1])
    processes = [
        Process(f"p{number}", [moment for who, moment in before if who == number], QUOTA.amount - len(asked))
        for number in range(4)
    ]
    arrivals, chance, now = [(moment, 1.0) for _, moment in before], random.Random(seed), LOST_AT
    while now < LOST_AT + 9:
        now += chance.uniform(0.0, 0.06)
        one = chance.choice(processes)
        # some come late: when the others have used what they may
        if processes.index(one) in busy or now > LOST_AT + 3:
            arrivals += [(now, 1.0)] if one.ask(now) else []
    assert most_in_a_window(arrivals, QUOTA.window_s) <= QUOTA.amount
    assert any(moment > LOST_AT + 6 for moment, _ in arrivals)


def test_a_process_that_used_the_whole_quota_goes_on_until_it_comes_down_to_its_part():
    asked = [LOST_AT - 2 + 0.1 * step for step in range(20)]
    alone = Process("p", asked, 0)
    moments = [LOST_AT + 0.05 * step for step in range(1, 160)]
    left = [moment for moment in moments if alone.ask(moment)]
    first, last = LOST_AT + QUOTA.window_s, LOST_AT + 6
    assert sum(LOST_AT < moment <= first for moment in left) >= 17
    assert sum(last < moment <= last + QUOTA.window_s for moment in left) in (4, 5)
