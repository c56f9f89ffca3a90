"""All buffers of one market in memory: the last closed candles of every timeframe, and the forming one.

Only minutes come in; longer candles are made of them on each change, so that what comes late, twice, out of order or
corrected ends in the same candles. Nothing closes by the clock: a longer candle is finished when each of its minutes
is, or is known to be absent. Not here: the rules for one slot (``live_merging``), how a longer candle is made
(``live_rebuild``), where buffers are published (``bus``), who asks for what is missing (``live``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace

from mdp.domain.live import CandleState, Change, LiveCandle
from mdp.domain.live_consistency import describe_us
from mdp.domain.live_ladder import MINUTE, Ladder
from mdp.domain.live_merging import CONFIRMED_TRUST, Outcome, Told, failed_rules, first_told, merge
from mdp.domain.live_rebuild import Level
from mdp.domain.market import Market
from mdp.domain.timeframe import Timeframe

FUTURE_SLOTS = 3
"""So many minutes a candle may open after the time at which it came: clocks differ, but not by more."""

_KEPT_NOTES = 5


@dataclass(slots=True)
class Counts:
    """What became of the minutes that came.

    Attributes:
        taken: They changed a slot.
        late: Of those taken, the first of their slot although a later minute was known already.
        repeated: They said what was known.
        out_of_order: Something younger or surer was known.
        too_old: They opened before all minutes that are kept.
        refused: They break a rule, or open in the future.
        corrected: Finished answers for a slot differed, or one came for a slot that was known to be absent.
        absent: Slots of which it was said that the exchange has nothing.
        checked: Longer candles compared with their minutes, or with one from elsewhere.
        inconsistent: How many of these comparisons failed.
    """

    taken: int = 0
    late: int = 0
    repeated: int = 0
    out_of_order: int = 0
    too_old: int = 0
    refused: int = 0
    corrected: int = 0
    absent: int = 0
    checked: int = 0
    inconsistent: int = 0


class MarketBuffers:
    """The candles of one market, 1m to 1d, as far back as buffers of ``size`` closed ones reach.

    More minutes are kept than the buffer of 1m shows, those of today and yesterday at least: each longer candle to
    which a minute belongs that is taken can be made anew from its parts.

    Args:
        market: Whose.
        size: How many closed candles each buffer holds, beside the newest.
    """

    def __init__(self, market: Market, size: int) -> None:
        if size < 1:
            raise ValueError(f"size: expected at least 1 candle, got {size}")
        self.market = market
        self.size = size
        self._ladder = Ladder(size)
        self._minutes = self._ladder.minutes
        self._told: dict[int, Told] = {}
        self._first: int | None = None
        self._counts = Counts()
        self._refusals: deque[str] = deque(maxlen=_KEPT_NOTES)

    @property
    def counts(self) -> Counts:
        """What became of all that came, so far."""
        consistency = self._ladder.consistency
        return replace(self._counts, checked=consistency.checked, inconsistent=consistency.inconsistent)

    @property
    def inconsistencies(self) -> tuple[str, ...]:
        """The last few longer candles that did not agree with their minutes or with one from elsewhere, in words."""
        return tuple(self._ladder.consistency.notes)

    @property
    def refusals(self) -> tuple[str, ...]:
        """The last few candles that were refused, in words."""
        return tuple(self._refusals)

    @property
    def newest_us(self) -> int | None:
        """Open time of the newest minute that anything is known of; None at first."""
        return self._ladder.newest

    def seed(
        self, timeframe: Timeframe, candles: Iterable[LiveCandle], *, now_us: int | None = None
    ) -> tuple[Change, ...]:
        """Take history: minutes, or longer candles for the slots whose minutes are not kept, or not had.

        Minutes are merged as ``take`` does. A longer candle stands until all of its minutes are known; then it must
        equal what they make. A longer candle that is still forming is not taken: it is made of its parts.

        Args:
            timeframe: Length of ``candles``.
            candles: Any order, duplicates allowed, again and again.
            now_us: The market's time; without it that at which each candle came.

        Returns:
            Every candle of every timeframe that changed, shortest timeframe first, ascending.
        """
        level = self._ladder.level(timeframe)
        if level is self._minutes:
            changed = {candle.open_us for candle in candles if self._merge(candle, candle.received_us, now_us)}
        else:
            changed = {candle.open_us for candle in candles if self._give(level, candle, now_us)}
        return self._ladder.rebuild(level, changed)

    def take(self, candle: LiveCandle, *, now_us: int | None = None, event_us: int | None = None) -> tuple[Change, ...]:
        """Take one minute, from the stream or from REST; in any order, as often as it comes.

        Args:
            candle: Forming, closed or, from REST after the exchange's settling time, confirmed.
            now_us: The market's time; without it that at which the candle came.
            event_us: When the exchange says it sent it; without it the time at which it came.

        Returns:
            The minute and every longer candle that say something else now, or are surer; empty if nothing changed. A
            minute that the buffer of 1m no longer shows, but that changed longer candles, is among them.
        """
        slot, newest = candle.open_us, self._ladder.newest
        is_late = newest is not None and slot < newest and slot not in self._minutes.candles
        if not self._merge(candle, candle.received_us if event_us is None else event_us, now_us):
            return ()
        self._counts.late += is_late
        return self._ladder.rebuild(self._minutes, {slot})

    def absent(self, open_us: int) -> tuple[Change, ...]:
        """Say that the exchange has no such minute: it was asked after its settling time.

        The slot counts as settled, so that longer candles can close. A forming minute that is held is dropped (see
        ``lost``); a closed one stays, though it will not be confirmed. A finished minute that comes after all is taken
        as a correction.

        Args:
            open_us: Open time of the minute.
        """
        if open_us % MINUTE:
            raise ValueError(f"open_us: expected the open time of a minute, got {describe_us(open_us)}")
        minutes = self._minutes
        if open_us < minutes.kept_from:
            self._counts.too_old += 1
            return ()
        if open_us in minutes.empty:
            return ()
        minutes.empty.add(open_us)
        self._counts.absent += 1
        held = minutes.candles.get(open_us)
        if held is not None and held.state is not CandleState.FORMING:
            return ()
        if held is not None:
            del minutes.candles[open_us], self._told[open_us]
            self._ladder.lost.add(Timeframe.M1)
        return self._ladder.rebuild(minutes, {open_us})

    def lost(self) -> frozenset[Timeframe]:
        """Return the timeframes that lost a candle since this was asked last, which no ``Change`` can say.

        Write their buffers anew, whole.
        """
        lost = frozenset(self._ladder.lost)
        self._ladder.lost.clear()
        return lost

    def buffer(self, timeframe: Timeframe) -> tuple[LiveCandle, ...]:
        """Return the candles of the last ``size`` + 1 slots, ascending; a slot without a candle is not there."""
        level = self._ladder.level(timeframe)
        candles = level.candles
        if not candles:
            return ()
        newest = max(candles)
        slots = range(newest - self.size * level.step, newest + level.step, level.step)
        return tuple([candles[slot] for slot in slots if slot in candles])

    def buffers(self) -> dict[Timeframe, tuple[LiveCandle, ...]]:
        """Return all buffers, shortest timeframe first."""
        return {timeframe: self.buffer(timeframe) for timeframe in Timeframe}

    def unconfirmed(self, before_us: int, *, since_us: int | None = None) -> tuple[int, ...]:
        """Return the minutes for which REST must still be asked: not confirmed, not closed, or missing.

        Args:
            before_us: Minutes that end after this are left out: the market's time less the settling time.
            since_us: Minutes that open before are left out; without it those before the buffer of 1m.

        Returns:
            Open times, ascending, none before the first minute that ever came. Slots after the newest one too: the
            exchange may stand still, or the stream.
        """
        start = self._asked_from(since_us)
        if start is None:
            return ()
        slots = range(start, before_us - before_us % MINUTE, MINUTE)
        return tuple(slot for slot in slots if not self._is_certain(slot))

    @property
    def confirmed_until_us(self) -> int | None:
        """Every minute of the buffer that opens before this is confirmed, or known to be absent; None at first."""
        slot = self._asked_from(None)
        while slot is not None and self._is_certain(slot):
            slot += MINUTE
        return slot

    def _asked_from(self, since_us: int | None) -> int | None:
        if self._first is None or self._ladder.newest is None:
            return None
        start = self._ladder.newest - self.size * MINUTE if since_us is None else since_us + -since_us % MINUTE
        return max(start, self._first, self._minutes.kept_from)

    def _is_certain(self, slot: int) -> bool:
        told = self._told.get(slot)
        return (told is not None and told.trust >= CONFIRMED_TRUST) or slot in self._minutes.empty

    def _merge(self, candle: LiveCandle, told_us: int, now_us: int | None) -> bool:
        """Merge a minute into its slot; tell whether the slot changed."""
        slot, minutes = candle.open_us, self._minutes
        if not self._is_welcome(minutes, candle, now_us):
            return False
        held = minutes.candles.get(slot)
        if held is not None:
            merged = merge(held, self._told[slot], candle, told_us)
        else:
            merged = first_told(candle, told_us, was_absent=slot in minutes.empty)
        self._count(merged.outcome)
        if merged.outcome is Outcome.OUT_OF_ORDER:
            return False
        self._told[slot] = merged.told
        if not merged.is_change:
            return False
        minutes.candles[slot] = merged.candle
        minutes.empty.discard(slot)
        self._first = slot if self._first is None else min(slot, self._first)
        if self._ladder.advance(slot):
            first_kept = minutes.kept_from
            self._told = {known: told for known, told in self._told.items() if known >= first_kept}
        return True

    def _count(self, outcome: Outcome) -> None:
        counts = self._counts
        if outcome is Outcome.REPEATED:
            counts.repeated += 1
        elif outcome is Outcome.OUT_OF_ORDER:
            counts.out_of_order += 1
        else:
            counts.taken += 1
            counts.corrected += outcome is Outcome.CORRECTED

    def _give(self, level: Level, candle: LiveCandle, now_us: int | None) -> bool:
        """Take a longer candle; tell whether its slot changed."""
        if candle.state is CandleState.FORMING or not self._is_welcome(level, candle, now_us):
            return False
        return self._ladder.give(level, candle)

    def _is_welcome(self, level: Level, candle: LiveCandle, now_us: int | None) -> bool:
        """Tell whether a candle may be taken at all, and count it if not."""
        failed = failed_rules(candle, level.timeframe)
        now = candle.received_us if now_us is None else now_us
        if not failed and candle.open_us + level.step > now + (FUTURE_SLOTS + 1) * MINUTE:
            failed = (f"opens in the future, at {describe_us(now)}",)
        if failed:
            self._counts.refused += 1
            self._refusals.append(f"{level.timeframe} {describe_us(candle.open_us)}: {', '.join(failed)}")
            return False
        if candle.open_us < level.kept_from:
            self._counts.too_old += 1
            return False
        return True
