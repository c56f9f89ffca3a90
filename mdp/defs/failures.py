"""The one place where our errors become Dagster's.

``dg.Failure`` stops or allows Dagster's own retries by what the error knows of itself. Not here: the errors.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from mdp.errors import MdpError


@contextmanager
def as_failure() -> Iterator[None]:
    """Turn an ``MdpError`` raised inside into a ``dg.Failure`` that is retried only where that can help."""
    try:
        yield
    except MdpError as error:
        notes: list[str] = getattr(error, "__notes__", [])
        raise dg.Failure(
            description="\n".join([str(error), *notes]),
            metadata={"error": type(error).__name__, "a retry can help": error.retryable},
            allow_retries=error.retryable,
        ) from error
