"""Numbers, printed to the digit as the exchanges print them."""

from __future__ import annotations

import random

import polars as pl
import pytest

from mdp.api.compat.digits import eight_decimals, shortest


def printed(how, *numbers):
    return how(pl.DataFrame({"x": list(numbers)}, schema={"x": pl.Float64()}), ["x"])["x"].to_list()


@pytest.mark.parametrize("most", [1.0, 100_000.0, 1.1e7, 4.5e7])
def test_eight_decimals_are_those_that_were_sent(most):
    sent = [f"{random.Random(number).random() * most:.8f}" for number in range(2_000)]
    assert printed(eight_decimals, *map(float, sent)) == sent


def test_a_number_too_large_for_eight_decimals_shows_what_its_float_holds():
    assert printed(eight_decimals, 2075614696.7999, 0.5) == ["2075614696.79990000", "0.50000000"]
    assert printed(shortest, 2075614696.7999, 1e16, 3.25) == ["2075614696.7999", "10000000000000000", "3.25"]


def test_the_shortest_text_has_no_zeros_and_no_exponent():
    numbers = (98663.58, 17071.0, 100.0, 0.0, 1e-8, 0.000048)
    assert printed(shortest, *numbers) == ["98663.58", "17071", "100", "0", "0.00000001", "0.000048"]


def test_what_adding_floats_leaves_is_not_printed():
    assert printed(shortest, 0.1 + 0.2, 1152.4720900000002) == ["0.3", "1152.47209"]


def test_unknown_numbers_are_zero_and_no_numbers_are_none():
    assert printed(eight_decimals, None, 1.0) == ["0.00000000", "1.00000000"]
    assert printed(eight_decimals) == printed(shortest) == []
