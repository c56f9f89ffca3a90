"""When two amounts are the same."""

from __future__ import annotations

import polars as pl
import pytest

from mdp.domain.amounts import slack


@pytest.mark.parametrize(("amount", "allowed"), [(0.0, 5e-9), (1.0, 5e-9 + 1e-12), (-5e6, 5e-6 + 5e-9)])
def test_what_is_allowed_grows_with_the_amount_and_never_falls_below_half_a_digit(amount, allowed):
    assert slack(amount) == pytest.approx(allowed, rel=1e-12)
    assert pl.select(slack(pl.lit(amount))).item() == slack(amount)
