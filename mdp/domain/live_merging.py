"""What a minute of a live buffer says after another answer for it came: late, repeated, out of order or corrected.

Pure rules for one slot: neither values nor state depend on the order in which answers come. Not here: longer candles
(``live_rebuild``), which slots are kept (``buffers``).
"""

from __future__ import annotations

from enum import Enum
from math import inf, isnan
from typing import NamedTuple

from mdp.domain.live import CandleState, LiveCandle
from mdp.domain.timeframe import Timeframe

FORMING_TRUST, CLOSED_TRUST, CONFIRMED_TRUST = range(3)

FORMING, CLOSED, CONFIRMED, CORRECTED = CandleState  # looking a member up takes as long as all else that is done here


class Told(NamedTuple):
    """How sure the values of a slot are, and when they were last told; the greater one wins.

    Attributes:
        trust: 0 forming, 1 closed in the stream, 2 confirmed by REST.
        told_us: When the exchange sent them, where it says so, otherwise when they came.
    """

    trust: int
    told_us: int


class Outcome(Enum):
    """What became of an answer.

    ``TAKEN``: the slot is new, says something else, or is surer than before. ``REPEATED``: it says what is known.
    ``OUT_OF_ORDER``: something younger or surer is known. ``CORRECTED``: two answers that call the candle finished
    say different things; the surer one stands, of equally sure ones the later.
    """

    TAKEN = "taken"
    REPEATED = "repeated"
    OUT_OF_ORDER = "out of order"
    CORRECTED = "corrected"


class Merged(NamedTuple):
    """What a slot says now, how sure that is, and what became of the answer."""

    candle: LiveCandle
    told: Told
    outcome: Outcome

    @property
    def is_change(self) -> bool:
        """Tell whether the slot says something else than before, or is surer."""
        return self.outcome in (Outcome.TAKEN, Outcome.CORRECTED)


def first_told(candle: LiveCandle, told_us: int, *, was_absent: bool) -> Merged:
    """Take the first answer for a slot.

    Args:
        candle: The answer.
        told_us: When the exchange sent it, where it says so, otherwise when it came.
        was_absent: The exchange was asked for it before, and gave nothing: a finished candle is a correction then, a
            forming one is an echo of what was before.
    """
    told = Told(_trust(candle), told_us)
    if not was_absent:
        return Merged(candle, told, Outcome.TAKEN)
    if not told.trust:
        return Merged(candle, told, Outcome.OUT_OF_ORDER)
    return Merged(candle._replace(state=CORRECTED), told, Outcome.CORRECTED)


def merge(held: LiveCandle, told: Told, candle: LiveCandle, told_us: int) -> Merged:
    """Merge a further answer for a slot into what is held of it.

    A finished candle is never overwritten by a forming one. Of two forming ones that with more volume is younger; at
    equal volume that with more trades, then that told later. A finished candle that is told again keeps the source and
    the time of receipt with which it came first.

    Args:
        held: What the slot says; its state is ``CORRECTED`` once finished answers for it differed.
        told: How sure that is.
        candle: The answer, of the same slot.
        told_us: When the exchange sent it, where it says so, otherwise when it came.
    """
    trust = _trust(candle)
    if not told.trust or not trust:
        return _merge_forming(held, told, candle, Told(trust, told_us))
    if held.says_same(candle):
        return _confirm(held, told, candle, Told(trust, told_us))
    wins = (trust, told_us) >= told  # at the same instant: the one that came later
    corrected = (candle if wins else held)._replace(state=CORRECTED)
    if corrected == held:
        return Merged(held, told, Outcome.OUT_OF_ORDER)
    return Merged(corrected, Told(trust, told_us) if wins else told, Outcome.CORRECTED)


def _trust(candle: LiveCandle) -> int:
    state = candle.state
    if state is FORMING:
        return FORMING_TRUST
    # a correction may be one closed message against another: unless REST gave it, REST is still to be asked
    if state is CLOSED or (state is CORRECTED and candle.source == "stream"):
        return CLOSED_TRUST
    return CONFIRMED_TRUST


def _merge_forming(held: LiveCandle, told: Told, candle: LiveCandle, now: Told) -> Merged:
    """Merge where at most one of the two is finished."""
    if now.trust:
        return Merged(candle, now, Outcome.TAKEN)
    if held.says_same(candle):
        return Merged(held, max(told, now), Outcome.REPEATED)
    if told.trust or not _is_younger(candle, now, held, told):
        return Merged(held, told, Outcome.OUT_OF_ORDER)
    return Merged(candle, now, Outcome.TAKEN)


def _is_younger(candle: LiveCandle, now: Told, held: LiveCandle, told: Told) -> bool:
    # What was traded in a minute only grows; times of two machines may differ, so they decide last.
    for mine, other in ((candle.volume, held.volume), (candle.trades, held.trades)):
        if mine is not None and other is not None and mine != other:
            return mine > other
    return now.told_us >= told.told_us


def _confirm(held: LiveCandle, told: Told, candle: LiveCandle, now: Told) -> Merged:
    """Merge two finished answers that say the same."""
    if CORRECTED in (held.state, candle.state):
        state = CORRECTED
    else:
        state = CONFIRMED if CONFIRMED_TRUST in (told.trust, now.trust) else CLOSED
    if state is held.state:
        return Merged(held, max(told, now), Outcome.REPEATED)
    return Merged(held._replace(state=state), max(told, now), Outcome.TAKEN)


def failed_rules(candle: LiveCandle, timeframe: Timeframe) -> tuple[str, ...]:
    """Name the rules that a candle breaks, as ``rules.RULES`` names them; empty for a good one.

    Only those which a candle can break by itself: storage judges all of them, by the same names. A candle that breaks
    one is not for a buffer, but it was received: hand it on, so that it is kept as rejected.
    """
    open_us, open_, high, low, close, volume, quote_volume, trades = candle[:8]
    if (
        0 < low <= open_ <= high < inf
        and low <= close <= high
        and (volume is None or 0 <= volume < inf)
        and (quote_volume is None or 0 <= quote_volume < inf)
        and (trades is None or trades >= 0)
        and not open_us % timeframe.microseconds
    ):
        return ()
    # For storage NaN is the greatest number and equals itself.
    prices = (open_, high, low, close)
    is_kept = {
        "prices_are_finite": all(-inf < price < inf for price in prices),
        "prices_are_positive": all(price > 0 or isnan(price) for price in prices),
        "high_is_highest": isnan(high) or all(high >= price for price in prices),
        "low_is_lowest": all(low <= price or isnan(price) for price in (open_, close)),
        "volume_is_not_negative": volume is None or 0 <= volume < inf,
        "quote_volume_is_not_negative": quote_volume is None or 0 <= quote_volume < inf,
        "trades_are_not_negative": trades is None or trades >= 0,
        "open_time_is_on_grid": not open_us % timeframe.microseconds,
    }
    return tuple(name for name, holds in is_kept.items() if not holds)
