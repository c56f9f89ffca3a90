"""The course of one stream through connections that come and go: what is to be done next, and what was told.

It neither connects nor waits, so that the stream of a thread and the one of the event loop are the same but for that.
Not here: what is news (``tracking``).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from mdp.client.connecting import as_api_error, ends_the_stream
from mdp.client.errors import ApiError, Unreachable
from mdp.client.retrying import Retrying
from mdp.client.tracking import ASKED, Fill, Send, Step, Tracker
from mdp.client.updates import Disconnected, StreamUpdate
from mdp.domain.live import LiveCandle

FILL_ATTEMPTS = 3
"""So often candles that closed while away are asked for before they are told to be missing."""

STEADY_S = 5.0
"""So long a connection must have lasted for the next pause to be short again: a service that greets everybody and then
breaks would else be asked many times a second, for ever."""

_GLANCE_S = 0.05
"""What came while the program was busy is heard, however late it asks."""


class Course:
    """What a stream does next.

    Args:
        tracker: What is wanted and known.
        retrying: Pauses between attempts to connect.
        clock: Seconds that only grow.
    """

    def __init__(self, tracker: Tracker, retrying: Retrying, clock: Callable[[], float] = time.monotonic) -> None:
        self.tracker = tracker
        self.ready: deque[StreamUpdate] = deque()
        self._retrying = retrying
        self._clock = clock
        self._steps: deque[Step] = deque()
        self._was_there = False
        self._opened_at = self._heard_at = self._resume_at = clock()
        self._failures = self._unfilled = 0

    @property
    def pause_s(self) -> float:
        """Seconds until a connection may be opened."""
        return max(0.0, self._resume_at - self._clock())

    @property
    def patience_s(self) -> float:
        """Seconds until silence means that the connection is dead."""
        return max(_GLANCE_S, self._heard_at + self.tracker.silence_s - self._clock())

    def opened(self) -> None:
        """A connection is there."""
        self._opened_at = self._heard_at = self._clock()
        self._steps = deque([Send(self.tracker.opening())])

    def heard(self, text: str | bytes) -> None:
        """A message came."""
        self._heard_at = self._clock()
        steps = self.tracker.hear(text)
        self._was_there = self._was_there or bool(steps)
        self._steps.extend(steps)
        if self._heard_at - self._opened_at >= STEADY_S:
            self._failures = 0
        self._tell()

    @property
    def next_step(self) -> Send | Fill | None:
        """What must be done before more is heard; None: listen."""
        step = self._steps[0] if self._steps else None
        return step if isinstance(step, Send | Fill) else None

    def sent(self) -> None:
        """The next step was to send, and that is done."""
        self._steps.popleft()
        self._tell()

    def filled(self, fill: Fill, candles: list[LiveCandle]) -> None:
        """The next step was to fetch, and that is done."""
        self._unfilled = 0
        self._replace(self.tracker.filled(fill, candles))

    def not_filled(self, fill: Fill, error: ApiError) -> None:
        """The next step was to fetch, and that failed: again with a new connection, but not for ever.

        Raises:
            ApiError: it is worth trying again.
        """
        self._unfilled += 1
        if error.retryable and self._unfilled < FILL_ATTEMPTS:
            raise error
        self._unfilled = 0
        self._replace(self.tracker.filled(fill, [], str(error)))

    def lost(self, failure: Exception) -> None:
        """The connection is gone, or could not be opened.

        Raises:
            ApiError: trying again cannot help.
        """
        error = as_api_error(failure)
        self._steps.clear()
        if ends_the_stream(error, was_there=self._was_there):
            raise error from failure
        self._failures += 1
        pause_s = max(self._retrying.pause_s(self._failures), error.retry_after_s or 0)
        self._resume_at = self._clock() + pause_s
        self.ready.append(Disconnected(error, pause_s))

    def silent(self) -> Unreachable:
        """Return the error of a connection on which nothing was heard for too long."""
        return Unreachable(ASKED, f"nothing was heard for {self.tracker.silence_s:g} s")

    def _replace(self, steps: list[Step]) -> None:
        self._steps.popleft()
        self._steps.extendleft(reversed(steps))
        self._tell()

    def _tell(self) -> None:
        while self._steps and not isinstance(self._steps[0], Send | Fill):
            self.ready.append(self._steps.popleft())  # type: ignore[arg-type]  # all other steps are updates
