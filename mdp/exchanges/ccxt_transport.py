"""CCXT as a transport: its addresses and its error classes, but the answer exactly as it came.

CCXT raises nothing for a body with status 200 that is not JSON, and what it keeps of the last answer belongs to
whichever request was last on the instance. So a hook notes every answer where the request that caused it can find it.
Its throttler is off: it counts for one instance, and the quota is counted for an address (``ports.Budget``).
Not here: what an answer means on one exchange (its ``client``), parsing (its ``parse``).
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any

import aiohttp
from ccxt.base import errors as ccxt

from mdp.config.exchange_sections import ExchangeSettings
from mdp.domain.market import Exchange
from mdp.errors import ExchangeError, ExchangeUnavailable, RateLimited, RequestRejected
from mdp.exchanges.verdicts import Answer, Outcome, Reach
from mdp.ports import Clock

Judge = Callable[[Answer, Exception | None], ExchangeError | None]
"""An exchange's table: what an answer's status, headers and codes mean, and CCXT's opinion where they say nothing."""

ReachOf = Callable[[Answer], Reach]
"""How far the refusal goes that an answer holds."""

# A context is copied into each task, so requests that run side by side on one instance each have their own list.
_HEARD: ContextVar[list[Answer]] = ContextVar("_HEARD")

_LONGEST_COMPLAINT = 2_000
_UNSAID_WAIT_S = 10.0
_CLOSING_MS = 250


class RecordingMixin:
    """Put before a class of CCXT's: notes every answer.

    Attributes:
        clock: Our time.
    """

    clock: Clock

    def on_rest_response(
        self, code: int, reason: str, url: str, method: str, response_headers: Mapping[str, str], *rest: Any
    ) -> str:
        """Note the answer; CCXT calls this before it looks at the body."""
        body: str = rest[0]
        headers = {name.lower(): value for name, value in response_headers.items()}
        _HEARD.get([]).append(Answer(code, headers, body, self.clock()))
        stripped: str = super().on_rest_response(code, reason, url, method, response_headers, *rest)  # type: ignore[misc]
        return stripped

    def parse_json(self, http_response: str) -> Any:
        """Leave candles to our parser; CCXT reads what is short enough to be a complaint, and raises what it means."""
        return super().parse_json(http_response) if len(http_response) <= _LONGEST_COMPLAINT else None  # type: ignore[misc]


class CcxtTransport:
    """One instance of a CCXT class, from which we want addresses, sessions and error classes.

    Args:
        exchange: Which one.
        ccxt_class: Its class, with :class:`RecordingMixin` in front.
        urls: Its addresses, by CCXT's names.
        judge: What an answer means.
        reach_of: How far a refusal goes.
        settings: Time-out and number of connections.
        clock: Our time.
        headers: Sent with every request beside CCXT's own.
    """

    def __init__(
        self,
        exchange: Exchange,
        ccxt_class: type[Any],
        urls: Mapping[str, str],
        judge: Judge,
        reach_of: ReachOf,
        *,
        settings: ExchangeSettings,
        clock: Clock,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        is_encrypted = str(settings.rest_url).startswith("https")
        self._exchange = exchange
        self._judge = judge
        self._reach_of = reach_of
        self._ccxt = ccxt_class(
            {
                "urls": {"api": dict(urls)},
                "headers": dict(headers or {}),
                "options": {"defaultType": "spot"},
                "enableRateLimit": False,
                "timeout": int(settings.timeout_s * 1_000),
                "enableLastHttpResponse": False,
                "enableLastResponseHeaders": False,
                # CCXT waits so long for TLS connections to say goodbye; plain ones have nothing to say.
                "timeout_on_exit": _CLOSING_MS if is_encrypted else 0,
                "verify": is_encrypted,  # loading certificates takes longer than a request
            }
        )
        self._ccxt.clock = clock
        self._is_encrypted = is_encrypted
        self._connections = settings.pages_in_flight

    async def send(self, endpoint: str, parameters: Mapping[str, str | int]) -> Outcome:
        """Send one request.

        Args:
            endpoint: CCXT's name of the method, such as ``publicGetKlines``.
            parameters: In the exchange's own words.

        Raises:
            ExchangeUnavailable: nothing came back: time-out, refused or broken connection.
        """
        if self._ccxt.session is None:
            self._open_session()
        heard: list[Answer] = []
        token = _HEARD.set(heard)
        cause: Exception | None = None
        try:
            await getattr(self._ccxt, endpoint)(dict(parameters))
        except ccxt.BaseError as error:
            cause = error
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            # CCXT on a body of a shape it does not expect; without an answer it is a mistake of ours.
            if not heard:
                raise
            cause = error
        finally:
            _HEARD.reset(token)
        if not heard:
            raise unanswered(self._exchange, cause) from cause
        answer = heard[-1]
        verdict = self._judge(answer, cause)
        reach = self._reach_of(answer) if isinstance(verdict, RequestRejected) else Reach.REQUEST
        return Outcome(answer, verdict, cause, reach)

    def _open_session(self) -> None:
        """Give CCXT a session that keeps no more connections than requests under way; its own would take a hundred."""
        if self._ccxt.closed_by_user:
            return  # CCXT refuses to ask on
        if self._is_encrypted:
            self._ccxt.ssl_context = ssl.create_default_context(cafile=self._ccxt.cafile)
        connector = aiohttp.TCPConnector(limit=self._connections, ssl=self._ccxt.ssl_context or False)
        self._ccxt.session = aiohttp.ClientSession(connector=connector)

    async def close(self) -> None:
        """Close the connections."""
        await self._ccxt.close()


def unanswered(exchange: Exchange, cause: Exception | None) -> ExchangeUnavailable:
    """Say why nothing came back."""
    if isinstance(cause, ccxt.RequestTimeout):
        return ExchangeUnavailable(exchange.value, f"no answer in time ({cause})")
    reason = getattr(cause, "__cause__", None)
    detail = f"{type(reason).__name__}: {reason}" if reason else str(cause)
    return ExchangeUnavailable(exchange.value, f"the connection failed ({detail})")


def judge_exception(exchange: Exchange, cause: Exception | None, said: str) -> ExchangeError:
    """Turn CCXT's exception into an error, for a code that the exchange's own table does not know.

    Args:
        exchange: Who answered.
        cause: What CCXT made of it, if anything.
        said: What the exchange said, for the message.
    """
    if isinstance(cause, ccxt.RateLimitExceeded | ccxt.DDoSProtection):
        return RateLimited(exchange.value, f"asked too often ({said})", retry_after_s=_UNSAID_WAIT_S)
    if isinstance(cause, ccxt.OperationFailed):
        return ExchangeUnavailable(exchange.value, f"no usable answer now ({said})")
    return RequestRejected(exchange.value, f"the request was refused ({said})")
