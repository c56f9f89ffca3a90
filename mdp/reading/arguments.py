"""What people write when they ask for candles, understood: markets, timeframes, windows, moments, columns.

Not here: reading them (``view``).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from mdp.config.settings import Settings
from mdp.domain.interval import Interval, format_time
from mdp.domain.market import Market
from mdp.domain.moments import Moment, parse_moment
from mdp.domain.timeframe import Timeframe
from mdp.errors import InputError

__all__ = [
    "FIRST_DAY", "Moment", "parse_days", "parse_market", "parse_markets", "parse_moment", "parse_timeframe",
    "parse_window",
]  # fmt: skip


def parse_market(text: str, settings: Settings) -> Market:
    """Understand a market that this environment collects.

    Raises:
        InputError: not a market, or not one of ours; the message lists ours.
    """
    try:
        market = Market.parse(text)
    except ValueError:
        market = None
    if market is None or str(market) not in settings.markets:
        raise InputError("market", got=text, expected=f"one of {', '.join(settings.markets)}")
    return market


def parse_markets(texts: Sequence[str] | None, settings: Settings) -> list[Market]:
    """Understand markets that this environment collects.

    Args:
        texts: In any spelling; a market that is named twice counts once. None or empty: all markets.
        settings: Those that name the markets.

    Returns:
        The markets in the order in which they are first named.

    Raises:
        InputError: one is not a market, or not one of ours; the message lists ours.
    """
    return list(dict.fromkeys(parse_market(text, settings) for text in texts or settings.markets))


def parse_timeframe(text: str) -> Timeframe:
    """Understand a timeframe.

    Raises:
        InputError: not one of the six.
    """
    try:
        return Timeframe(text)
    except ValueError:
        raise InputError("timeframe", got=text, expected=f"one of {', '.join(Timeframe)}") from None


def parse_window(start: Moment, end: Moment) -> Interval:
    """Understand a half-open window.

    Raises:
        InputError: a bound is not a time or names no offset, or the start does not lie before the end.
    """
    first, last = parse_moment("start", start), parse_moment("end", end)
    if first >= last:
        raise InputError("start", got=format_time(first), expected=f"a time before end {format_time(last)}")
    for field, bound in (("start", first), ("end", last)):
        if not _EARLIEST <= bound <= _LATEST:
            expected = f"a time from {_EARLIEST.year} to {_LATEST.year}"
            raise InputError(field, got=format_time(bound), expected=expected)
    return Interval(first, last)


def parse_days(start: Moment, end: Moment, now: datetime) -> Interval:
    """Understand a half-open range of whole UTC days that are over.

    Raises:
        InputError: as for :func:`parse_window`; or a bound is not a midnight, or lies in the future or before 2017-08.
    """
    window = parse_window(start, end)
    for name, bound in (("start", window.start), ("end", window.end)):
        if not Timeframe.D1.is_on_grid(bound):
            raise InputError(name, got=format_time(bound), expected="a day such as 2024-12-30")
    today = Timeframe.D1.floor(now)
    if window.end > today:
        expected = f"at most {today.date()}, the first day that is not over (the end is exclusive)"
        raise InputError("end", got=str(window.end.date()), expected=expected)
    if window.start < FIRST_DAY:
        raise InputError("start", got=str(window.start.date()), expected=f"{FIRST_DAY.date()} or later")
    return window


FIRST_DAY = datetime(2017, 8, 1, tzinfo=UTC)
"""No exchange of ours has candles before."""


_EARLIEST, _LATEST = datetime(1970, 1, 2, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
"""Far from where adding the length of a candle leaves the calendar."""
