"""Reading candles for people: what ``mdp.read`` and ``mdp read`` give.

Not here: how rows are found (``storage``), how they are printed (``cli``).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time

import polars as pl

from mdp.config.settings import Settings, load_settings
from mdp.domain.interval import Interval, format_time, parse_time
from mdp.domain.market import Market
from mdp.domain.timeframe import Timeframe
from mdp.errors import InputError
from mdp.ports import DVOL, OHLCV, Slice
from mdp.storage import open_store

Moment = str | date | datetime
"""A UTC date, a time with its offset, or the ISO 8601 text of either."""


def read(market: str, timeframe: str, start: Moment, end: Moment, *, settings: Settings | None = None) -> pl.DataFrame:
    """Read the stored candles of one market, or the minutes of a volatility index.

    Args:
        market: For example ``binance:BTC-USDT`` or ``deribit:BTC-DVOL``.
        timeframe: ``1m``, ``5m``, ``15m``, ``1h``, ``4h`` or ``1d``; an index has ``1m`` only.
        start: First instant, included.
        end: Last instant, excluded.
        settings: Instead of those of the environment.

    Returns:
        The candles that open inside ``[start, end)``. What is not stored is absent; nothing is filled in.

    Shape:
        ``CANDLE_SCHEMA``, or ``DVOL_SCHEMA`` for an index; sorted by ``open_time``, unique.

    Raises:
        InputError: names the argument that is wrong, what came and what is expected.
        StorageError: the store cannot be read.

    Examples:
        ``mdp.read("binance:BTC-USDT", "1h", "2024-12-30", "2024-12-31")``
    """
    settings = settings or load_settings()
    wanted, grid, window = parse_market(market, settings), parse_timeframe(timeframe), parse_window(start, end)
    if wanted.is_volatility_index and grid is not Timeframe.M1:
        raise InputError("timeframe", got=timeframe, expected=f"1m, the only timeframe of the index {wanted}")
    table = DVOL if wanted.is_volatility_index else OHLCV
    return open_store(settings).read(table, Slice(wanted, (grid,), window))


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
    first, last = _moment("start", start), _moment("end", end)
    if first >= last:
        raise InputError("start", got=format_time(first), expected=f"a time before end {format_time(last)}")
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


def _moment(field: str, value: Moment) -> datetime:
    if isinstance(value, str):
        try:
            return parse_time(value)
        except ValueError as error:
            expected, _, _ = str(error).removeprefix("expected ").rpartition(", got ")
            raise InputError(field, got=value, expected=expected) from None
    if not isinstance(value, datetime):
        return datetime.combine(value, time(), tzinfo=UTC)
    if value.tzinfo is None:
        raise InputError(field, got=value.isoformat(), expected="a time with its offset, such as one in UTC")
    return value.astimezone(UTC)
