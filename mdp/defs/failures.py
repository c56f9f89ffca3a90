"""The one place where our errors become Dagster's, and where it is decided whether a step is tried again.

Not here: the errors; asking an exchange again, by the request (``exchanges``) and by the slice (``pipeline.rounds``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import dagster as dg
from sqlalchemy.exc import InterfaceError, OperationalError

from mdp.counts import COUNTS
from mdp.errors import MdpError, StorageError


@dataclass(frozen=True, slots=True)
class StepRetries:
    """How a step is tried again after the store could not keep what it made, though it may a little later.

    So it is after Dagster's own storage could not be told of it: a server that is started again is back in a moment.

    What an exchange does not give is asked for again inside the step, and only that (``pipeline.rounds``); trying the
    whole step again would ask for everything.

    Attributes:
        attempts: How often after the first time.
        delay_s: Seconds to wait before each.
    """

    attempts: int = 2
    delay_s: float = 20

    def apply_to(self, error: MdpError) -> bool:
        """Tell whether the step is tried again after an error."""
        return self.attempts > 0 and isinstance(error, StorageError) and error.retryable


NEVER = StepRetries(attempts=0)


@contextmanager
def as_failure(retries: StepRetries = NEVER, metadata: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Turn an ``MdpError`` raised inside into a failed step, tried again where that can help.

    Args:
        retries: When a step is tried again.
        metadata: What the failure tells beside its description; may still grow inside.
    """
    try:
        yield
    except MdpError as error:
        COUNTS.add("mdp_step_failures", 1, type(error).__name__)
        notes: list[str] = getattr(error, "__notes__", [])
        failure = dg.Failure(
            description="\n".join([str(error), *notes]),
            metadata={"error": type(error).__name__, "a retry can help": error.retryable, **(metadata or {})},
            allow_retries=False,
        )
        if not retries.apply_to(error):
            raise failure from error
        raise dg.RetryRequested(max_retries=retries.attempts, seconds_to_wait=retries.delay_s) from failure
    except (InterfaceError, OperationalError) as error:  # Dagster tells its storage of each event where it happens
        if not retries.attempts:
            raise
        raise dg.RetryRequested(max_retries=retries.attempts, seconds_to_wait=retries.delay_s) from error
