"""The finished minutes of a market, as they were stored or handed on, and what REST must say twice. Pure.

REST lags: for seconds after a minute ended it may show the minute unfinished and call it closed, or not have it yet. So
it overrules a finished minute, and says that there is none, only by saying so twice, the settling time apart.
Not here: what buffers show (``domain.buffers``), when REST is asked (``asking``).
"""

from __future__ import annotations

from dataclasses import dataclass

from mdp.domain.live import CandleState, LiveCandle


@dataclass(frozen=True, slots=True)
class _Doubt:
    """What REST said for the first time: other values than are known, or nothing (None); or that storage differs."""

    said: LiveCandle | None
    since_us: int
    is_of_storage: bool = False


class Ledger:
    """What is known for sure of each minute, so that each news of it is handed on once.

    Args:
        settle_us: The exchange's settling time, in microseconds of the market: so far apart two answers count as two.
    """

    def __init__(self, settle_us: int) -> None:
        self.settle_us = settle_us
        self._known: dict[int, LiveCandle] = {}
        self._doubts: dict[int, _Doubt] = {}

    def known(self, open_us: int) -> LiveCandle | None:
        """Return the finished minute of a slot; None where none is known."""
        return self._known.get(open_us)

    def note(self, candle: LiveCandle) -> bool:
        """Remember a minute; tell whether it is news for storage: finished, and not known with these values."""
        if candle.state is CandleState.FORMING:
            return False
        known = self._known.get(candle.open_us)
        if known is not None and known.says_same(candle):
            return False
        self._known[candle.open_us] = candle
        return True

    def may_take(self, said: LiveCandle, now_us: int) -> bool:
        """Tell whether a finished minute that REST gave counts: it is the first, says what is known, or said so twice.

        Args:
            said: By REST, after the settling time.
            now_us: The market's time of the answer.
        """
        known = self._known.get(said.open_us)
        if known is None or known.says_same(said) or self._is_said_again(said.open_us, said, now_us):
            self._doubts.pop(said.open_us, None)
            return True
        return False

    def doubt_stored(self, open_us: int, now_us: int) -> None:
        """Note that storage holds other values than are known: REST decides, for storage is no witness."""
        self._doubts.setdefault(open_us, _Doubt(None, now_us - self.settle_us, is_of_storage=True))

    def agree_stored(self, open_us: int) -> None:
        """Note that storage holds what is known: its own doubt is over, what REST said once still counts."""
        if self.is_stored_otherwise(open_us):
            del self._doubts[open_us]

    def is_stored_otherwise(self, open_us: int) -> bool:
        """Tell whether storage was found to hold other values, and REST has not spoken since."""
        doubt = self._doubts.get(open_us)
        return doubt is not None and doubt.is_of_storage

    def is_absent(self, open_us: int, now_us: int) -> bool:
        """Tell whether the exchange has no such minute, now that an answer lacked it: it was lacking twice."""
        if self._is_said_again(open_us, None, now_us):
            del self._doubts[open_us]
            return True
        return False

    def ask_again_us(self, open_us: int) -> int:
        """Return from when on asking for a slot makes sense: at once, or when a second answer counts."""
        doubt = self._doubts.get(open_us)
        return doubt.since_us + self.settle_us if doubt else 0

    def doubted(self) -> tuple[int, ...]:
        """Return the slots of which REST said something that it must say again, ascending."""
        return tuple(sorted(self._doubts))

    def forget_before(self, open_us: int) -> None:
        """Drop what is known of older slots."""
        for kept in (self._known, self._doubts):
            for slot in [slot for slot in kept if slot < open_us]:
                del kept[slot]

    def _is_said_again(self, open_us: int, said: LiveCandle | None, now_us: int) -> bool:
        doubt = self._doubts.get(open_us)
        is_same = (
            doubt is not None
            and not doubt.is_of_storage
            and (doubt.said is None if said is None else doubt.said is not None and doubt.said.says_same(said))
        )
        if doubt is None or not is_same or now_us < doubt.since_us:  # the market's clock was set back
            self._doubts[open_us] = _Doubt(said, now_us)
            return False
        return now_us - doubt.since_us >= self.settle_us
