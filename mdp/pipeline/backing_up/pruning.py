"""Which backups stay: some days, weeks and months back, one of each.

Not here: making them (``creating``).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from mdp.errors import InputError
from mdp.pipeline.backing_up.places import (
    backups_in,
    is_of_the_future,
    moment_of,
    readable_backups,
    remove_backup,
    working_in,
)
from mdp.pipeline.backing_up.records import Manifest


@dataclass(frozen=True, slots=True)
class Keep:
    """For how many days, weeks and months back one backup each stays: the last of it.

    Days, weeks (from Monday) and months are counted in UTC, and only those count of which there is a backup: a machine
    that was off for a month keeps as many as one that was not.
    """

    daily: int
    weekly: int
    monthly: int

    def __post_init__(self) -> None:
        """Refuse what would remove everything by mistake.

        Raises:
            InputError: a number below 0, or 0 of all.
        """
        for name, value in (("keep-daily", self.daily), ("keep-weekly", self.weekly), ("keep-monthly", self.monthly)):
            if value < 0:
                raise InputError(name, got=value, expected="a whole number, at least 0")
        if not (self.daily or self.weekly or self.monthly):
            raise InputError("keep-daily", got=0, expected="at least one of keep-daily, -weekly and -monthly above 0")


def kept(made: Collection[datetime], keep: Keep) -> set[datetime]:
    """Return which of some backups stay; the newest always does.

    Args:
        made: When each was begun, any order.
        keep: How many.
    """
    newest_first = sorted(made, reverse=True)
    stays = set(newest_first[:1])
    for count, period in ((keep.daily, _day), (keep.weekly, _week), (keep.monthly, _month)):
        stays |= _last_of_each(newest_first, count, period)
    return stays


def _last_of_each(newest_first: list[datetime], count: int, period: Callable[[datetime], object]) -> set[datetime]:
    last: dict[object, datetime] = {}
    for moment in newest_first:
        last.setdefault(period(moment), moment)
    return set(list(last.values())[:count])


def _day(moment: datetime) -> object:
    return moment.date()


def _week(moment: datetime) -> object:
    return moment.isocalendar()[:2]


def _month(moment: datetime) -> object:
    return moment.year, moment.month


def prune(place: Path, keep: Keep, now: datetime, *, is_dry: bool = False) -> tuple[list[Path], list[Path]]:
    """Remove the backups of a place that need not stay.

    One that cannot be read, and one of the future, take no other's place, and are left for a person to look at.

    Returns:
        Those that stay, and those that were removed; of a dry run, would be.

    Raises:
        InputError: there is no such place.
        LeaseHeld: a backup is being made there.
        StorageError: one cannot be removed; those before it were.
    """
    if not place.is_dir():
        raise InputError("place", got=str(place), expected="a folder in which backups lie")
    with working_in(place):
        whole = {
            path: moment_of(path.name)
            for path, told in readable_backups(place)
            if isinstance(told, Manifest) and not is_of_the_future(path, now)
        }
        stays = kept(whole.values(), keep)
        gone = [path for path, moment in whole.items() if moment not in stays]
        if not is_dry:
            for path in gone:
                remove_backup(path)
        left = [path for path in backups_in(place) if path not in gone]
    return left, gone
