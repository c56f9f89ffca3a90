"""What a market lacks in whole days, day by day: where a generation begins, and by what its end is judged.

Not here: counting (``pipeline.coverage``), what Dagster says of its own work (``backfills``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

from mdp.domain.interval import Interval
from mdp.domain.market import Market
from mdp.domain.timeframe import Timeframe
from mdp.pipeline.coverage import Shortfall, days_to_do, failed_days, shortfalls
from mdp.pipeline.failed_days import FailedDays
from mdp.ports import CandleStore

_LONGEST_REASON = 300


@dataclass(frozen=True, slots=True)
class MissingDay:
    """A day that is not complete.

    Attributes:
        day: Which.
        minutes: How many of its minutes are not as they should be; 0: it was tried again in vain, and what is stored
            of it is what was got before.
        reason: In words.
        is_retryable: Whether another attempt can help.
    """

    day: date
    minutes: int
    reason: str
    is_retryable: bool


def missing_days(store: CandleStore, market: Market, window: Interval) -> list[MissingDay]:
    """Return the days that ``mdp backfill --missing`` would collect again, ascending.

    Args:
        store: Where candles are kept.
        market: A spot market or a volatility index.
        window: Whole UTC days that are over.
    """
    left, failed = shortfalls(store, market, window), failed_days(store, market, window)
    days = [day for stretch in days_to_do(left, failed) for day in stretch.days()]
    return [_missing(store, market, day, left, failed) for day in days]


def _missing(
    store: CandleStore, market: Market, day: Interval, left: Iterable[Shortfall], failed: Iterable[FailedDays]
) -> MissingDay:
    here = [one for one in left if not one.interval.intersect(day).is_empty]
    if any(_is_spread(one) for one in here):
        here = [one for one in shortfalls(store, market, day) if one.market == market]
    minutes = max((_minutes(one, day) for one in _by_reason(here, day)), default=0)
    tried = next((one for one in failed if one.window.covers(day)), None)
    if tried is None:
        return MissingDay(day.start.date(), minutes, "; ".join(dict.fromkeys(one.reason for one in here)), True)
    return MissingDay(day.start.date(), minutes, f"{tried.error}: {tried.message}"[:_LONGEST_REASON], tried.retryable)


def _is_spread(one: Shortfall) -> bool:
    """Tell whether its minutes lie somewhere on several days, so that those of one day are not known."""
    return len(list(one.interval.days())) > 1 and one.minutes != one.interval.slots(Timeframe.M1)


def _minutes(one: Shortfall, day: Interval) -> int:
    return min(one.minutes, one.interval.intersect(day).slots(Timeframe.M1))


def _by_reason(here: Iterable[Shortfall], day: Interval) -> list[Shortfall]:
    """Add up what is of one reason: gaps of a day lie side by side, other reasons are about the same minutes."""
    added: dict[str, int] = {}
    market = None
    for one in here:
        market = one.market
        added[one.reason] = added.get(one.reason, 0) + _minutes(one, day)
    return [Shortfall(market, day, minutes, reason) for reason, minutes in added.items()] if market else []
