"""What healing came to: coverage before and after, what was wrong, what was done, what is left and when to ask again.

Not here: drawing it (``cli.heal``, ``defs.healing``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from mdp.domain.gaps import Coverage
from mdp.domain.interval import Interval
from mdp.domain.market import Market
from mdp.pipeline.coverage import coverage_by_day, stored_days, total
from mdp.pipeline.healing.ailments import Ailment, diagnose
from mdp.pipeline.healing.treatment import Course, Means, Treated, treat


@dataclass(frozen=True, slots=True)
class MarketHealed:
    """One market before and after.

    Attributes:
        market: Which.
        window: Whole UTC days that were looked at; None: nothing is known of it.
        before: Coverage then.
        after: Coverage now.
        revised: Stored candles whose values were replaced.
    """

    market: Market
    window: Interval | None
    before: Coverage
    after: Coverage
    revised: int = 0


@dataclass(frozen=True, slots=True)
class Healed:
    """What healing some markets came to.

    Attributes:
        markets: Each before and after.
        found: What was wrong.
        left: What still is: what no source could fill, or may be asked for only later.
        silent: Markets whose exchange gave no second opinion on a gap, and why.
        at: When it was done.
    """

    markets: tuple[MarketHealed, ...]
    found: tuple[Ailment, ...]
    left: tuple[Ailment, ...]
    silent: Mapping[Market, str]
    at: datetime

    @property
    def to_do(self) -> tuple[Ailment, ...]:
        """What is left of which it is not known that the exchange has nothing there."""
        return tuple(one for one in self.left if not one.is_explained)

    @property
    def is_whole(self) -> bool:
        """Tell whether every minute is stored, explained or permanent, and every layer is made of the one below."""
        return not self.to_do


class Healing:
    """Finds what is wrong with some markets, and makes it whole.

    Args:
        markets: Which.
        asked: Whole UTC days; None: for each market, from the first to the last of which anything is known.
        means: With what.
        until: How far to look for what is known.
    """

    def __init__(self, markets: Sequence[Market], asked: Interval | None, means: Means, until: Interval) -> None:
        self._means = means
        self._windows = {
            market: asked if asked is not None else stored_days(means.store, market, until) for market in markets
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
                MarketHealed(market, window, self._before[market], after[market], self.course.revised.get(market, 0))
                for market, window in self._windows.items()
            ),
            found=self.found,
            left=tuple(self._diagnose()) if self.found else (),
            silent=self.course.silent,
            at=self._means.clock(),
        )

    def _coverage(self) -> dict[Market, Coverage]:
        store = self._means.store
        return {
            market: total(coverage_by_day(store, market, window) if window else {})
            for market, window in self._windows.items()
        }

    def _diagnose(self) -> Iterable[Ailment]:
        for market, window in self._windows.items():
            if window is not None:
                yield from diagnose(
                    self._means.store, market, window, apart=self._means.apart, index_length=self._means.index_length
                )
