"""What people write when they ask, understood and spelled as the service wants it.

The service knows which markets there are; here only the form is checked, before anything is sent. Not here: questions
(``asking``).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from mdp.domain.interval import Interval, format_time
from mdp.domain.market import CURRENCIES, Market
from mdp.domain.moments import Moment, parse_moment
from mdp.domain.timeframe import Timeframe
from mdp.errors import InputError

__all__ = ["Moment", "as_currency", "as_list", "as_market", "as_moment", "as_timeframe", "as_window", "market_path"]


def as_market(market: str | Market) -> Market:
    """Understand a market such as ``binance:BTC-USDT``.

    Raises:
        InputError: not of that form.
    """
    if isinstance(market, Market):
        return market
    try:
        return Market.parse(market)
    except (ValueError, AttributeError) as error:
        expected = str(error).removeprefix("expected ").rpartition(", got ")[0]
        raise InputError("market", got=market, expected=expected or "a market such as binance:BTC-USDT") from None


def as_timeframe(timeframe: str | Timeframe) -> Timeframe:
    """Understand a timeframe.

    Raises:
        InputError: not one of the six.
    """
    try:
        return Timeframe(timeframe)
    except ValueError:
        raise InputError("timeframe", got=timeframe, expected=f"one of {', '.join(Timeframe)}") from None


def as_moment(name: str, moment: Moment) -> str:
    """Understand a moment and spell it.

    Raises:
        InputError: not a moment, or a time of day without an offset.
    """
    return format_time(parse_moment(name, moment))


def as_window(start: Moment, end: Moment | None) -> Interval:
    """Understand a half-open window; without an end it reaches to now.

    Raises:
        InputError: a bound is not a moment, or the start does not lie before the end.
    """
    first = parse_moment("start", start)
    last = datetime.now(UTC).replace(microsecond=0) if end is None else parse_moment("end", end)
    if first >= last:
        raise InputError("start", got=format_time(first), expected=f"a time before end {format_time(last)}")
    return Interval(first, last)


def as_currency(currency: str) -> str:
    """Understand the currency of a volatility index.

    Raises:
        InputError: there is no index of it.
    """
    if currency not in CURRENCIES:
        raise InputError("currency", got=currency, expected=f"one of {', '.join(CURRENCIES)}")
    return currency


def as_list(given: object) -> list[object]:
    """Return one or several as several."""
    if isinstance(given, str | Market) or not isinstance(given, Iterable):
        return [given]
    return list(given)


def market_path(market: Market) -> str:
    """Return where a market is in the service."""
    return f"/api/v1/market-data/{market.exchange.value}/{market.symbol_key}"
