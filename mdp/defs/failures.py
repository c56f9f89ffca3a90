"""The one place where our errors become Dagster's, and where it is decided whether a step is tried again.

Not here: the errors, and the retries of seconds that a client makes itself (``exchanges.asking``).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import dagster as dg

from mdp.errors import MdpError, RateLimited


@dataclass(frozen=True, slots=True)
class StepRetries:
    """How a step is tried again after an error that a retry can help.

    Attributes:
        attempts: How often after the first time.
        delay_s: Seconds to wait before each.
        longest_wait_s: An exchange that asks for a longer wait fails the step at once: a person decides.
    """

    attempts: int = 2
    delay_s: float = 20
    longest_wait_s: float = 120

    def wait_s(self, error: MdpError) -> float | None:
        """Return the seconds to wait after an error; None when the step must not be tried again."""
        asked = error.retry_after_s if isinstance(error, RateLimited) else 0
        return None if not error.retryable or asked > self.longest_wait_s else max(self.delay_s, asked)


NEVER = StepRetries(attempts=0)


@contextmanager
def as_failure(retries: StepRetries = NEVER) -> Iterator[None]:
    """Turn an ``MdpError`` raised inside into a failed step, tried again where that can help."""
    try:
        yield
    except MdpError as error:
        notes: list[str] = getattr(error, "__notes__", [])
        wait_s = retries.wait_s(error)
        failure = dg.Failure(
            description="\n".join([str(error), *notes]),
            metadata={"error": type(error).__name__, "a retry can help": error.retryable},
            allow_retries=False,
        )
        if wait_s is None or not retries.attempts:
            raise failure from error
        raise dg.RetryRequested(max_retries=retries.attempts, seconds_to_wait=wait_s) from failure
