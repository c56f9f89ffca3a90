"""Longer live candles, each made from the shorter ones in it, or given where not all of these are known.

Plain floats: exactly what ``resample`` makes of the same minutes, a thousand times as fast for a single bucket. Not
here: what a minute says (``live_merging``), which slots are kept (``live_ladder``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce
from math import fsum
from operator import add

from mdp.domain.live import CandleState, LiveCandle
from mdp.domain.live_consistency import Consistency, difference
from mdp.domain.live_merging import CLOSED, CONFIRMED, CORRECTED, FORMING
from mdp.domain.timeframe import Timeframe

RESAMPLED_SOURCE = "resampled"

_EXACT_STEPS = 2.0**53
_AMOUNTS = ("volume", "quote_volume", "trades")


class Level:
    """The candles of one timeframe, and how each is made from those of the next shorter one.

    A candle that was given (by storage, or the exchange's own) speaks for its slot until everything in it is known, for
    one made of some of its minutes would be a guess. Then the made one stands.

    Attributes:
        timeframe: Their length.
        step: The same in microseconds.
        candles: By open time; for 1m what is held, above what is made or given.
        empty: Slots that are known to hold nothing; at 1m also ones for which the exchange was asked in vain.
        given: Of the longer candles those that were given and not yet replaced by made ones.
        contradicted: Slots of which two finished candles that differ were known.
        kept_from: Open time of the first slot that is kept; a longer candle that opens earlier is not made anew, for
            its parts are not kept.
    """

    __slots__ = ("below", "candles", "contradicted", "empty", "given", "kept_from", "step", "timeframe")

    def __init__(self, timeframe: Timeframe, below: Level | None) -> None:
        self.timeframe = timeframe
        self.step = timeframe.microseconds
        self.below = below
        self.kept_from = 0
        self.candles: dict[int, LiveCandle] = {}
        self.empty: set[int] = set()
        self.given: dict[int, LiveCandle] = {}
        self.contradicted: set[int] = set()

    def forget_before(self, open_us: int) -> None:
        """Drop every slot that opens before."""
        self.kept_from = open_us
        for kept in (self.candles, self.given):
            for slot in [slot for slot in kept if slot < open_us]:
                del kept[slot]
        for slots in (self.empty, self.contradicted):
            slots.difference_update([slot for slot in slots if slot < open_us])

    def is_known(self, slots: Iterable[int]) -> bool:
        """Tell whether each of some slots holds a candle, or is known to hold none."""
        return all(slot in self.candles or slot in self.empty for slot in slots)

    def parts(self, start: int, end: int) -> tuple[list[LiveCandle], bool]:
        """Return the candles of a stretch of slots, and whether all of these are finished or known to be empty."""
        parts, is_settled, candles = [], True, self.candles
        for slot in range(start, end, self.step):
            if slot in candles:
                part = candles[slot]
                parts.append(part)
                if part.state is FORMING:
                    is_settled = False
            elif slot not in self.empty:
                is_settled = False
        return parts, is_settled

    def rebuild(self, bucket: int, below: Level, consistency: Consistency) -> bool:
        """Make one bucket anew from the level below; tell whether it changed, or whether it is finished now."""
        parts, is_settled = below.parts(bucket, bucket + self.step)
        made = combine(parts, bucket, is_settled=is_settled) if parts else None
        given = self.given.get(bucket)
        if given is not None and (not is_settled or self._holds_more(given, made)):
            return self._put(bucket, given)
        if is_settled:
            self._settle(bucket, made, consistency)
        if made is None:
            return self._vanish(bucket, is_settled=is_settled)
        if is_settled and bucket in self.contradicted:
            made = made._replace(state=CORRECTED)
        return self._put(bucket, made)

    def give(self, candle: LiveCandle, consistency: Consistency) -> bool:
        """Take a finished longer candle from elsewhere; tell whether the slot changed.

        Of several for one slot that with more minutes counts; of those that agree the one made of minutes, for it knows
        how many there were; of those that do not the later one. Where the candle is made already, that one stands.

        Args:
            candle: Closed or surer.
            consistency: Where comparisons are counted.
        """
        slot, held = candle.open_us, self.candles.get(candle.open_us)
        is_made = slot in self.empty or (held is not None and held.state is not FORMING)
        if is_made and held is not None and self.below is not None and slot < self.below.kept_from:
            self.given.setdefault(slot, held)
        if slot in self.given:
            return self._put(slot, self._choose(self.given[slot], candle))
        if is_made and not self._holds_more(candle, held):
            return self._compare(slot, held, candle, consistency)
        self.given[slot] = candle
        return self._put(slot, candle)

    def _holds_more(self, given: LiveCandle, made: LiveCandle | None) -> bool:
        """Tell whether a given candle knows of minutes that one made of other given ones does not."""
        if made is None or given.minutes <= made.minutes or not difference(given, made):
            return False
        minutes = self
        while minutes.below is not None:
            minutes = minutes.below
        return not minutes.is_known(range(given.open_us, given.open_us + self.step, minutes.step))

    def _choose(self, held: LiveCandle, candle: LiveCandle) -> LiveCandle:
        if not difference(held, candle):
            wins = (candle.source == RESAMPLED_SOURCE) > (held.source == RESAMPLED_SOURCE)
        elif held.minutes != candle.minutes:
            wins = candle.minutes > held.minutes
        else:
            wins = candle.received_us >= held.received_us
            self.contradicted.add(held.open_us)
        chosen = candle if wins else held
        if chosen.open_us in self.contradicted:
            chosen = chosen._replace(state=CORRECTED)
        self.given[chosen.open_us] = chosen
        return chosen

    def _settle(self, bucket: int, made: LiveCandle | None, consistency: Consistency) -> None:
        """Compare a bucket of which everything is known now with what was given for it, which is given up."""
        given = self.given.pop(bucket, None)
        if given is not None:
            self._compare(bucket, made, given, consistency)

    def _compare(self, slot: int, made: LiveCandle | None, given: LiveCandle, consistency: Consistency) -> bool:
        if made is not None and given.source == RESAMPLED_SOURCE and given.minutes < made.minutes:
            return False  # it was made before all of its minutes had come
        if consistency.compare(self.timeframe, given, made, "the candles in it say"):
            return False
        if made is not None and slot not in self.contradicted:
            self.contradicted.add(slot)
            return self._put(slot, made._replace(state=CORRECTED))
        return False

    def _put(self, slot: int, candle: LiveCandle) -> bool:
        held = self.candles.get(slot)
        self.candles[slot] = candle
        self.empty.discard(slot)
        return held is None or held.state is not candle.state or not held.says_same(candle)

    def _vanish(self, bucket: int, *, is_settled: bool) -> bool:
        was_empty = bucket in self.empty
        if is_settled:
            self.empty.add(bucket)
        return self.candles.pop(bucket, None) is not None or is_settled is not was_empty


def combine(parts: Sequence[LiveCandle], open_us: int, *, is_settled: bool = True) -> LiveCandle:
    """Make one longer candle by the rule of ``resample``.

    Parts without volume do not set prices where another has some; where none has, all of them do. Unknown volume, as
    of a volatility index, may have been traded: there open, high, low, close are first, highest, lowest, last.

    Args:
        parts: At least one, ascending.
        open_us: Open time of the bucket.
        is_settled: Nothing of the bucket is missing or unfinished.

    Returns:
        Forming unless settled, otherwise as sure as the least sure part, and corrected where a part is.
    """
    # columns instead of attributes: half the time
    _, opens, highs, lows, closes, volumes, quotes, trades, minutes, states, _, received = zip(*parts, strict=True)
    if 0 < volumes.count(0) < len(parts):
        traded = [part for part in parts if part.volume != 0]
        _, opens, highs, lows, closes, *_ = zip(*traded, strict=True)
    return LiveCandle(
        open_us,
        opens[0],
        max(highs),
        min(lows),
        closes[-1],
        None if None in volumes else _at_eight_decimals(_add(volumes)),
        None if None in quotes else _add(quotes),
        None if None in trades else sum(trades),
        sum(minutes),
        _least_sure(states) if is_settled else FORMING,
        RESAMPLED_SOURCE,
        max(received),
    )


def _add(amounts: Sequence[float]) -> float:
    """Add from left to right, as ``resample`` does: ``sum`` of a later Python adds floats in another way."""
    return reduce(add, amounts)


def _at_eight_decimals(volume: float) -> float:
    """As ``resample`` frees sums from the noise of adding floats."""
    steps = volume * 1e8
    return round(steps) / 1e8 if steps < _EXACT_STEPS else volume


def _least_sure(states: Sequence[CandleState]) -> CandleState:
    least = CONFIRMED
    for state in states:
        if state is CORRECTED:
            return state
        if state is CLOSED:
            least = state
    return least


def straight_from_minutes(minutes: Level, timeframe: Timeframe, bucket: int) -> LiveCandle | None:
    """Make a longer candle from its minutes alone, by another way than step by step.

    Returns:
        Prices, sums and ``minutes``; None where a minute of the bucket is neither held nor known to be absent.
    """
    slots = range(bucket, bucket + timeframe.microseconds, minutes.step)
    parts = [minutes.candles[slot] for slot in slots if slot in minutes.candles]
    if not parts or (len(parts) < len(slots) and not minutes.is_known(slots)):
        return None
    is_idle = [part.volume == 0 for part in parts]
    moved = parts if all(is_idle) else [part for part, idle in zip(parts, is_idle, strict=True) if not idle]
    _, opened, highs, lows, closes, *_ = zip(*moved, strict=True)
    volumes, quotes, trades = ([getattr(part, name) for part in parts] for name in _AMOUNTS)
    return parts[-1]._replace(
        open_us=bucket,
        open=opened[0],
        high=max(highs),
        low=min(lows),
        close=closes[-1],
        volume=None if None in volumes else fsum(volumes),
        quote_volume=None if None in quotes else fsum(quotes),
        trades=None if None in trades else sum(trades),
        minutes=len(parts),
    )
