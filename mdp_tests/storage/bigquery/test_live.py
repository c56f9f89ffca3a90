"""Live rows: once each whatever answer is lost, hidden by what replaces them, folded without a reader noticing."""

from __future__ import annotations

from datetime import timedelta

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from mdp.errors import ConfigError, StoreUnavailable
from mdp.ports import DVOL, OHLCV
from mdp_tests.contracts.rows import DAY, OTHER_MARKET, everything, part, rows_at

pytestmark = pytest.mark.slow

STEPS = ("create_write_stream", "append_rows", "finalize_write_stream", "batch_commit_write_streams")


class Losing:
    """Google's client, which loses the answers of some steps: the work is done, and nobody hears of it."""

    def __init__(self, client, steps, times):
        self._client, self._left = client, dict.fromkeys(steps, times)

    def __getattr__(self, name):
        real = getattr(self._client, name)

        def call(*args, **kwargs):
            from google.api_core.exceptions import ServiceUnavailable

            answer = real(*args, **kwargs)
            answer = iter(list(answer)) if name == "append_rows" else answer
            if self._left.get(name, 0):
                self._left[name] -= 1
                raise ServiceUnavailable("the answer got lost")
            return answer

        return call if name in STEPS else real


def losing(*steps, times=1):
    from mdp.storage.bigquery.connecting import connect_writing

    return lambda settings: Losing(connect_writing(settings), steps, times)


@pytest.mark.parametrize("step", STEPS)
def test_a_batch_is_written_once_though_an_answer_is_lost(open_another, client, settings, step):
    store = open_another(connect_writing=losing(step))
    rows = rows_at(OHLCV, ["2024-12-30", "2024-12-30T00:01"])
    store.append_live(OHLCV, rows)
    assert_frame_equal(everything(store), rows)
    counted = client.query(f"SELECT COUNT(*) FROM `{settings.dataset}.ohlcv_live`").result()
    assert next(iter(counted))[0] == 2


@pytest.mark.parametrize("step", STEPS)
def test_a_batch_that_stays_unanswered_fails_as_something_to_repeat_and_repeating_it_changes_nothing(
    open_another, step
):
    rows = rows_at(OHLCV, ["2024-12-30", "2024-12-30T00:01"])
    with pytest.raises(StoreUnavailable, match="live rows of ohlcv"):
        open_another(connect_writing=losing(step, times=3)).append_live(OHLCV, rows)
    store = open_another()
    assert everything(store).height in (0, 2)  # all or none
    store.append_live(OHLCV, rows)
    assert_frame_equal(everything(store), rows)


RPCS = ("CreateWriteStream", "AppendRows", "FinalizeWriteStream", "BatchCommitWriteStreams")


@pytest.mark.parametrize("rpc", RPCS)
def test_a_batch_is_written_once_though_the_connection_breaks_before_the_answer(open_another, client, settings, rpc):
    from mdp_tests.support.bigquery.lost_rpc import losing

    lost = []
    store = open_another(connect_writing=losing(rpc, lost))
    rows = rows_at(OHLCV, ["2024-12-30", "2024-12-30T00:01"])
    store.append_live(OHLCV, rows)
    assert len(lost) == 1
    assert_frame_equal(everything(store), rows)
    assert _live_count(client, settings) == 2


def test_an_emulator_without_the_write_api_says_which_setting_is_missing(settings):
    from mdp.storage.bigquery.store import BigQueryStore

    store = BigQueryStore(settings.model_copy(update={"write_endpoint": None}))
    with pytest.raises(ConfigError, match="MDP_BIGQUERY__WRITE_ENDPOINT"):
        store.append_live(OHLCV, rows_at(OHLCV, ["2024-12-30"]))


def test_a_replacement_hides_the_live_rows_of_its_slice_and_no_others(store):
    inside, outside = ["2024-12-30", "2024-12-30T23:59"], ["2024-12-29T23:59", "2024-12-31"]
    live = rows_at(OHLCV, sorted(inside + outside))
    others = pl.concat(
        [rows_at(OHLCV, inside, timeframe="5m"), rows_at(OHLCV, inside, market=OTHER_MARKET)]
    )  # fmt: skip
    store.append_live(OHLCV, pl.concat([live, others]))
    store.append_live(DVOL, rows_at(DVOL, inside))
    new = rows_at(OHLCV, ["2024-12-30T12:00"], seed=1)
    store.replace(OHLCV, DAY, new)
    assert_frame_equal(store.read(OHLCV, DAY), new)
    assert store.read(OHLCV, part("2024-12-01", "2025-02-01")).height == 3
    assert everything(store).height == 3 + others.height
    assert store.read(DVOL, DAY).height == 2
    store.replace(OHLCV, DAY, rows_at(OHLCV, []))
    assert store.read(OHLCV, DAY).is_empty()


def test_a_live_row_written_after_a_replacement_is_read_again(store):
    first, second = rows_at(OHLCV, ["2024-12-30"], seed=1), rows_at(OHLCV, ["2024-12-30"], seed=2)
    store.append_live(OHLCV, first)
    store.replace(OHLCV, DAY, rows_at(OHLCV, ["2024-12-30"], seed=3))
    store.append_live(OHLCV, second)
    assert_frame_equal(store.read(OHLCV, DAY), second)


def test_a_large_batch_is_written_in_several_requests_and_seen_at_once(store, client, settings):
    start = DAY.window.start
    rows = rows_at(OHLCV, [start + timedelta(minutes=minute) for minute in range(20_100)], has_holes=False)
    store.append_live(OHLCV, rows)
    assert_frame_equal(everything(store), rows)


def test_folding_changes_nothing_that_is_read_and_empties_the_live_tables(store, client, settings):
    stored = rows_at(OHLCV, ["2024-12-30", "2024-12-30T00:01", "2024-12-31"])
    store.replace(OHLCV, part("2024-12-30", "2025-01-01"), stored)
    store.append_live(OHLCV, rows_at(OHLCV, ["2024-12-31"], seed=9))
    store.replace(OHLCV, part("2024-12-31", "2025-01-01"), stored[2:])  # hides the row above
    store.append_live(OHLCV, rows_at(OHLCV, ["2024-12-30T00:01", "2024-12-30T00:02"], seed=1))
    store.append_live(OHLCV, rows_at(OHLCV, ["2024-12-30T00:02"], seed=2))
    store.append_live(OHLCV, rows_at(OHLCV, ["2024-12-30"], timeframe="1h", seed=3))
    before = everything(store)
    store.compact(OHLCV)
    assert _live_count(client, settings) == 5  # too young to be touched
    store.fold_live_rows(OHLCV, older_than=timedelta(0))
    assert _live_count(client, settings) == 0
    assert_frame_equal(everything(store), before)
    store.replace(OHLCV, DAY, rows_at(OHLCV, []))
    assert store.read(OHLCV, DAY).is_empty()
    store.append_live(OHLCV, stored[:1])
    assert_frame_equal(store.read(OHLCV, DAY), stored[:1])


def _live_count(client, settings):
    counted = client.query(f"SELECT COUNT(*) FROM `{settings.dataset}.ohlcv_live`").result()
    return next(iter(counted))[0]
