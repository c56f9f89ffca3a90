"""What scripted faults do to the rows of one page: none, twice, out of order, off the grid, missing, late.

Rows are texts as the exchange prints them. Not here: which faults apply (``script``), bodies and connections
(``wire``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from mdp.simulator.faults import DuplicateRows, EmptyPage, MissingRows, OffGrid, PageFault, RestLag, WrongOrder

_TIME = re.compile(r"\d+")
_MICROSECOND_DIGITS = 16


def as_of(faults: Sequence[PageFault], now_ms: int, length_ms: int) -> int:
    """Return the time at which a page is as old as a scripted lag makes it.

    Args:
        faults: Those that spoil this page.
        now_ms: Simulated time.
        length_ms: Length of the candles.
    """
    lags = any(isinstance(fault, RestLag) and is_late(fault, now_ms, length_ms) for fault in faults)
    return now_ms - now_ms % length_ms - 1 if lags else now_ms


def is_late(fault: RestLag, now_ms: int, length_ms: int) -> bool:
    """Tell whether the last close is so recent that a lag hides what opened with it."""
    return now_ms % length_ms < fault.lag_s * 1_000


def spoil_rows(rows: list[str], faults: Sequence[PageFault]) -> list[str]:
    """Return the rows with every fault applied, in the order of the script."""
    for fault in faults:
        spoil = _SPOIL.get(type(fault))
        if spoil is not None and rows:
            rows = spoil(rows, fault)
    return rows


def _middle(rows: list[str], count: int) -> slice:
    start = max(0, (len(rows) - count) // 2)
    return slice(start, start + count)


def _shuffle(rows: list[str], fault: WrongOrder) -> list[str]:
    mixed = rows.copy()
    Random(fault.seed).shuffle(mixed)
    # a shuffle of few rows may happen to change nothing
    return mixed if mixed != rows else rows[::-1]


def _repeat(rows: list[str], fault: DuplicateRows) -> list[str]:
    part = _middle(rows, fault.rows)
    return rows[: part.stop] + rows[part] + rows[part.stop :]


def _drop(rows: list[str], fault: MissingRows) -> list[str]:
    part = _middle(rows, fault.rows)
    return rows[: part.start] + rows[part.stop :]


def _shift(rows: list[str], fault: OffGrid) -> list[str]:
    part = _middle(rows, fault.rows)
    return rows[: part.start] + [_later(row, fault.by_ms) for row in rows[part]] + rows[part.stop :]


def _later(row: str, by_ms: int) -> str:
    """Move the open time, the first number of a row, in the unit in which it is printed."""

    def moved(found: re.Match[str]) -> str:
        unit = 1_000 if len(found[0]) == _MICROSECOND_DIGITS else 1
        return str(int(found[0]) + by_ms * unit)

    return _TIME.sub(moved, row, count=1)


_SPOIL: dict[type[PageFault], Callable[[list[str], Any], list[str]]] = {
    EmptyPage: lambda _rows, _fault: [],
    WrongOrder: _shuffle,
    DuplicateRows: _repeat,
    OffGrid: _shift,
    MissingRows: _drop,
}
