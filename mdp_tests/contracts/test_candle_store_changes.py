"""Any changes in any order: every store holds what a plain list of rows would hold.

Not here: single promises (``test_candle_store``).
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdp.ports import OHLCV, Slice
from mdp_tests.contracts.conftest import STORES
from mdp_tests.contracts.rows import OTHER_MARKET, part, rows_at
from mdp_tests.support.builders import MARKET, at

# Around the borders of a month, a year and a leap day, and a microsecond beside them.
BORDERS = ["2023-12-31T23:59", "2024-01-01", "2024-01-01T00:01", "2024-01-31T23:59:59.999999", "2024-02-01"]
MOMENTS = [at(moment) for moment in [*BORDERS, "2024-02-29T12:00", "2024-03-01", "2024-12-31T23:00", "2025-01-01"]]
MARKETS = (MARKET, OTHER_MARKET)
TIMEFRAMES = ("1m", "1h")

windows = st.tuples(st.sampled_from(MOMENTS), st.sampled_from(MOMENTS)).map(sorted)
slices = st.builds(
    lambda bounds, timeframes, market: part(*bounds, *sorted(timeframes), market=market),
    windows,
    st.sets(st.sampled_from(TIMEFRAMES), min_size=1),
    st.sampled_from(MARKETS),
)


@st.composite
def changes(draw: st.DrawFn) -> tuple[str, Slice, pl.DataFrame]:
    """How something is changed, a slice, and rows inside it in any order; keys are repeated where they may be."""
    how = draw(st.sampled_from(["replace", "append", "append_live"]))
    where = draw(slices)
    inside = [moment for moment in MOMENTS if where.window.contains(moment)]
    frames = [OHLCV.schema.to_frame()]
    for timeframe in where.timeframes:
        moments = draw(st.lists(st.sampled_from(inside), max_size=5, unique=how == "append_live")) if inside else []
        seed = draw(st.integers(0, 99))
        frames.append(
            rows_at(OHLCV, moments, market=where.market, timeframe=timeframe.value, seed=seed, has_holes=False)
        )
    return how, where, pl.concat(frames)


@pytest.mark.parametrize("make", STORES.values(), ids=STORES)
@given(done=st.lists(changes(), max_size=4), asked=slices)
def test_any_changes_leave_what_a_list_of_rows_would_hold(make, done, asked):
    model = []
    with tempfile.TemporaryDirectory() as directory:
        store = make(Path(directory))
        for how, where, rows in done:
            if how == "append":
                store.append(OHLCV, rows)
            elif how == "append_live":
                store.append_live(OHLCV, rows)
                keys = {_key(row) for row in rows.rows(named=True)}
                model = [row for row in model if _key(row) not in keys]
            else:
                store.replace(OHLCV, where, rows)
                model = [row for row in model if not _is_inside(row, where)]
            model += rows.rows(named=True)
        found = store.read(OHLCV, asked).rows(named=True)
    expected = [row for row in model if _is_inside(row, asked)]
    assert found == sorted(expected, key=lambda row: (row["timeframe"], row["open_time"]))


def _key(row: dict) -> tuple:
    return tuple(row[name] for name in ("exchange", "symbol", "timeframe", "open_time"))


def _is_inside(row: dict, where: Slice) -> bool:
    return (
        (row["exchange"], row["symbol"]) == (where.market.exchange, where.market.symbol_key)
        and row["timeframe"] in where.timeframes
        and where.window.contains(row["open_time"])
    )
