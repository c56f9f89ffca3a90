"""Half-open UTC time ranges ``[start, end)``: the only kind of range in this project.

Not here: what lies inside a range (``gaps``, ``candles``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from mdp.domain.timeframe import Timeframe

DAY = timedelta(days=1)

_DATE = re.compile(r"[0-9]{4}-?[0-9]{2}-?[0-9]{2}")


@dataclass(frozen=True, slots=True, order=True)
class Interval:
    """A half-open range of UTC time, ``[start, end)``.

    Raises:
        ValueError: a bound is naive or not UTC, or ``end`` lies before ``start``.

    Examples:
        >>> Interval.of_day(date(2024, 12, 30)).slots(Timeframe.M1)
        1440
    """

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        for name, moment in (("start", self.start), ("end", self.end)):
            if moment.tzinfo is None or moment.utcoffset() != timedelta(0):
                raise ValueError(f"{name}: expected a UTC time, got {moment!r}")
            # a zone that is at UTC now, as London in winter, would leave it when time is added
            object.__setattr__(self, name, moment.astimezone(UTC))
        if self.end < self.start:
            raise ValueError(
                f"end: expected a time at or after start {self.start.isoformat()}, got {self.end.isoformat()}"
            )

    @classmethod
    def of_day(cls, day: date) -> Interval:
        """Return the UTC day ``day``."""
        start = datetime.combine(day, time(), tzinfo=UTC)
        return cls(start, start + DAY)

    @classmethod
    def of_days(cls, first: date, last: date) -> Interval:
        """Return the UTC days ``first`` to ``last``, both included."""
        return cls(cls.of_day(first).start, cls.of_day(last).end)

    @property
    def is_empty(self) -> bool:
        """Tell whether no instant lies inside."""
        return self.start == self.end

    @property
    def duration(self) -> timedelta:
        """Length of the range."""
        return self.end - self.start

    def contains(self, moment: datetime) -> bool:
        """Tell whether ``moment`` lies inside: at or after ``start``, before ``end``."""
        return self.start <= moment < self.end

    def covers(self, other: Interval) -> bool:
        """Tell whether ``other`` lies wholly inside this range."""
        return self.start <= other.start and other.end <= self.end

    def intersect(self, other: Interval) -> Interval:
        """Return what both ranges share; empty, at a bound of this one, when they share nothing."""
        start = min(max(self.start, other.start), self.end)
        return Interval(start, max(start, min(self.end, other.end)))

    def slots(self, timeframe: Timeframe) -> int:
        """Count the open times of ``timeframe`` that lie inside."""
        first = timeframe.floor(self.start - timedelta(microseconds=1)) + timeframe.duration
        return max(0, -(-(self.end - first) // timeframe.duration))

    def days(self) -> Iterator[Interval]:
        """Yield the parts of this range that lie in one UTC day each, ascending."""
        return self.split(DAY)

    def months(self) -> Iterator[Interval]:
        """Yield the parts of this range that lie in one UTC calendar month each, ascending."""
        start = self.start
        while start < self.end:
            next_month = (start.replace(day=1, hour=0, minute=0, second=0, microsecond=0) + 32 * DAY).replace(day=1)
            yield Interval(start, min(next_month, self.end))
            start = next_month

    def split(self, length: timedelta) -> Iterator[Interval]:
        """Yield parts that end on multiples of ``length`` since the epoch: they tile this range exactly.

        The first and the last part are shorter when this range does not start or end on such a multiple.
        """
        start = self.start
        while start < self.end:
            offset = (start - datetime(1970, 1, 1, tzinfo=UTC)) % length
            end = min(start - offset + length, self.end)
            yield Interval(start, end)
            start = end

    def __str__(self) -> str:
        return f"[{format_time(self.start)}, {format_time(self.end)})"


def merge(intervals: Iterable[Interval]) -> list[Interval]:
    """Join intervals that overlap or touch.

    Args:
        intervals: Any order, empty ones allowed.

    Returns:
        Ascending, disjoint, non-adjacent, non-empty intervals that cover the same instants.
    """
    merged: list[Interval] = []
    for interval in sorted(part for part in intervals if not part.is_empty):
        if merged and interval.start <= merged[-1].end:
            merged[-1] = Interval(merged[-1].start, max(merged[-1].end, interval.end))
        else:
            merged.append(interval)
    return merged


def subtract(whole: Interval, parts: Iterable[Interval]) -> list[Interval]:
    """Return what ``parts`` leave of ``whole``: ascending, disjoint, non-adjacent, non-empty intervals."""
    left: list[Interval] = []
    start = whole.start
    for part in merge(part.intersect(whole) for part in parts):
        if start < part.start:
            left.append(Interval(start, part.start))
        start = part.end
    if start < whole.end:
        left.append(Interval(start, whole.end))
    return left


def format_time(moment: datetime) -> str:
    """Write a UTC time as ISO 8601 with ``Z``, without a fraction unless there is one."""
    return moment.isoformat().replace("+00:00", "Z")


def parse_time(text: str) -> datetime:
    """Read an ISO 8601 date (its UTC midnight) or a time that names its offset.

    Raises:
        ValueError: not a date or time of the calendar, or a time of day without an offset.

    Examples:
        >>> parse_time("2024-12-30").isoformat()
        '2024-12-30T00:00:00+00:00'
        >>> parse_time("2024-12-30T02:00+02:00").isoformat()
        '2024-12-30T00:00:00+00:00'
    """
    text = text.strip()
    try:
        moment = datetime.fromisoformat(text)
        in_utc = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(
            f"expected a date such as 2024-12-30 or a time such as 2024-12-30T08:15Z, got {text!r}"
        ) from None
    if moment.tzinfo is None and _DATE.fullmatch(text) is None:
        raise ValueError(f"expected a time with its offset, such as {text}Z, got {text!r}")
    return in_utc
