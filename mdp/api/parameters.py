"""What stands in a request's query, understood or refused by name: unknown, repeated and wrong parameters.

Not here: which markets there are (``surroundings``), the cursor of a page (``paging``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import Path, Query
from fastapi.dependencies.models import Dependant
from pydantic import WithJsonSchema
from starlette.requests import Request

from mdp.api.problems import wrong_parameter
from mdp.domain.interval import DAY, Interval, format_time
from mdp.domain.market import Market
from mdp.domain.timeframe import EPOCH, Timeframe
from mdp.reading.arguments import FIRST_DAY, parse_days, parse_moment, parse_window

LONGEST = 3_653 * DAY
"""Ten years: nobody needs more at once, and what is read for one answer stays bounded."""

_MILLISECONDS = re.compile(r"[0-9]{12,14}")
_NUMBER = re.compile(r"[0-9]{1,9}")

_TIME_FORMS = "a date (2024-12-30), a time with its offset (2024-12-30T08:15Z) or milliseconds since the epoch"

TIME_SCHEMA = {"type": "string", "pattern": r"^\d{4}-?\d\d-?\d\d(T.+)?$|^[0-9]{12,14}$"}
TIME_FORMS = (
    "A UTC date, a time with its offset (`+` is `%2B` in a URL), or a whole number: milliseconds since the epoch, "
    "of 12 to 14 digits."
)


def time_parameter(what: str, example: str) -> Any:
    """Return what a query parameter that is a time says of itself."""
    return Query(description=f"{what} {TIME_FORMS}", examples=[example])


ExchangeText = Annotated[str, Path(description="Exchange, as CCXT spells it.", examples=["binance"])]
SymbolText = Annotated[str, Path(description="Symbol, with a dash.", examples=["BTC-USDT"])]
StartText = Annotated[str | None, time_parameter("First instant, included.", "2024-12-30"), WithJsonSchema(TIME_SCHEMA)]
RequiredStart = Annotated[str, time_parameter("First instant, included.", "2024-12-30"), WithJsonSchema(TIME_SCHEMA)]
EndText = Annotated[str | None, time_parameter("Last instant, excluded.", "2024-12-31"), WithJsonSchema(TIME_SCHEMA)]
LimitText = Annotated[
    str | None,
    Query(description="Rows of one page at most; by default and at most `MDP_API__MAX_ROWS`.", examples=["1000"]),
    WithJsonSchema({"type": "integer", "minimum": 1}),
]


async def only_known_parameters(request: Request) -> None:
    """Refuse a query parameter that the route does not declare, and one that is given twice.

    A dependency for routers: ``APIRouter(dependencies=[Depends(only_known_parameters)])``.

    Raises:
        Problem: 400, naming the parameter and those there are.
    """
    given = [name for name, _ in request.query_params.multi_items()]
    if not given:
        return
    known = sorted(set(_declared(request.scope["route"].dependant)))
    for name in given:
        if name not in known:
            allowed = f"one of {', '.join(known)}" if known else "none: this route takes no parameters"
            raise wrong_parameter(name, request.query_params[name], f"only parameters that there are: {allowed}", known)
        if given.count(name) > 1:
            values = ", ".join(request.query_params.getlist(name))
            raise wrong_parameter(name, values, "to be given once")


def _declared(dependant: Dependant) -> Iterator[str]:
    yield from (field.alias for field in dependant.query_params)
    for one in dependant.dependencies:
        yield from _declared(one)


def moment_of(name: str, text: str) -> datetime:
    """Understand a time: ISO 8601, or a whole number of milliseconds since the epoch.

    A number is of 12 to 14 digits, 1973 to 5138: one of seconds, or a date written without dashes, would otherwise be
    taken for a time soon after 1970.

    Raises:
        Problem: 400, names the parameter.
        InputError: the same, of ISO 8601.
    """
    if _MILLISECONDS.fullmatch(text):
        return EPOCH + timedelta(milliseconds=int(text))
    if text.lstrip("-").isdigit():
        expected = f"{_TIME_FORMS}, which has 12 to 14 digits (seconds have 10, microseconds 16)"
        raise wrong_parameter(name, text, expected)
    if re.search(r"T.* \d", text):
        raise wrong_parameter(name, text, f"{_TIME_FORMS}; the + of an offset is written %2B in a URL")
    if not text.isascii():
        raise wrong_parameter(name, text, _TIME_FORMS)
    return parse_moment(name, text)


def window_of(start: str, end: str | None, otherwise: datetime) -> Interval:
    """Understand a half-open window.

    Args:
        start: As it came.
        end: As it came; None: not given.
        otherwise: Where the window ends then.

    Raises:
        Problem: 400, a bound is none, or the window is longer than ten years.
        InputError: the same, of ISO 8601; or the start does not lie before the end.
    """
    return _not_too_long(parse_window(moment_of("start", start), otherwise if end is None else moment_of("end", end)))


def days_of(start: str | None, end: str | None, now: datetime) -> Interval | None:
    """Understand a half-open range of whole UTC days that are over; None where neither bound is given.

    Raises:
        Problem: 400, a bound is none, or the range is longer than ten years.
        InputError: the same, of ISO 8601; or a bound is no midnight, lies in the future or before anything was traded.
    """
    if start is None and end is None:
        return None
    today = Timeframe.D1.floor(now)
    last = today if end is None else moment_of("end", end)
    first = earliest_before(min(last, today)) if start is None else moment_of("start", start)
    return _not_too_long(parse_days(first, last, now))


def earliest_before(end: datetime) -> datetime:
    """Return where a window begins of which only the end is known: ten years before, or where anything begins."""
    return end - LONGEST if end - FIRST_DAY > LONGEST else FIRST_DAY


def _not_too_long(window: Interval) -> Interval:
    if window.duration > LONGEST:
        earliest = format_time(window.end - LONGEST)
        raise wrong_parameter(
            "start", format_time(window.start), f"at most ten years before end, {earliest} or later: ask twice"
        )
    return window


def limit_of(text: str | None, most: int) -> int:
    """Understand how many rows a page may have.

    Raises:
        Problem: 400, not a whole number from 1 to the most allowed.
    """
    if text is None:
        return most
    if not _NUMBER.fullmatch(text) or not 1 <= int(text) <= most:
        raise wrong_parameter("limit", text, f"a whole number from 1 to {most}")
    return int(text)


def timeframe_of(text: str | None, market: Market) -> Timeframe:
    """Understand a timeframe; of an index there is one, which need not be said.

    Raises:
        Problem: 400, not one at which the market is stored: lists them.
    """
    allowed = [Timeframe.M1] if market.is_volatility_index else [*Timeframe]
    if text is None and market.is_volatility_index:
        return Timeframe.M1
    if text is None or text not in allowed:
        why = f", the only one of the index {market}" if market.is_volatility_index else ""
        raise wrong_parameter("timeframe", text, f"one of {', '.join(allowed)}{why}", allowed)
    return Timeframe(text)


def now_utc() -> datetime:
    """Return the present, UTC."""
    return datetime.now(UTC)


def present_end() -> datetime:
    """Return where a window ends that goes to the present: after the minute that is forming, not a new end each time.

    A question that is asked again within the minute is the same then, and so is the version of its answer.
    """
    return Timeframe.M1.floor(now_utc()) + Timeframe.M1.duration
