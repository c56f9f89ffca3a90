"""Prices and amounts as the exchanges print them: always eight decimals, or as short as they can be.

Not here: the rows they stand in (``binance``, ``bybit``, ``okx``).
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import polars as pl

_EIGHT, _NINE = 8, 9


def eight_decimals(rows: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
    """Print columns of numbers with eight decimals, as Binance does: ``98663.58000000``; an unknown one as zero.

    Up to 45 million a float tells every amount of eight decimals from its neighbours, and its text is what the exchange
    sent. A larger one is printed with the digits that a float holds, and zeros after them.
    """
    return _printed(rows, names, _EIGHT)


def shortest(rows: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
    """Print columns without trailing zeros, as Bybit and OKX do: ``98663.58``, ``17071``; an unknown number as zero.

    Nine decimals are kept, as many as a price step times an amount step has: what adding floats leaves after them goes.
    """
    return _printed(rows, names, _NINE).with_columns(pl.col(names).str.strip_chars_end("0").str.strip_chars_end("."))


def _printed(rows: pl.DataFrame, names: Sequence[str], decimals: int) -> pl.DataFrame:
    # Below 2**50 steps, multiplying leads back to the very step a number was read from, and polars prints six times as
    # fast as Python; a column with a larger number is printed number by number.
    most = rows.select(pl.col(names).max()).row(0)
    large = [name for name, value in zip(names, most, strict=True) if value and value >= 2.0**50 / 10**decimals]
    texts = [
        pl.Series(name, [_text(number, decimals) for number in rows[name].fill_null(0.0).to_list()]) for name in large
    ]
    small = [name for name in names if name not in large]
    return rows.with_columns(pl.col(small).fill_null(0.0).cast(pl.Decimal(38, decimals)).cast(pl.String), *texts)


def _text(number: float, decimals: int) -> str:
    if abs(number) < 2.0**52 / 10**decimals:
        return f"{number:.{decimals}f}"
    return f"{Decimal(repr(number)):.{decimals}f}"
