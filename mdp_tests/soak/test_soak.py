"""A short soak: three quarters of a simulated hour, everything that can be killed is killed."""

import asyncio

import pytest

from mdp_tests.soak.course import EXTRA, NOW, Course, soak
from mdp_tests.soak.world import platform_at_work


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_what_is_stored_and_buffered_is_the_truth_whatever_was_killed(tmp_path):
    course = Course(hours=0.75, every_s=6.0, warm_up_s=10.0, calm_s=25.0)
    with platform_at_work(tmp_path, speed=30.0, now=NOW, scenario="live_day", extra=EXTRA) as world:
        found = asyncio.run(soak(world, course))
    print("missed:", found.late)
    assert found.wrong == []
