"""What healing came to: coverage before and after, what was wrong, what was done, what is left and when to ask again.

Not here: drawing it (``cli.heal``, ``defs.healing``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from mdp.domain.gaps import Coverage
from mdp.domain.interval import Interval, merge
from mdp.domain.market import Market
from mdp.domain.timeframe import Timeframe
from mdp.pipeline.coverage import coverage_by_day, known_days, total
from mdp.pipeline.healing.ailments import Ailment, Reason, Yardstick, diagnose
from mdp.pipeline.healing.treatment import Course, Means, Treated, treat
from mdp.ports import TABLES, CandleStore


@dataclass(frozen=True, slots=True)
class MarketHealed:
    """One market before and after.

    Attributes:
        market: Which.
        windows: Stretches of whole UTC days that were looked at; none: nothing is known of it.
        unasked: Stretches of whole UTC days between them of which nothing is known: they were never asked for.
        before: Coverage then.
        after: Coverage now.
        revised: Stored candles whose values were replaced.
    """

    market: Market
    windows: tuple[Interval, ...]
    unasked: tuple[Interval, ...]
    before: Coverage
    after: Coverage
    revised: int = 0

    @property
    def window(self) -> Interval | None:
        """From the first to the last day that was looked at; None: nothing is known of it."""
        return Interval(self.windows[0].start, self.windows[-1].end) if self.windows else None


@dataclass(frozen=True, slots=True)
class Healed:
    """What healing some markets came to.

    Attributes:
        markets: Each before and after.
        found: What was wrong.
        left: What still is: what no source could fill, or may be asked for only later.
        silent: Markets whose exchange gave no second opinion on a gap, and why.
        at: When it was done.
        set_aside: Files that could not be read any more, and why: what they held was missing from then on.
    """

    markets: tuple[MarketHealed, ...]
    found: tuple[Ailment, ...]
    left: tuple[Ailment, ...]
    silent: Mapping[Market, str]
    at: datetime
    set_aside: tuple[str, ...] = ()

    @property
    def to_do(self) -> tuple[Ailment, ...]:
        """What is left of which it is not known that the exchange has nothing there."""
        return tuple(one for one in self.left if not one.is_explained)

    @property
    def is_whole(self) -> bool:
        """Tell whether every minute is stored, explained or permanent, and every layer is made of the one below.

        Where nothing at all is known, nothing is whole.
        """
        return not self.to_do and any(one.windows for one in self.markets)


class Healing:
    """Finds what is wrong with some markets, and makes it whole.

    Args:
        markets: Which.
        asked: Whole UTC days, all of which should be stored; None: for each market, those of which anything is known.
        means: With what.
        within: Where to look for what is known. Today is not over, and no day to heal.
    """

    def __init__(self, markets: Sequence[Market], asked: Interval | None, means: Means, within: Interval) -> None:
        self._means = means
        # first: nothing can be told of a market while one of its files cannot be read
        self.set_aside = set_aside_damaged(means.store)
        self._windows = {
            market: days_to_look_at(means.store, market, asked, within, means.clock()) for market in markets
        }
        self._before = self._coverage()
        self.found = tuple(self._diagnose())
        self.course = Course()

    def treat(self) -> Iterator[Treated]:
        """Heal; make each batch durable before taking the next."""
        return treat(self.found, self._means, self.course)

    def outcome(self) -> Healed:
        """Look again, and tell what it came to."""
        after = self._coverage() if self.found else self._before
        return Healed(
            markets=tuple(
                MarketHealed(
                    market,
                    tuple(windows),
                    tuple(days_between(windows)),
                    self._before[market],
                    after[market],
                    self.course.revised.get(market, 0),
                )
                for market, windows in self._windows.items()
            ),
            found=self.found,
            left=tuple(self._diagnose()) if self.found else (),
            silent=self.course.silent,
            at=self._means.clock(),
            set_aside=self.set_aside,
        )

    def _coverage(self) -> dict[Market, Coverage]:
        store = self._means.store
        return {
            market: total({
                day: found for window in windows for day, found in coverage_by_day(store, market, window).items()
            })
            for market, windows in self._windows.items()
        }  # fmt: skip

    def _diagnose(self) -> Iterable[Ailment]:
        for market, windows in self._windows.items():
            yield from diagnose_all(self._means.store, market, windows, self._means.yardstick)


def set_aside_damaged(store: CandleStore, *, dry_run: bool = False) -> tuple[str, ...]:
    """Take out of every table what can no longer be read; return what it was, and why."""
    return tuple(one for table in TABLES for one in store.set_aside_damaged(table, dry_run=dry_run))


def days_to_look_at(
    store: CandleStore, market: Market, asked: Interval | None, within: Interval, now: datetime
) -> list[Interval]:
    """Return the stretches of whole UTC days that are over: those asked for, or those of which anything is known."""
    today = Timeframe.D1.floor(now)
    over = Interval(min(within.start, today), min(within.end, today))
    found = [asked] if asked is not None else known_days(store, market, over)
    return merge(one.intersect(over) for one in found)


def days_between(windows: Sequence[Interval]) -> list[Interval]:
    """Return what lies between stretches of days, ascending and disjoint."""
    return [Interval(one.end, two.start) for one, two in pairwise(windows)]


def diagnose_all(store: CandleStore, market: Market, windows: Iterable[Interval], by: Yardstick) -> list[Ailment]:
    """Find what is wrong with each stretch; ordered as one."""
    found = [one for window in windows for one in diagnose(store, market, window, by)]
    order = list(Reason)
    return sorted(found, key=lambda one: (order.index(one.reason), one.interval))
