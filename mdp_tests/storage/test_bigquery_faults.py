"""Requests to BigQuery that go wrong: what passes is tried again and done once, what lasts fails at once with advice.

Real requests to an emulator, spoiled on the way. Not here: what a store keeps (``contracts``), several writers at once
(``test_bigquery_races``).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import polars as pl
import pytest
import stamina
from polars.testing import assert_frame_equal

from mdp.config.sections import BigQuerySettings
from mdp.errors import ConfigError, StorageError, StoreUnavailable, WriteConflict
from mdp.ports import FETCHES, OHLCV, REJECTED_OHLCV
from mdp_tests.contracts.rows import DAY, part, rows_at
from mdp_tests.support.bigquery import faults
from mdp_tests.support.bigquery.emulator import RunningEmulator

if TYPE_CHECKING:  # Google's libraries cost a second, which the fast tests, collected beside these, do not have
    from mdp.storage.bigquery.store import BigQueryStore
    from mdp_tests.support.bigquery.session import FaultySession

pytestmark = pytest.mark.slow

ATTEMPTS = 4
NEIGHBOUR = part("2024-12-31", "2025-01-01")
OLD = rows_at(OHLCV, ["2024-12-30T01:00", "2024-12-30T02:00"], seed=1)
BESIDE = rows_at(OHLCV, ["2024-12-31T01:00"], seed=2)
NEW = rows_at(OHLCV, ["2024-12-30T02:00", "2024-12-30T03:00", "2024-12-30T04:00"], seed=3)

PASSING = {
    "403 rateLimitExceeded": faults.refuse(403, "rateLimitExceeded"),
    "403 quotaExceeded": faults.refuse(403, "quotaExceeded"),
    "429": faults.refuse(429, "rateLimitExceeded"),
    **{str(code): faults.refuse(code, "backendError") for code in (500, 502, 503, 504)},
    "reset": faults.reset,
    "lost answer": faults.lose_answer,
    "503 in place of the answer": faults.hide_answer,
    "answer too late": faults.answer_too_late,
    "answer cut short": faults.cut_short,
    "slow answer": faults.answer_slowly(0.2),
}
LASTING = {
    "400": (faults.refuse(400, "invalid", "Bad int64 value"), StorageError, "Bad int64 value"),
    "401": (faults.refuse(401, "authError"), ConfigError, "gcloud auth application-default login"),
    "403 accessDenied": (faults.refuse(403, "accessDenied"), ConfigError, "roles/bigquery.dataEditor"),
    "403 billingNotEnabled": (faults.refuse(403, "billingNotEnabled"), ConfigError, "project"),
    "404": (faults.refuse(404, "notFound"), StorageError, "MDP_BIGQUERY__DATASET"),
}


@pytest.fixture(autouse=True)
def _without_waiting() -> Iterator[None]:
    with stamina.set_testing(True, attempts=ATTEMPTS):
        yield


def open_store(settings: BigQuerySettings, session: FaultySession | None = None) -> BigQueryStore:
    from mdp.storage.bigquery.store import BigQueryStore

    return BigQueryStore(settings) if session is None else BigQueryStore(settings, connect=session.connect)


def new_session(plan: faults.Plan | None = None) -> FaultySession:
    from mdp_tests.support.bigquery.session import FaultySession

    return FaultySession(plan)


def settings_of(emulator: RunningEmulator, dataset: str) -> BigQuerySettings:
    return BigQuerySettings(
        project=emulator.project,
        dataset=dataset,
        api_endpoint=emulator.api_endpoint,
        write_endpoint=emulator.write_endpoint,
    )


@pytest.fixture
def settings(bigquery_emulator, bigquery_dataset):
    return settings_of(bigquery_emulator, bigquery_dataset)


@pytest.fixture(scope="module")
def shared(bigquery_emulator):
    """A store whose tables are made, and the session under it; making them takes longer than a test."""
    session, settings = new_session(), settings_of(bigquery_emulator, "market_data_faults")
    return open_store(settings, session), session, settings


@pytest.fixture
def session(shared):
    return shared[1]


@pytest.fixture
def store(shared):
    """A store that holds a slice and one beside it, and whose requests begin to be counted now."""
    store, session, _ = shared
    session.plan = lambda request: None
    store.replace(OHLCV, DAY, OLD)
    store.replace(OHLCV, NEIGHBOUR, BESIDE)
    session.log.requests.clear()
    return store


def holds(store: BigQueryStore, session: FaultySession, day: pl.DataFrame) -> None:
    """Check that a slice has exactly some rows and its neighbour its own, without faults."""
    session.plan = lambda request: None
    assert_frame_equal(store.read(OHLCV, part("2024-12-01", "2025-02-01")), pl.concat([day, BESIDE]))


def staged(store: BigQueryStore) -> list[str]:
    client, datasets = store._jobs.client, store.datasets
    return [table.table_id for table in client.list_tables(f"{datasets.project}.{datasets.staging}")]


FEW = ("403 rateLimitExceeded", "503", "reset", "lost answer", "answer cut short")
CASES = [(step, name) for step in ("upload", "statement") for name in PASSING]
CASES += [(step, name) for step in ("query", "drop table") for name in FEW]


@pytest.mark.parametrize(("step", "name"), CASES)
def test_a_fault_that_passes_at_any_step_of_a_replacement_leaves_one_copy(store, session, step, name):
    fault = PASSING[name]
    store.replace(OHLCV, DAY, NEW)
    plain = session.log.count(step)
    session.log.requests.clear()
    store.replace(OHLCV, DAY, OLD)
    session.log.requests.clear()
    session.plan = faults.once(step, fault)
    store.replace(OHLCV, DAY, NEW)
    again = 0 if fault is PASSING["slow answer"] else 1
    assert session.log.count(step) == plain + again
    assert staged(store) == []
    holds(store, session, NEW)


@pytest.mark.parametrize("step", ["table", "query", "page"])
@pytest.mark.parametrize("fault", [PASSING[name] for name in FEW], ids=FEW)
def test_a_fault_that_passes_at_any_step_of_a_read_changes_nothing_of_what_is_read(shared, store, step, fault):
    session = new_session(faults.once(step, fault))
    reader = open_store(shared[2], session)
    assert_frame_equal(reader.read(OHLCV, DAY), OLD)


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
def test_a_fault_that_passes_while_rows_are_added_adds_them_once(store, session, fault):
    where, rows = part("2024-12-01", "2025-02-01"), rows_at(FETCHES, ["2024-12-30", "2024-12-31"], seed=4)
    store.replace(FETCHES, where, rows.head(1))
    session.log.requests.clear()
    session.plan = faults.once("upload", fault)
    store.append(FETCHES, rows.tail(1))
    assert session.log.count("upload") == (1 if fault is PASSING["slow answer"] else 2)
    session.plan = lambda request: None
    assert_frame_equal(store.read(FETCHES, where), rows)


@pytest.mark.parametrize("fault", [PASSING[name] for name in FEW], ids=FEW)
def test_a_fault_that_passes_while_rows_of_several_timeframes_are_added_adds_them_once(store, session, fault):
    where = part("2025-02-01", "2025-02-02", "1m", "1h")
    rows = pl.concat([rows_at(OHLCV, ["2025-02-01"]), rows_at(OHLCV, ["2025-02-01"], timeframe="1h")])
    store.replace(OHLCV, where, rows.clear())
    session.log.requests.clear()
    session.plan = faults.once("statement", fault)
    store.append(OHLCV, rows)
    session.plan = lambda request: None
    assert_frame_equal(store.read(OHLCV, where), rows.sort("timeframe"))


@pytest.mark.parametrize("step", ["make dataset", "dataset", "make table", "table"])
@pytest.mark.parametrize("fault", [faults.lose_answer, faults.reset, PASSING["429"]], ids=["lost", "reset", "429"])
def test_a_fault_that_passes_while_the_tables_are_made_makes_them_once(settings, step, fault):
    session = new_session(faults.once(step, fault))
    store = open_store(settings, session)
    store.replace(OHLCV, DAY, NEW)
    assert_frame_equal(store.read(OHLCV, DAY), NEW)


@pytest.mark.parametrize("step", ["upload", "statement"])
@pytest.mark.parametrize(("fault", "kind", "advice"), LASTING.values(), ids=LASTING)
def test_a_fault_that_lasts_is_not_tried_again_and_says_what_to_do(store, session, step, fault, kind, advice):
    session.plan = faults.always(step, fault)
    with pytest.raises(kind, match=advice) as raised:
        store.replace(OHLCV, DAY, NEW)
    assert not raised.value.retryable
    # a table that is not found is looked at once more, and made where it is missing
    assert session.log.count(step) == (2 if fault is LASTING["404"][0] else 1)
    assert staged(store) == []
    holds(store, session, OLD)


@pytest.mark.parametrize(("fault", "kind", "advice"), LASTING.values(), ids=LASTING)
def test_a_read_that_cannot_succeed_fails_at_once(store, session, fault, kind, advice):
    session.plan = faults.always("query", fault)
    with pytest.raises(kind, match=advice) as raised:
        store.read(OHLCV, DAY)
    assert not raised.value.retryable
    assert session.log.count("query") == 1


@pytest.mark.parametrize("step", ["upload", "statement"])
@pytest.mark.parametrize("fault", [PASSING["403 rateLimitExceeded"], faults.reset], ids=["403", "reset"])
def test_a_fault_that_does_not_pass_ends_after_the_attempts_and_leaves_the_old_slice(store, session, step, fault):
    session.plan = faults.always(step, fault)
    with pytest.raises(StoreUnavailable, match="mdp-") as raised:
        store.replace(OHLCV, DAY, NEW)
    assert raised.value.retryable
    assert session.log.count(step) == ATTEMPTS
    assert staged(store) == []
    holds(store, session, OLD)


def test_a_request_is_repeated_for_as_long_as_the_patience_lasts(shared, store, session):
    settings = shared[2]
    with stamina.set_testing(False):
        session.plan = faults.always("upload", PASSING["503"])
        hasty = open_store(settings.model_copy(update={"patience_s": 1e-9}), session)
        with pytest.raises(StoreUnavailable):
            hasty.replace(OHLCV, DAY, NEW)
        assert session.log.count("upload") == 1
        session.log.requests.clear()
        session.plan = lambda request: PASSING["503"] if request.step == "upload" and request.number < 2 else None
        store.replace(OHLCV, DAY, NEW)  # after three seconds of waiting
    holds(store, session, NEW)
    assert BigQuerySettings().patience_s == 300


def test_no_request_waits_longer_than_one_may(shared, store):
    from mdp_tests.support.bigquery.session import FaultySession

    class Noting(FaultySession):
        waits: list[float]

        def request(self, method, url, data=None, headers=None, **named):
            self.waits.append(named["timeout"])
            return super().request(method, url, data=data, headers=headers, **named)

    session = Noting()
    session.waits = []
    reader = open_store(shared[2], session)
    assert_frame_equal(reader.read(OHLCV, DAY), OLD)
    reader.replace(OHLCV, DAY, NEW)
    # Google's client gives the request that waits for a query's result two minutes at least
    assert max(session.waits) <= 2 * shared[2].timeout_s


def test_a_run_that_is_cut_off_after_the_rows_are_staged_leaves_the_old_slice_and_a_later_run_replaces_it(
    shared, store, session
):
    class Killed(BaseException):
        """The process ends here."""

    def die(request, send):
        raise Killed

    session.plan = lambda request: die if request.step in ("statement", "drop table") else None
    with pytest.raises(Killed):
        store.replace(OHLCV, DAY, NEW)
    holds(store, session, OLD)
    open_store(shared[2]).replace(OHLCV, DAY, NEW)
    holds(store, session, NEW)
    assert staged(store), "what the one that was cut off had staged is left to expire"
    for name in staged(store):
        store._jobs.client.delete_table(store.datasets.staged(name))


CONFLICT = faults.fail_job("invalidQuery", "Could not serialize access to table t due to concurrent update")
JOB_FAULTS: dict[str, tuple[faults.Fault, type[StorageError]]] = {
    "conflict": (CONFLICT, WriteConflict),
    "backendError": (faults.fail_job("backendError", "try again"), StoreUnavailable),
    "rateLimitExceeded": (faults.fail_job("rateLimitExceeded", "too many"), StoreUnavailable),
}


@pytest.mark.parametrize(("fault", "kind"), JOB_FAULTS.values(), ids=JOB_FAULTS)
def test_a_job_that_failed_for_a_reason_that_passes_is_another_job_the_next_time(store, session, fault, kind):
    session.plan = faults.once("statement", fault)
    store.replace(OHLCV, DAY, NEW)
    first, second = [one.about for one in session.log.requests if one.step == "statement"]
    assert first != second
    holds(store, session, NEW)


@pytest.mark.parametrize(("fault", "kind"), JOB_FAULTS.values(), ids=JOB_FAULTS)
def test_a_job_that_keeps_failing_leaves_the_old_slice_and_can_be_tried_later(store, session, fault, kind):
    session.plan = faults.always("statement", fault)
    with pytest.raises(kind) as raised:
        store.replace(OHLCV, DAY, NEW)
    assert raised.value.retryable
    holds(store, session, OLD)


def test_a_job_that_failed_for_good_is_run_once(store, session):
    session.plan = faults.always("statement", faults.fail_job("invalidQuery", "Division by zero"))
    with pytest.raises(StorageError, match="Division by zero") as raised:
        store.replace(OHLCV, DAY, NEW)
    assert not raised.value.retryable
    assert session.log.count("statement") == 1
    holds(store, session, OLD)


SPOILED = {
    "every answer is lost once": faults.lose_answer,
    "every answer is replaced by 503 once": faults.hide_answer,
    "every request is reset once": faults.reset,
}


@pytest.mark.parametrize("fault", SPOILED.values(), ids=SPOILED)
def test_many_slices_are_exactly_right_when(settings, fault):
    session = new_session(faults.each_first(fault))
    store = open_store(settings, session)
    expected, added = {}, []
    for turn in range(16):
        day = part(f"2024-11-{turn % 8 + 1:02d}", f"2024-11-{turn % 8 + 2:02d}")
        rows = rows_at(OHLCV, [day.window.start] if turn % 5 else [], seed=turn)
        store.replace(OHLCV, day, rows)
        expected[turn % 8] = rows
        added.append(rows_at(REJECTED_OHLCV, ["2024-11-01"], seed=turn))
        store.append(REJECTED_OHLCV, added[-1])
        month = part("2024-11-01", "2024-12-01")
        assert_frame_equal(store.read(OHLCV, month), pl.concat(expected[number] for number in sorted(expected)))
    calm = open_store(settings)
    assert_frame_equal(calm.read(OHLCV, month), pl.concat(expected.values()).sort("open_time"))
    kept = calm.read(REJECTED_OHLCV, month)
    assert_frame_equal(kept, pl.concat(added), check_row_order=False)
