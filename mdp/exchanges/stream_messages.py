"""What a message of an exchange's stream says, in our words. Pure.

Not here: an exchange's own words (its ``stream_parse``), who is told (``stream``).
"""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from typing import Any, NamedTuple

import msgspec

from mdp.domain.live import CandleState, LiveCandle
from mdp.domain.market import Exchange
from mdp.errors import ExchangeError, PayloadError, RateLimited, RequestRejected

MINUTE_MS = 60_000

_UNSAID_WAIT_S = 10.0


class Minutes(NamedTuple):
    """Minutes of one market.

    Attributes:
        market_id: Whose.
        candles: In the order sent.
        event_us: When the exchange says it sent them; when they came, where it does not say.
    """

    market_id: str
    candles: tuple[LiveCandle, ...]
    event_us: int


class Tick(NamedTuple):
    """One value of a volatility index.

    Attributes:
        market_id: Whose.
        value: Percent.
        time_ms: Of when.
        received_us: When it came.
    """

    market_id: str
    value: float
    time_ms: int
    received_us: int


class Accepted(NamedTuple):
    """A subscription was accepted.

    Attributes:
        market_ids: Which ones; None where the exchange names only the request: all that it asked for. What a request
            asked for and its answer does not name is refused.
        request: Which request; None where the exchange does not say.
    """

    market_ids: tuple[str, ...] | None = None
    request: str | None = None


class Refused(NamedTuple):
    """A subscription was refused; without market and request it may be any that was not accepted yet."""

    error: ExchangeError
    market_id: str | None = None
    request: str | None = None


class Unreadable(NamedTuple):
    """A message that cannot be read; without a market, nothing of its connection can be trusted."""

    error: PayloadError
    market_id: str | None = None


class Ending(NamedTuple):
    """The exchange is about to close the connection."""

    reason: str


class Asking(NamedTuple):
    """The exchange wants to hear ``answer``, or closes the connection."""

    answer: dict[str, Any]


class Other(NamedTuple):
    """Nothing that concerns candles: a pong, a notice, something new."""


Said = Minutes | Tick | Accepted | Refused | Unreadable | Ending | Asking | Other

OTHER = Other()


def minute_of(
    exchange: Exchange,
    open_ms: int,
    prices: tuple[float, float, float, float],
    amounts: tuple[float, float, int | None],
    *,
    is_closed: bool,
    received_us: int,
) -> LiveCandle:
    """Make the candle of a minute.

    Args:
        exchange: Who sent it, for the error.
        open_ms: Open time, milliseconds since the epoch.
        prices: Open, high, low, close.
        amounts: ``volume``, ``quote_volume``, ``trades``.
        is_closed: Whether the exchange says that it is finished.
        received_us: When it came.

    Raises:
        PayloadError: a number that is none, or a time off the grid of minutes.
    """
    if open_ms % MINUTE_MS:
        what = f"field open time: expected a whole minute, got {open_ms} ms"
        raise PayloadError(exchange.value, what)
    # one sum instead of six tests: what is not finite stays so, and none of these comes near the largest number
    if not isfinite(sum(prices) + amounts[0] + amounts[1]):
        what = f"fields of a candle: expected finite numbers, got {prices} and {amounts[:2]}"
        raise PayloadError(exchange.value, what)
    state = CandleState.CLOSED if is_closed else CandleState.FORMING
    return LiveCandle(open_ms * 1_000, *prices, *amounts, 1, state, "stream", received_us)


def unreadable(error: PayloadError, text: str, find_market_id: Callable[[Any], object]) -> Unreadable:
    """Say whose message cannot be read.

    Args:
        error: What is wrong with it.
        text: The message.
        find_market_id: Takes the market's spelling out of a message that is JSON; whatever it raises means none.
    """
    try:
        market_id = find_market_id(msgspec.json.decode(text))
    except (msgspec.DecodeError, UnicodeDecodeError, LookupError, TypeError, AttributeError):
        return Unreadable(error)
    return Unreadable(error, market_id) if isinstance(market_id, str) and market_id else Unreadable(error)


def refusal(exchange: Exchange, code: object, text: str, *, is_limit: bool = False) -> ExchangeError:
    """Turn the refusal of a subscription into an error.

    Args:
        exchange: Who refused.
        code: Its code, or None.
        text: Its words.
        is_limit: Whether the code means that we asked too often; words such as "too many" say so too.
    """
    said = (f"code {code}: " if code is not None else "") + " ".join(text.split())[:200]
    words = text.lower()
    if is_limit or "too many" in words or "too frequent" in words:
        return RateLimited(exchange.value, f"asked too often ({said})", retry_after_s=_UNSAID_WAIT_S)
    return RequestRejected(exchange.value, f"the subscription was refused ({said})")
