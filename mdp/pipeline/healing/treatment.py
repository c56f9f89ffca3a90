"""Make whole what is wrong: ask all sources again, judge anew, resample, ask a second opinion of what stays missing.

Through the same steps as a backfill, so that what is healed is what was never ill. Not here: finding what is wrong
(``ailments``), what it came to (``prognosis``).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import NamedTuple

from mdp.config.reference import Reference
from mdp.domain.market import Market
from mdp.domain.timeframe import Timeframe
from mdp.pipeline.batches import Batch, parts_of
from mdp.pipeline.collect import Collecting, Tallies, collect_candles
from mdp.pipeline.failed_days import FailedDays, NotCollected
from mdp.pipeline.gap_evidence import APART
from mdp.pipeline.healing.ailments import Ailment, Reason, Yardstick, days_asked
from mdp.pipeline.healing.opinions import opinions_on
from mdp.pipeline.judge import judge_candles
from mdp.pipeline.resampling import resample_candles
from mdp.pipeline.volatility import collect_dvol, judge_dvol
from mdp.ports import CandleStore, Clock, OpenSource, Slice

MarketDay = tuple[Market, date]


class Treated(NamedTuple):
    """What is to be made durable before the next is taken, and the layer that it belongs to.

    The layer has the name of its asset; a second opinion, which is evidence and no candle, belongs to none.
    """

    layer: str | None
    batch: Batch


@dataclass(frozen=True, slots=True)
class Means:
    """With what is healed.

    Attributes:
        store: What is looked at and written to, batch by batch, by whoever takes the batches.
        sources: Gives the source of an exchange: its files first, where it has any, then REST.
        native_sources: The same for candles that are not stored.
        reference: Listings and outages.
        clock: Our time.
        how: How slices are asked for.
        apart: How far apart two sightings of a gap count as two.
        ask_again: How long after a day was asked for its gaps are asked for again.
        index_length: Length of the candles from which an index is made.
        max_age_minutes: A minute of an index this long after its last closed candle has no value.
        run_id: On whose behalf.
        rejected_since: Rejected rows received before may have been dropped for their age.
    """

    store: CandleStore
    sources: OpenSource
    native_sources: OpenSource
    reference: Reference
    clock: Clock
    how: Collecting = field(default_factory=Collecting)
    apart: timedelta = APART
    ask_again: timedelta = timedelta(hours=1)
    index_length: Timeframe = Timeframe.H1
    max_age_minutes: int = 120
    run_id: str = ""
    rejected_since: datetime | None = None

    @property
    def yardstick(self) -> Yardstick:
        """What is stored is measured by."""
        return Yardstick(self.reference, self.apart, self.ask_again, self.index_length, self.rejected_since)


@dataclass(slots=True)
class Course:
    """What a treatment came to while it went on.

    Attributes:
        tallies: What was asked of each exchange.
        failures: Days that could not be collected, and why.
        revised: Stored candles whose values were replaced, by market.
        silent: Exchanges that gave no second opinion, and why.
    """

    tallies: Tallies = field(default_factory=dict)
    failures: list[FailedDays] = field(default_factory=list)
    revised: dict[Market, int] = field(default_factory=dict)
    silent: dict[Market, str] = field(default_factory=dict)


def treat(ailments: Iterable[Ailment], means: Means, course: Course) -> Iterator[Treated]:
    """Heal what can be healed now.

    Only what needs it is asked for again: where the raw rows are those received, what is made of them is made anew, and
    first, so that an exchange that is down keeps nobody from it.

    Args:
        ailments: Of any markets. What is not due yet is left alone.
        means: With what.
        course: Filled on the way.

    Yields:
        Batches. Make each durable before taking the next. Days that cannot be collected are left out of what follows.
    """
    due = [one for one in ailments if one.is_due(means.clock())]
    index = [one for one in due if one.market.is_volatility_index]
    spot = [one for one in due if not one.market.is_volatility_index]
    yield from _treat_spot(spot, means, course)
    yield from _treat_index(index, means, course)


def _treat_spot(ailments: Collection[Ailment], means: Means, course: Course) -> Iterator[Treated]:
    to_ask = _days(ailments, lambda reason: reason.needs_asking)
    sound = _days(ailments, lambda reason: not reason.needs_asking) - _unsound(ailments)
    to_judge = sound & _days(ailments, lambda reason: reason is not Reason.NOT_OF_MINUTES and not reason.needs_asking)
    yield from _judge(parts_of(to_judge), means, course)
    yield from _resample(parts_of(sound), means, course)
    asked = collect_candles(
        parts_of(to_ask), means.sources, means.clock, how=means.how, run_id=means.run_id, tallies=course.tallies
    )
    yield from _layer("raw_ohlcv", asked, course)
    yield from _judge(parts_of(to_ask), means, course)
    yield from _resample(parts_of(to_ask), means, course)
    opinions = opinions_on(parts_of(to_judge | to_ask), means.store, means.native_sources, course.silent)
    doubted = []
    for batch in opinions:
        yield Treated(None, batch)
        doubted.append(batch.part)
    yield from _judge(doubted, means, course)


def _judge(parts: Iterable[Slice], means: Means, course: Course) -> Iterator[Treated]:
    judged = judge_candles(parts, means.store, means.reference, means.clock, apart=means.apart, run_id=means.run_id)
    for one in _layer("ohlcv", judged, course):
        _count_revisions(one.batch, course)
        yield one


def _resample(parts: Iterable[Slice], means: Means, course: Course) -> Iterator[Treated]:
    made = resample_candles(parts, means.store, means.clock, run_id=means.run_id)
    yield from _layer("ohlcv_resampled", made, course)


def _treat_index(ailments: Collection[Ailment], means: Means, course: Course) -> Iterator[Treated]:
    length, limit = means.index_length, means.max_age_minutes
    to_ask = _days(ailments, lambda reason: reason.needs_asking)
    sound = _days(ailments, lambda reason: not reason.needs_asking) - _unsound(ailments)
    # what is stored may be made of candles of another length, from a time when the resolution was another one
    known = {(one.market, day) for one in parts_of(sound, length) for day in days_asked(means.store, one)}
    to_ask |= sound - known
    yield from _judge_index(parts_of(sound & known, length), means, course)
    asked = collect_dvol(
        parts_of(to_ask, length), means.sources, means.clock, max_age_minutes=limit, how=means.how,
        run_id=means.run_id, tallies=course.tallies,
    )  # fmt: skip
    yield from _layer("raw_dvol", asked, course)
    yield from _judge_index(parts_of(to_ask, length), means, course)


def _judge_index(parts: Iterable[Slice], means: Means, course: Course) -> Iterator[Treated]:
    judged = judge_dvol(
        parts, means.store, means.reference, means.clock, max_age_minutes=means.max_age_minutes,
        apart=means.apart, run_id=means.run_id,
    )  # fmt: skip
    for one in _layer("dvol", judged, course):
        _count_revisions(one.batch, course)
        yield one


def _days(ailments: Iterable[Ailment], of: Callable[[Reason], bool]) -> set[MarketDay]:
    return {(one.market, day) for one in ailments if of(one.reason) for day in one.days}


def _unsound(ailments: Iterable[Ailment]) -> set[MarketDay]:
    """Days whose raw rows are not those the exchange gave last: they are asked for before anything is made."""
    return _days(ailments, lambda reason: reason.needs_asking and reason is not Reason.GAP)


def _layer(name: str, batches: Iterator[Batch], course: Course) -> Iterator[Treated]:
    """Pass batches on; what could not be collected is remembered, and does not keep the rest from being healed."""
    try:
        for batch in batches:
            yield Treated(name if batch.days else None, batch)
    except NotCollected as error:
        course.failures += [one for one in error.failures if one not in course.failures]


def _count_revisions(batch: Batch, course: Course) -> None:
    revised = sum(report.revised or 0 for report in batch.days.values())
    if revised:
        course.revised[batch.part.market] = course.revised.get(batch.part.market, 0) + revised
