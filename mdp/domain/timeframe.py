"""The six candle lengths and the arithmetic of their grids.

Not here: intervals people ask about (``interval``), an exchange's own spellings (``exchanges``).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import StrEnum

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_SECONDS = {"1m": 60, "5m": 300, "15m": 900, "1h": 3600, "4h": 14400, "1d": 86400}


class Timeframe(StrEnum):
    """Length of a candle, spelled as CCXT spells it.

    Every grid starts at the Unix epoch, so each longer slot is tiled exactly by shorter ones.

    Examples:
        >>> Timeframe("1h").duration
        datetime.timedelta(seconds=3600)
        >>> Timeframe.H1.floor(datetime(2024, 1, 1, 10, 59, tzinfo=UTC)).hour
        10
    """

    M1 = "1m"
    M5 = "5m"
    M15 = "15m"
    H1 = "1h"
    H4 = "4h"
    D1 = "1d"

    @property
    def seconds(self) -> int:
        """Length in seconds."""
        return _SECONDS[self.value]

    @property
    def milliseconds(self) -> int:
        """Length in milliseconds, the unit most exchanges speak."""
        return self.seconds * 1_000

    @property
    def microseconds(self) -> int:
        """Length in microseconds, the unit our tables store."""
        return self.seconds * 1_000_000

    @property
    def duration(self) -> timedelta:
        """Length as a ``timedelta``."""
        return timedelta(seconds=self.seconds)

    @property
    def minutes(self) -> int:
        """Length in minutes: how many 1m slots one slot of this timeframe holds."""
        return self.seconds // 60

    def floor(self, moment: datetime) -> datetime:
        """Return the open time of the slot that holds ``moment`` (timezone-aware)."""
        return moment - (moment - EPOCH) % self.duration

    def is_on_grid(self, moment: datetime) -> bool:
        """Tell whether ``moment`` is the open time of a slot."""
        return not (moment - EPOCH) % self.duration


RESAMPLED: tuple[Timeframe, ...] = (Timeframe.M5, Timeframe.M15, Timeframe.H1, Timeframe.H4, Timeframe.D1)
"""The timeframes made from 1m, shortest first; each is made from the one before it."""
