"""Who has a task, and when silence means that its host is gone."""

from __future__ import annotations

import secrets

import pytest

from mdp.hosts.queueing import celery_address
from mdp.hosts.signs import Watch


def task() -> str:
    return secrets.token_hex(8)


def test_a_task_is_claimed_once_whoever_comes_again(signs):
    one = task()
    assert [signs.claim(one, who) for who in ("a", "b", "a")] == [True, False, False]
    assert signs.claimed_by(one) == "a"


def test_a_task_that_was_withdrawn_is_begun_by_nobody_and_one_that_began_is_not_withdrawn(signs):
    withdrawn, begun = task(), task()
    assert signs.withdraw(withdrawn)
    assert not signs.claim(withdrawn, "a")
    assert signs.claim(begun, "a")
    assert not signs.withdraw(begun)


def test_each_sign_of_life_differs_from_the_one_before(signs):
    one = task()
    assert signs.last(one) is None
    said = set()
    for _ in range(3):
        signs.beat(one)
        said.add(signs.last(one))
    assert len(said) == 3


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


def test_silence_is_counted_from_the_last_change_and_ends_with_the_next():
    clock = Clock()
    watch = Watch(20, clock)
    heard = []
    for beat in ("a", "a", "a", "b", "b", None, None):
        heard.append(watch.silent_s("task", beat))
        clock.now_s += 10
    assert heard == [0, 10, 20, 0, 10, 0, 10]


def test_time_in_which_nobody_could_look_is_no_silence():
    clock = Clock()
    watch = Watch(20, clock)
    watch.silent_s("task", "a")
    clock.now_s += 10
    watch.could_not_look()
    clock.now_s += 10
    assert watch.silent_s("task", "a") == 10
    clock.now_s += 3_600  # the daemon was stopped, or its storage was away
    assert watch.silent_s("task", "a") == 30


def test_runs_are_watched_each_for_itself_and_forgotten_when_they_ended():
    clock = Clock()
    watch = Watch(20, clock)
    for _ in range(2):
        silent = [watch.silent_s(one, "a") for one in ("x", "y")]
        clock.now_s += 10
    assert silent == [10, 10]
    watch.forget_all_but({"y"})
    assert [watch.silent_s(one, "a") for one in ("x", "y")] == [0, 20]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("redis://queue:6379/1", "redis://queue:6379/1"),
        ("valkey://queue:6379/1", "redis://queue:6379/1"),
        ("valkeys://:secret@queue:6380/1", "rediss://:secret@queue:6380/1?ssl_cert_reqs=required"),
        ("rediss://queue:6380/1?timeout=3", "rediss://queue:6380/1?timeout=3&ssl_cert_reqs=required"),
        ("rediss://queue:6380/1?ssl_cert_reqs=none", "rediss://queue:6380/1?ssl_cert_reqs=none"),
    ],
)
def test_an_address_is_told_to_celery_in_its_words(ours, theirs):
    assert celery_address(ours) == theirs
