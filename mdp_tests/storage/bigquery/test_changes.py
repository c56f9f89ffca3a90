"""Any changes in any order, live rows and folding among them: BigQuery holds what memory holds."""

from __future__ import annotations

import itertools
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from mdp.ports import OHLCV
from mdp.storage import MemoryStore
from mdp_tests.contracts.rows import DAY, part, rows_at

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

MOMENTS = ["2024-12-30", "2024-12-30T00:01", "2024-12-31", "2025-01-01"]
SLICES = [DAY, part("2024-12-30T00:01", "2025-01-01"), part("2024-12-01", "2025-02-01", "1m", "1h")]
EVERYWHERE = SLICES[-1]

steps = st.tuples(
    st.sampled_from(["replace", "replace", "live", "live", "fold"]),
    st.sampled_from(SLICES),
    st.sets(st.sampled_from(MOMENTS)),
    st.sampled_from(["1m", "1h"]),
    st.integers(0, 99),
)
_numbers = itertools.count()


@given(done=st.lists(steps, min_size=2, max_size=5))
@examples(max_examples=6, suppress_health_check=list(HealthCheck))
def test_bigquery_holds_what_memory_holds(settings, done):
    from mdp.storage.bigquery.store import BigQueryStore

    central = BigQueryStore(settings.model_copy(update={"dataset": f"{settings.dataset}_{next(_numbers)}"}))
    memory = MemoryStore()
    central.append_live(OHLCV, rows_at(OHLCV, []))
    for kind, where, moments, timeframe, seed in done:
        rows = rows_at(OHLCV, sorted(moments), timeframe=timeframe, seed=seed, has_holes=False)
        if kind == "fold":
            if memory.read(OHLCV, EVERYWHERE).height:
                central.fold_live_rows(OHLCV, older_than=timedelta(0))
        elif kind == "live":
            for store in (central, memory):
                store.append_live(OHLCV, rows)
        else:
            kept = rows.filter(
                rows["open_time"].is_between(where.window.start, where.window.end, closed="left"),
                rows["timeframe"].is_in([length.value for length in where.timeframes]),
            )
            for store in (central, memory):
                store.replace(OHLCV, where, kept)
        assert_frame_equal(central.read(OHLCV, EVERYWHERE), memory.read(OHLCV, EVERYWHERE))
    for where in SLICES:
        assert_frame_equal(central.read(OHLCV, where), memory.read(OHLCV, where))
