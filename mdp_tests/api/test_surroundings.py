"""Work that blocks has so many places, whatever became of who asked."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from mdp.api.problems import Problem
from mdp.api.surroundings import Surroundings


def test_work_that_nobody_waits_for_any_more_keeps_its_place_until_it_is_done(settings):
    api = settings.api.model_copy(update={"readers": 1, "timeout_s": 0.05})
    around = Surroundings(settings.model_copy(update={"api": api}), bus=None, mirror=None)
    let_go, began = threading.Event(), []

    def hang():
        began.append(time.monotonic())
        let_go.wait(10)

    async def run():
        for _ in range(3):
            with pytest.raises(Problem, match="did not answer within"):
                await around.in_thread(hang)
        assert len(began) == 1
        let_go.set()
        for _ in range(100):
            try:
                return await around.in_thread(lambda: "done")
            except Problem:
                await asyncio.sleep(0.01)
        return "never"

    assert asyncio.run(run()) == "done"


def test_an_error_of_work_reaches_who_asked(settings):
    around = Surroundings(settings, bus=None, mirror=None)

    def fail():
        raise KeyError("k")

    with pytest.raises(KeyError):
        asyncio.run(around.in_thread(fail))
