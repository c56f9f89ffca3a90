"""How far two amounts may be apart and still be the same, where one of them was added up.

Not here: what is compared with what (``pipeline``, ``second_opinion``).
"""

from __future__ import annotations

from typing import TypeVar

import polars as pl

Amount = TypeVar("Amount", float, pl.Expr)

HALF_A_DIGIT = 5e-9
"""Exchanges give amounts to 8 decimals at most: what is nearer than half of the last one is the same."""

SUMMED = 1e-12
"""Share of an amount by which sums of the same parts may differ. Two ways of adding up a day: 4e-15."""


def slack(amount: Amount) -> Amount:
    """Return how far another amount may be from this one and still be the same.

    Examples:
        >>> slack(0.0), slack(-1000.0)
        (5e-09, 6e-09)
    """
    return HALF_A_DIGIT + SUMMED * abs(amount)
