"""The timeframes of one market, each made from the one below it: what is kept of each, and what changes with a minute.

Not here: how one candle is made of its parts (``live_rebuild``), what comes in (``buffers``).
"""

from __future__ import annotations

from mdp.domain.live import CandleState, Change, LiveCandle
from mdp.domain.live_consistency import Consistency
from mdp.domain.live_rebuild import Level, straight_from_minutes
from mdp.domain.timeframe import Timeframe

MINUTE = Timeframe.M1.microseconds
_DAY = Timeframe.D1.microseconds


class Ladder:
    """Candles of all timeframes, as far back as buffers of ``size`` closed ones reach, and at least to yesterday.

    Args:
        size: How many closed candles each buffer holds.

    Attributes:
        newest: Open time of the newest minute that anything is known of; None at first.
        consistency: What was compared with what.
        lost: Timeframes that lost a candle.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._levels: list[Level] = []
        for timeframe in Timeframe:
            self._levels.append(Level(timeframe, self._levels[-1] if self._levels else None))
        self.minutes = self._levels[0]
        self.newest: int | None = None
        self.consistency = Consistency()
        self.lost: set[Timeframe] = set()

    def level(self, timeframe: Timeframe) -> Level:
        """Return the candles of one timeframe."""
        return next(level for level in self._levels if level.timeframe is timeframe)

    def advance(self, minute: int) -> bool:
        """Go on to a newer minute; tell whether older ones were forgotten for it, as they are once a day."""
        before = self.newest
        if before is not None and minute <= before:
            return False
        self.newest = minute
        today = minute - minute % _DAY
        if before is not None and before >= today:
            return False
        for level in self._levels:
            # on a whole day, so that no longer candle is kept in part
            level.forget_before(today - -(-self._size * level.step // _DAY) * _DAY)
        return True

    def give(self, level: Level, candle: LiveCandle) -> bool:
        """Take a finished longer candle from elsewhere; tell whether its slot changed."""
        self.advance(candle.open_us + level.step - MINUTE)
        return level.give(candle, self.consistency)

    def rebuild(self, level: Level, changed: set[int]) -> tuple[Change, ...]:
        """Make the longer candles anew that hold changed ones, timeframe by timeframe, as far as anything changes.

        Returns:
            The changed candles and what became of the longer ones, shortest timeframe first, ascending.
        """
        changes = _changes(level, changed)
        for longer in self._levels[self._levels.index(level) + 1 :]:
            step, kept_from = longer.step, level.kept_from
            buckets = {slot - slot % step for slot in changed if slot >= kept_from}
            changed = {bucket for bucket in buckets if self._rebuild_bucket(longer, level, bucket)}
            if not changed:
                break
            changes += _changes(longer, changed)
            level = longer
        return tuple(changes)

    def _rebuild_bucket(self, level: Level, below: Level, bucket: int) -> bool:
        before = level.candles.get(bucket)
        if not level.rebuild(bucket, below, self.consistency):
            return False
        made = level.candles.get(bucket)
        if made is None:
            if before is not None:
                self.lost.add(level.timeframe)
        elif made.state is not CandleState.FORMING and not _was_finished_so(before, made):
            straight = straight_from_minutes(self.minutes, level.timeframe, bucket)
            if straight is not None:
                self.consistency.compare(level.timeframe, made, straight, "its minutes say")
        return True


def _was_finished_so(before: LiveCandle | None, made: LiveCandle) -> bool:
    return before is not None and before.state is not CandleState.FORMING and before.says_same(made)


def _changes(level: Level, slots: set[int]) -> list[Change]:
    candles = level.candles
    if len(slots) == 1:  # as every update of a stream is
        (slot,) = slots
        return [Change(level.timeframe, candles[slot])] if slot in candles else []
    in_order = sorted(slots)
    return [Change(level.timeframe, candles[slot]) for slot in in_order if slot in candles]
