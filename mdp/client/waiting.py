"""Waiting for a generation: how long between two questions, who is told, and how much silence is borne.

Not here: asking (``client``, ``async_client``).
"""

from __future__ import annotations

from collections.abc import Callable

from mdp.client.errors import ApiError
from mdp.client.retrying import Retrying
from mdp.client.values import Generation

Progress = Callable[[Generation], None]

_LEAST_S = 0.05
_MOST_FAILURES = 10
"""So often in a row a service may not answer: it may be restarted while a generation goes on without it."""


class Watch:
    """One generation that is waited for.

    Args:
        progress: Is told each state once.
        retrying: Pauses while the service does not answer.
    """

    def __init__(self, progress: Progress | None, retrying: Retrying) -> None:
        self._progress = progress
        self._retrying = retrying
        self._last: Generation | None = None
        self._failures = 0

    def heard(self, found: Generation) -> Generation:
        """Tell a state that is new, and hand it on."""
        self._failures = 0
        if self._progress is not None and found != self._last:
            self._progress(found)
        self._last = found
        return found

    def failed(self, error: ApiError) -> None:
        """Bear a failure.

        Raises:
            ApiError: asking again cannot help, or there were too many.
        """
        self._failures += 1
        if not error.retryable or self._failures > _MOST_FAILURES:
            raise error

    @property
    def pause_s(self) -> float:
        """Seconds to wait before asking again: what the service advised, else two."""
        if self._failures:
            return self._retrying.pause_s(self._failures)
        advised = None if self._last is None else self._last.retry_after_s
        return max(_LEAST_S, 2.0 if advised is None else advised)
