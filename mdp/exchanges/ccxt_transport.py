"""CCXT as a transport: its addresses, its throttler and its sessions, but the answer exactly as it came.

CCXT raises nothing for a body with status 200 that is not JSON, and what it keeps of the last answer belongs to
whichever request was last on the instance. So a hook notes every answer where the request that caused it can find it.
Not here: what an answer means on one exchange (its ``client``), parsing (its ``parse``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any

from ccxt.base import errors as ccxt

from mdp.config.sections import ExchangeSettings
from mdp.domain.market import Exchange
from mdp.errors import ExchangeError, ExchangeUnavailable, RateLimited, RequestRejected
from mdp.exchanges.pace import Pace
from mdp.exchanges.verdicts import Answer, Outcome
from mdp.ports import Clock

Table = Callable[[Answer, Exception | None], ExchangeError | None]
"""An exchange's table: what an answer's status, headers and codes mean, and CCXT's opinion where they say nothing."""

# A context is copied into each task, so requests that run side by side on one instance each have their own list.
_HEARD: ContextVar[list[Answer]] = ContextVar("_HEARD")

HEADROOM = 0.95
"""Requests that leave evenly do not arrive evenly: at the whole quota, a simulated OKX refused one in twenty."""

_LONGEST_COMPLAINT = 2_000
_UNSAID_WAIT_S = 10.0
_POLLS_PER_REQUEST = 5
_CLOSING_MS = 250


class RecordingMixin:
    """Put before a class of CCXT's: notes every answer, and asks the pace after CCXT's own throttler.

    Attributes:
        clock: Our time.
        pace: Gives leave to ask.
        has_own_quota: Whether CCXT's throttler spaces the requests; otherwise the pace does it alone.
    """

    clock: Clock
    pace: Pace
    has_own_quota: bool

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

    async def throttle(self, cost: float | None = None) -> None:
        """Wait for CCXT's throttler, then for the pace, which also knows what the exchange asked us to wait."""
        if self.has_own_quota:
            await super().throttle(cost)  # type: ignore[misc]
        await self.pace.acquire()


def throttle_config(requests_per_s: float, cost: float, share: float) -> dict[str, Any]:
    """Return the settings of CCXT's throttler that keep a share of a quota.

    Args:
        requests_per_s: What the exchange allows of the kind of request that costs ``cost``.
        cost: CCXT's own weight of that request.
        share: How much of it we may use.
    """
    spacing_ms = 1_000 / (requests_per_s * share * HEADROOM)
    # CCXT looks at its queue every millisecond, which takes 6 % of a core while a backfill waits for its quota; five
    # looks a request keep the rate and take a fifth of that.
    delay_s = max(spacing_ms / _POLLS_PER_REQUEST, 1.0) / 1_000
    # A bucket that holds no more than passes between two looks: what is saved up would be a burst beyond the quota.
    bucket = {"delay": delay_s, "capacity": cost / _POLLS_PER_REQUEST}
    return {"enableRateLimit": True, "rateLimit": spacing_ms / cost, "tokenBucket": bucket}


class CcxtTransport:
    """One instance of a CCXT class, from which we want addresses, throttling and connections.

    Args:
        exchange: Which one.
        ccxt_class: Its class, with :class:`RecordingMixin` in front.
        config: For its constructor: addresses and throttler.
        table: What an answer means.
        settings: Address and time-out.
        clock: Our time.
        pace: Spaces the requests; None for CCXT's throttler.
    """

    def __init__(
        self,
        exchange: Exchange,
        ccxt_class: type[Any],
        config: Mapping[str, Any],
        table: Table,
        *,
        settings: ExchangeSettings,
        clock: Clock,
        pace: Pace | None,
    ) -> None:
        is_encrypted = str(settings.rest_url).startswith("https")
        self._exchange = exchange
        self._table = table
        self._ccxt = ccxt_class(
            {
                **config,
                "timeout": int(settings.timeout_s * 1_000),
                "enableLastHttpResponse": False,
                "enableLastResponseHeaders": False,
                # CCXT waits so long for TLS connections to say goodbye; plain ones have nothing to say.
                "timeout_on_exit": _CLOSING_MS if is_encrypted else 0,
                "verify": is_encrypted,  # loading certificates takes longer than a request
            }
        )
        self.pace = pace or Pace()
        self._ccxt.clock = clock
        self._ccxt.pace = self.pace
        self._ccxt.has_own_quota = pace is None

    async def send(self, endpoint: str, parameters: Mapping[str, str | int]) -> Outcome:
        """Send one request.

        Args:
            endpoint: CCXT's name of the method, such as ``publicGetKlines``.
            parameters: In the exchange's own words.

        Raises:
            ExchangeUnavailable: nothing came back: time-out, refused or broken connection.
        """
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
        return Outcome(answer, self._table(answer, cause), cause)

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
