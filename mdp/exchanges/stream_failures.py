"""Why a connection could not be opened, or ended, as one of our errors.

Not here: noticing it (``stream_wire``), an exchange's own table of statuses (its ``client``).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import aiohttp

from mdp.domain.market import Exchange
from mdp.errors import ExchangeUnavailable, MdpError, RateLimited, RequestRejected
from mdp.exchanges.stream_wire import Closed, Silent
from mdp.exchanges.verdicts import Answer

JudgeHandshake = Callable[[Answer], Exception | None]
"""What a status and headers mean; the body of a refused handshake is not read."""

_POLICY_VIOLATED = 1008
_LIMITED_WAIT_S = 10.0


def explain(exchange: Exchange, error: Exception, judge: JudgeHandshake) -> Exception:
    """Turn what ended a connection into one of our errors; a mistake of ours stays what it is.

    Args:
        exchange: Whose connection.
        error: What ended it.
        judge: The exchange's table, for a handshake that was refused.
    """
    name = exchange.value
    match error:
        case MdpError():
            return error
        case aiohttp.WSServerHandshakeError():
            return _explain_handshake(exchange, error, judge)
        case Closed():
            return _explain_close(name, error)
        case Silent():
            return ExchangeUnavailable(name, str(error))
        case TimeoutError():
            return ExchangeUnavailable(name, "the connection was not opened in time")
        case aiohttp.InvalidURL() | aiohttp.NonHttpUrlClientError():
            return RequestRejected(name, f"ws_url: expected the address of a WebSocket ({error})")
        case aiohttp.ClientError() | aiohttp.WebSocketError() | OSError():
            return ExchangeUnavailable(name, f"the connection failed ({type(error).__name__}: {error})")
        case _:
            return error


def _explain_handshake(exchange: Exchange, error: aiohttp.WSServerHandshakeError, judge: JudgeHandshake) -> Exception:
    headers = {key.lower(): value for key, value in (error.headers or {}).items()}
    answer = Answer(error.status, headers, "", datetime.now(UTC))
    return judge(answer) or ExchangeUnavailable(exchange.value, f"the handshake failed ({error.message})")


def _explain_close(name: str, closed: Closed) -> Exception:
    said = closed.reason.lower()
    if closed.code == _POLICY_VIOLATED and ("too many" in said or "limit" in said):
        return RateLimited(name, f"the connection was {closed}", retry_after_s=_LIMITED_WAIT_S)
    return ExchangeUnavailable(name, f"the connection was {closed}")
