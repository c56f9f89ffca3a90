"""Every length of a candle that exchanges offer and exact minutes can make: how its slots lie on the clock.

Not here: how an exchange spells a length (``binance``, ``bybit``, ``okx``), making candles (``domain.resample``).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import gcd
from typing import Any

import numpy as np
import numpy.typing as npt

from mdp.domain.timeframe import Timeframe

Ints = npt.NDArray[np.int64]

MINUTE_US = 60_000_000
HOUR_US = 60 * MINUTE_US
DAY_US = 24 * HOUR_US
WEEK_US = 7 * DAY_US
_FIRST_MONDAY_US = 4 * DAY_US
_LONGEST_MONTH_US = 31 * DAY_US


@dataclass(frozen=True)
class Length:
    """Slots of one length; times are whole microseconds since the epoch, UTC.

    Attributes:
        step_us: From one slot to the next; of months the longest.
        offset_us: From the epoch to the opening of some slot; of months, from their first midnight in UTC.
        is_month: Whether slots are calendar months.

    Examples:
        >>> Length(DAY_US).floor(DAY_US + 5) == DAY_US
        True
    """

    step_us: int
    offset_us: int = 0
    is_month: bool = False

    @cached_property
    def native(self) -> Timeframe | None:
        """The timeframe whose stored candles these are; None: they are made of shorter ones."""
        if self.is_month or self.offset_us % self.step_us:
            return None
        return next((one for one in Timeframe if one.microseconds == self.step_us), None)

    @cached_property
    def made_of(self) -> Timeframe:
        """The longest timeframe whose candles tile every slot."""
        shared = gcd(DAY_US if self.is_month else self.step_us, self.offset_us)
        return max((one for one in Timeframe if shared % one.microseconds == 0), key=lambda one: one.microseconds)

    def opens(self, moments_us: Ints) -> Ints:
        """Return the opening of the slot that holds each moment."""
        if not self.is_month:
            return (moments_us - self.offset_us) // self.step_us * self.step_us + self.offset_us
        months: Any = (moments_us - self.offset_us).astype("datetime64[us]").astype("datetime64[M]")
        return np.asarray(months.astype("datetime64[us]").astype(np.int64) + self.offset_us)

    def floor(self, moment_us: int) -> int:
        """Return the opening of the slot that holds a moment."""
        return int(self.opens(np.array([moment_us], dtype=np.int64))[0])

    def ceil(self, moment_us: int) -> int:
        """Return the opening of the first slot that opens at a moment or later."""
        opened_us = self.floor(moment_us)
        return opened_us if opened_us == moment_us else self.following(opened_us)

    def ends(self, opened_us: Ints) -> Ints:
        """Return the opening of the slot after each of those that open at ``opened_us``."""
        # 31 days after the opening of a month lie in the one after it, whatever its length
        return self.opens(opened_us + self.step_us)

    def following(self, opened_us: int) -> int:
        """Return the opening of the slot after the one that opens at ``opened_us``."""
        return self.floor(opened_us + self.step_us)


def minutes(count: int, *, zone_us: int = 0) -> Length:
    """Return slots of some minutes that open on whole multiples after midnight of a time zone."""
    return Length(count * MINUTE_US, -zone_us % (count * MINUTE_US))


def weeks(*, zone_us: int = 0) -> Length:
    """Return weeks, which open on Monday at midnight of a time zone."""
    return Length(WEEK_US, (_FIRST_MONDAY_US - zone_us) % WEEK_US)


def months(*, zone_us: int = 0) -> Length:
    """Return calendar months of a time zone."""
    return Length(_LONGEST_MONTH_US, -zone_us, is_month=True)
