"""Signs of life: what a run leaves in the broker while it is executed, and when silence means that its host is gone.

A run is executed by whoever claims its task first, and by nobody else ever. Not here: who gives the signs (``vigil``),
who reads them (``launcher``).
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from mdp.hosts.queueing import ANSWER_S, CONNECT_S, celery_address

_KEPT_S = 2 * 86_400
"""Longer than any run takes (``run_monitoring.max_runtime_seconds`` is a day): a task may come again until then."""

WITHDRAWN = "withdrawn"
"""In place of a worker's name: this task is not to be begun any more."""

DEAD = "dead"
"""In place of a sign of life: the process that executed this task died, as the worker saw that forked it."""


class Signs:
    """The signs of all runs, in one broker.

    Methods raise ``redis.exceptions.RedisError`` when it does not answer.

    Args:
        url: Of the broker.
    """

    def __init__(self, url: str) -> None:
        self._redis = Redis.from_url(
            celery_address(url),
            socket_connect_timeout=CONNECT_S,
            socket_timeout=ANSWER_S,
            retry=Retry(NoBackoff(), 1),  # a connection that idled may be dead, a new one tells
            decode_responses=True,
        )

    def claim(self, task_id: str, who: str) -> bool:
        """Take a task for good; False where somebody has."""
        return bool(self._redis.set(_claim(task_id), who, nx=True, ex=_KEPT_S))

    def claimed_by(self, task_id: str) -> str | None:
        """Return who took a task."""
        return cast("str | None", self._redis.get(_claim(task_id)))

    def withdraw(self, task_id: str) -> bool:
        """Let nobody begin a task; False where somebody has."""
        return self.claim(task_id, WITHDRAWN)

    def beat(self, task_id: str) -> None:
        """Say that a task is at work."""
        self._redis.set(_beat(task_id), secrets.token_hex(8), ex=_KEPT_S)

    def mourn(self, task_id: str) -> None:
        """Say that the process of a task died."""
        self._redis.set(_beat(task_id), DEAD, ex=_KEPT_S)

    def last(self, task_id: str) -> str | None:
        """Return something that differs from one beat to the next, or ``DEAD``; None before the first."""
        return cast("str | None", self._redis.get(_beat(task_id)))

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()


@dataclass(slots=True)
class _Seen:
    beat: str | None
    looked_s: float
    silent_s: float


class Watch:
    """Judges by signs, as one process sees them, how long each run has been silent.

    No clock of another host is believed: a sign counts as new when it differs from the one before. Time in which
    nobody could look does not count, or all hosts would seem gone after the broker was.

    Args:
        longest_s: So much one look may add; somewhat more than what lies between two.
        clock: Seconds that only grow.
    """

    def __init__(self, longest_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._longest_s = longest_s
        self._clock = clock
        self._seen: dict[str, _Seen] = {}

    def silent_s(self, task_id: str, beat: str | None) -> float:
        """Take in the sign that is there now; return for how long at least there was no other."""
        now_s = self._clock()
        seen = self._seen.get(task_id)
        if seen is None or seen.beat != beat:
            self._seen[task_id] = _Seen(beat, now_s, 0)
            return 0
        seen.silent_s += min(now_s - seen.looked_s, self._longest_s)
        seen.looked_s = now_s
        return seen.silent_s

    def could_not_look(self) -> None:
        """Remember that nothing is known of the time until now."""
        now_s = self._clock()
        for seen in self._seen.values():
            seen.looked_s = now_s

    def forget_all_but(self, task_ids: set[str]) -> None:
        """Keep no memory of runs that ended."""
        self._seen = {task_id: seen for task_id, seen in self._seen.items() if task_id in task_ids}


def _claim(task_id: str) -> str:
    return f"mdp:hosts:{task_id}:claim"


def _beat(task_id: str) -> str:
    return f"mdp:hosts:{task_id}:beat"
