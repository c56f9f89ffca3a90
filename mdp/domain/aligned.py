"""Series of several markets put on one clock: every slot of a window has its place, and what is missing stays missing.

Not here: reading the series, what their columns are called (``reading``).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mdp.domain.candles import TIME
from mdp.domain.interval import Interval
from mdp.domain.timeframe import EPOCH, Timeframe
from mdp.errors import InvariantViolation

Ints = NDArray[np.int64]


def whole_slots(window: Interval, timeframe: Timeframe) -> Interval:
    """Return the stretch of all slots that open inside a window, from the first one's start to the last one's end."""
    almost = timeframe.duration - EPOCH.resolution
    start, end = (timeframe.floor(bound + almost) for bound in (window.start, window.end))
    return Interval(start, end)


class SlotGrid:
    """The slots of a timeframe that open inside a window, ascending.

    Args:
        window: Any bounds.
        timeframe: Length of a slot.

    Attributes:
        open_times: Of every slot, ``Datetime("us", "UTC")``.
    """

    def __init__(self, window: Interval, timeframe: Timeframe) -> None:
        self._step = timeframe.microseconds
        whole = whole_slots(window, timeframe)
        self._first = (whole.start - EPOCH) // EPOCH.resolution
        times = self._first + self._step * np.arange(whole.slots(timeframe), dtype=np.int64)
        self.open_times = pl.Series("open_time", times).cast(TIME)

    def place(self, open_times: pl.Series, columns: Iterable[pl.Series]) -> list[pl.Series]:
        """Put each value at its slot.

        Args:
            open_times: Of the values, any order; those outside the window are left out.
            columns: Values, each column as long as ``open_times``.

        Returns:
            The columns with one value for each slot, null where there is none. Nothing is filled in.

        Raises:
            InvariantViolation: an open time is no slot's, or two values claim one slot.
        """
        offset = open_times.to_physical().to_numpy() - self._first
        slots = offset // self._step
        if (off_grid := int(np.count_nonzero(slots * self._step != offset))) > 0:
            raise InvariantViolation("candles to align", {"open_time_is_on_grid": off_grid})
        if len(slots) == len(self.open_times) and (slots == np.arange(len(slots))).all():
            return list(columns)
        rows = self._row_of_each_slot(slots)
        return [column.gather(rows) for column in columns]

    def _row_of_each_slot(self, slots: Ints) -> pl.Series:
        """Number of the row at each slot; null where there is none."""
        given = np.flatnonzero((slots >= 0) & (slots < len(self.open_times)))
        row_of = np.full(len(self.open_times), -1, dtype=np.int64)
        row_of[slots[given]] = given
        if (doubled := len(given) - int(np.count_nonzero(row_of >= 0))) > 0:
            raise InvariantViolation("candles to align", {"key_is_unique": doubled})
        found = pl.Series(row_of)
        return found.set(found < 0, None)
