"""What a stream's connection is opened with, and what its failures mean.

The only place that knows what ``websockets`` raises. Not here: the loop around it (``streaming``, ``following``).
"""

from __future__ import annotations

import logging
from typing import Any

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from mdp.client.address import Address
from mdp.client.errors import ApiError, Unreachable, error_of
from mdp.client.tracking import ASKED

FAILURES = (OSError, InvalidHandshake, ConnectionClosed, EOFError)
"""What opening, sending and hearing may raise; a time-out is an ``OSError``."""


_logger = logging.getLogger("mdp.client.connection")
_logger.setLevel(logging.INFO)  # below that websockets writes every header, the key among them


def options(address: Address) -> dict[str, Any]:
    """Return the arguments with which a connection is opened, the same in both worlds."""
    return {
        "additional_headers": address.key_headers,
        "logger": _logger,
        "compression": None,  # as the service prefers: packing small messages costs more than it saves
        "user_agent_header": "mdp-client",
        "proxy": None if address.is_loopback else True,
        "open_timeout": 10,
        "close_timeout": 1,
        "ping_interval": None,  # heartbeats of the service are watched instead
        "max_size": 64 * 1_024 * 1_024,
    }


def as_api_error(error: Exception) -> ApiError:
    """Return what a failure of a connection means.

    Args:
        error: One of ``FAILURES``, or an error of ours.
    """
    if isinstance(error, ApiError):
        return error
    if isinstance(error, InvalidStatus):
        response = error.response
        headers = {name.lower(): value for name, value in response.headers.raw_items()}
        return error_of(ASKED, response.status_code, headers, bytes(response.body or b""))
    if isinstance(error, ConnectionClosed):
        closed = error.rcvd or error.sent
        code = "without a word" if closed is None else f"{closed.code} {closed.reason}".strip()
        return Unreachable(ASKED, f"the connection was closed: {code}")
    return Unreachable(ASKED, f"no connection: {type(error).__name__}: {error}")


def ends_the_stream(error: ApiError, *, was_there: bool) -> bool:
    """Tell whether trying again is useless.

    Once the service was heard, only a problem that it tells itself is: whatever else stands in its place meanwhile,
    such as a page of a proxy or a process that is about to end, means that it restarts.
    """
    return not error.retryable and not (was_there and not error.type)
