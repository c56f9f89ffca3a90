"""Whether longer live candles agree with what else is known of them, counted and told.

Not here: how they are made (``live_rebuild``), what follows when they do not agree (the one made of minutes stands).
"""

from __future__ import annotations

from collections import deque
from datetime import timedelta

from mdp.domain.amounts import HALF_A_DIGIT, slack
from mdp.domain.interval import format_time
from mdp.domain.live import LiveCandle
from mdp.domain.timeframe import EPOCH, Timeframe

_KEPT_NOTES = 5
_PRICES = ("open", "high", "low", "close")


class Consistency:
    """How often candles of longer timeframes were compared with what else is known of them, and what differed.

    Attributes:
        checked: Comparisons: with the minutes, straight, and with a longer candle that came from elsewhere.
        inconsistent: How many of them differed; the candle that was made from the shorter ones stands.
        notes: The last few differences, in words.
    """

    def __init__(self) -> None:
        self.checked = 0
        self.inconsistent = 0
        self.notes: deque[str] = deque(maxlen=_KEPT_NOTES)

    def compare(self, timeframe: Timeframe, made: LiveCandle, said: LiveCandle | None, who: str) -> bool:
        """Count a comparison of a candle with what ``who`` says of its slot, or nothing; tell whether they agree."""
        self.checked += 1
        apart = difference(made, said) if said is not None else "that there is one"
        if not apart:
            return True
        self.inconsistent += 1
        self.notes.append(f"{timeframe} {describe_us(made.open_us)}: {who} otherwise in {apart}")
        return False


def difference(one: LiveCandle, other: LiveCandle) -> str:
    """Name what two longer candles of a slot say differently; empty where they agree.

    Amounts were added up, so they may be apart by what adding floats and rounding to 8 decimals leaves. What one of
    them does not give is not compared, nor is how many minutes they hold: an exchange does not say it of its own.
    """
    apart = [name for name in _PRICES if getattr(one, name) != getattr(other, name)]
    if one.volume is not None and other.volume is not None and abs(one.volume - other.volume) > slack(one.volume):
        apart.append("volume")
    if one.quote_volume is not None and other.quote_volume is not None:
        rounding = HALF_A_DIGIT * max(one.minutes, other.minutes) + 1e-9 * abs(one.quote_volume)
        if abs(one.quote_volume - other.quote_volume) > rounding:
            apart.append("quote_volume")
    if one.trades is not None and other.trades is not None and one.trades != other.trades:
        apart.append("trades")
    return ", ".join(apart)


def describe_us(open_us: int) -> str:
    """Write a time for people; one that no calendar holds as the number it is."""
    try:
        return format_time(EPOCH + timedelta(microseconds=open_us))
    except OverflowError:
        return f"{open_us} us"
