"""What people write when they mean a moment, understood.

Not here: windows and days (``reading.arguments``), the grammar of ISO 8601 (``interval``).
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time

from mdp.domain.interval import parse_time
from mdp.errors import InputError

Moment = str | date | datetime
"""A UTC date, a time with its offset, or the ISO 8601 text of either."""


def parse_moment(field: str, value: Moment) -> datetime:
    """Understand a moment; a date is its UTC midnight.

    Args:
        field: What it is called in the error.
        value: The moment.

    Raises:
        InputError: not a date or time of the calendar, or a time of day without an offset.
    """
    if isinstance(value, str):
        try:
            return parse_time(value)
        except ValueError as error:
            expected, _, _ = str(error).removeprefix("expected ").rpartition(", got ")
            raise InputError(field, got=value, expected=expected) from None
    if not isinstance(value, datetime):
        return datetime.combine(value, time(), tzinfo=UTC)
    if value.tzinfo is None:
        raise InputError(field, got=value.isoformat(), expected="a time with its offset, such as one in UTC")
    return value.astimezone(UTC)
