"""A run that is cut off, told to end, or hangs, has ended by the time it is launched again elsewhere."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import dagster as dg
import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from mdp.hosts.vigil import Patience, keeping_vigil

STARTED, CANCELING = dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING
BRIEF = Patience(lost_s=0.2)


class Silent:
    """Signs that nobody hears: the broker is away."""

    def beat(self, _task_id: str) -> None:
        raise RedisConnectionError("away")


def fate_of(status_of: Callable[[str], dg.DagsterRunStatus | None], work: Callable[[], None]) -> str:
    """Do some work under a vigil in a process of its own; how that ended."""
    child = os.fork()
    if child == 0:
        code = 0
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            with keeping_vigil("run", "task", status_of, Silent(), BRIEF):
                work()
        except KeyboardInterrupt:
            code = 7
        os._exit(code)
    _, status = os.waitpid(child, 0)
    ended = {0: "done", 7: "interrupted"}
    return signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else ended[os.WEXITSTATUS(status)]


def long_work() -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        time.sleep(0.01)


def deaf_work() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    long_work()


def storage_is_away(_run_id: str) -> dg.DagsterRunStatus:
    raise OSError("no route to host")


def storage_never_answers(_run_id: str) -> dg.DagsterRunStatus:
    time.sleep(20)
    return STARTED


def test_a_run_that_may_go_on_is_done_though_the_broker_is_away():
    assert fate_of(lambda _: STARTED, lambda: time.sleep(0.15)) == "done"


@pytest.mark.parametrize("status", [CANCELING, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED, None])
def test_a_run_that_dagster_does_not_want_any_more_is_interrupted(status):
    assert fate_of(lambda _: status, long_work) == "interrupted"


@pytest.mark.parametrize("status_of", [storage_is_away, storage_never_answers])
@pytest.mark.parametrize("work", [long_work, deaf_work])
def test_a_run_that_cannot_ask_is_killed_by_the_kernel_before_others_call_it_lost(status_of, work):
    began = time.monotonic()
    assert fate_of(status_of, work) == "SIGALRM"
    assert time.monotonic() - began >= BRIEF.fence_s * 0.9


def test_a_run_that_is_cut_off_later_is_killed_too():
    answers = iter([STARTED] * 3)

    def status_of(_run_id: str) -> dg.DagsterRunStatus:
        answer = next(answers, None)
        if answer is None:
            raise OSError("no route to host")
        return answer

    assert fate_of(status_of, lambda: time.sleep(1)) == "SIGALRM"


def test_nothing_is_wound_up_after_the_end():
    assert fate_of(lambda _: STARTED, lambda: None) == "done"
    with keeping_vigil("run", "task", lambda _: STARTED, Silent(), BRIEF):
        pass
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_a_run_is_killed_well_before_others_call_it_lost():
    assert BRIEF.fence_s + 5 * BRIEF.beat_s < BRIEF.lost_s
