"""What is gone is never read as empty: copies of snapshots, tables, the dataset itself; what is wrong says so.

Not here: requests that fail (``storage.test_bigquery_faults``).
"""

from __future__ import annotations

import pytest
from polars.testing import assert_frame_equal

from mdp.errors import ConfigError, SnapshotMissing, StorageError, StoreCorrupt
from mdp.ports import FETCHES, GAPS, OHLCV
from mdp_tests.contracts.rows import DAY, part, rows_at
from mdp_tests.support.bigquery import faults

pytestmark = pytest.mark.slow

ROWS = rows_at(OHLCV, ["2024-12-30", "2024-12-30T00:01"])
DAY_MS = 24 * 3600 * 1000


@pytest.fixture
def session():
    from mdp_tests.support.bigquery.session import FaultySession

    return FaultySession()


def take(store, name="paper", *tables):
    with store.draft_snapshot(name) as draft:
        for table in tables or (OHLCV,):
            draft.take(table, [DAY])
        draft.publish(name.encode())


def copies(client, settings, suffix):
    listed = client.list_tables(f"{settings.project}.{settings.dataset}_snapshots")
    return [item.reference for item in listed if item.table_id.startswith("draft_") and item.table_id.endswith(suffix)]


def test_a_snapshot_whose_copy_is_gone_is_damaged_and_not_empty(store, client, settings):
    store.replace(OHLCV, DAY, ROWS)
    take(store)
    (copy,) = copies(client, settings, "_ohlcv")
    client.delete_table(copy)
    with pytest.raises(StoreCorrupt, match=r"paper.*_ohlcv"):
        store.read_snapshot("paper", OHLCV, DAY)
    assert store.read_snapshot("paper", FETCHES, DAY).is_empty()  # was never taken


@pytest.mark.parametrize("step", ["query", "page"])
def test_a_query_that_google_does_not_find_is_no_empty_snapshot(store, open_another, session, step):
    store.replace(OHLCV, DAY, ROWS)
    take(store)
    reader = open_another(connect=session.connect)
    session.plan = faults.always(step, faults.refuse(404, "notFound", "Not found: Job"))
    with pytest.raises(StorageError, match=r"Not found: Job.*MDP_BIGQUERY__LOCATION"):
        reader.read_snapshot("paper", OHLCV, DAY)


def test_a_snapshot_that_is_deleted_between_lookup_and_query_is_missing(store, open_another, session):
    store.replace(OHLCV, DAY, ROWS)
    take(store)
    reader = open_another(connect=session.connect)

    def delete(request, send):
        store.delete_snapshot("paper")
        return send()

    session.plan = faults.once("query", delete)
    with pytest.raises(SnapshotMissing):
        reader.read_snapshot("paper", OHLCV, DAY)


def test_one_bad_snapshot_leaves_the_others(store, client, settings, caplog):
    store.replace(OHLCV, DAY, ROWS)
    take(store, "bad")
    bad = copies(client, settings, "_manifest")
    take(store, "good")
    client.delete_table(bad[0])
    assert store.snapshots() == {"good": b"good"}
    assert "'bad'" in caplog.text
    assert store.manifest("good") == b"good"
    with pytest.raises(StoreCorrupt, match="'bad'"):
        store.manifest("bad")
    with pytest.raises(SnapshotMissing):
        store.manifest("none")


def test_a_snapshot_that_is_deleted_while_all_are_listed_is_left_out(store, open_another, session):
    store.replace(OHLCV, DAY, ROWS)
    take(store, "a")
    take(store, "b")
    reader = open_another(connect=session.connect)
    done = []

    def delete(request, send):
        answer = send()
        if not done:
            done.append(store.delete_snapshot("a"))
        return answer

    session.plan = lambda request: delete if request.about.endswith("/tables") else None
    assert reader.snapshots() == {"b": b"b"}
    assert done


def test_what_is_asked_to_read_one_snapshot_does_not_grow_with_their_number(store, open_another, session):
    store.replace(OHLCV, DAY, ROWS)
    counts = []
    for name in ("a", "b", "c"):
        take(store, name)
        reader = open_another(connect=session.connect)
        session.log.requests.clear()
        assert reader.manifest("a") == b"a"
        assert_frame_equal(reader.read_snapshot("a", OHLCV, DAY), ROWS)
        counts.append(len(session.log.requests))
    assert counts[0] == counts[2]
    assert counts[0] <= 6
    session.log.requests.clear()
    assert list(reader.snapshots()) == ["a", "b", "c"]
    assert len(session.log.requests) == 4


@pytest.mark.parametrize(
    ("suffix", "given", "said"),
    [
        ("", {"location": "US"}, r"MDP_BIGQUERY__LOCATION.*US"),
        ("", {"default_table_expiration_ms": 60 * DAY_MS}, r"MDP_BIGQUERY__DATASET.*table.*60 days"),
        ("", {"default_partition_expiration_ms": 60 * DAY_MS}, r"MDP_BIGQUERY__DATASET.*partition.*60 days"),
        ("_snapshots", {"default_table_expiration_ms": 60 * DAY_MS}, r"MDP_BIGQUERY__DATASET.*_snapshots.*60 days"),
        ("_writing", {}, r"MDP_BIGQUERY__STAGING_DATASET.*expire"),
        ("_writing", {"location": "US", "default_table_expiration_ms": DAY_MS}, r"MDP_BIGQUERY__LOCATION.*US"),
    ],
)
def test_a_dataset_that_would_lose_rows_is_refused(store, client, settings, suffix, given, said):
    from google.cloud import bigquery

    dataset = bigquery.Dataset(f"{settings.project}.{settings.dataset}{suffix}")
    dataset.location = "eu"
    for name, value in given.items():
        setattr(dataset, name, value)
    client.create_dataset(dataset)
    with pytest.raises(ConfigError, match=said):
        store.replace(OHLCV, DAY, ROWS)
    with pytest.raises(ConfigError, match=said), store.draft_snapshot("a"):
        pass


def test_a_table_that_expires_is_refused(store, open_another, client, settings):
    store.append(GAPS, rows_at(GAPS, ["2024-12-30"]))
    from datetime import UTC, datetime, timedelta

    table = client.get_table(f"{settings.project}.{settings.dataset}.gaps")
    table.expires = datetime.now(UTC) + timedelta(days=60)
    client.update_table(table, ["expires"])
    with pytest.raises(ConfigError, match=r"gaps.*expire"):
        open_another().append(GAPS, rows_at(GAPS, ["2024-12-30"]))


def test_a_dropped_table_is_made_anew_by_the_next_write_of_the_same_process(store, client, settings):
    store.replace(OHLCV, DAY, ROWS)
    store.append(GAPS, rows_at(GAPS, ["2024-12-30"]))
    for name in ("ohlcv_1m", "gaps"):
        client.delete_table(f"{settings.project}.{settings.dataset}.{name}")
    with pytest.raises(StorageError, match=r"gaps.*somebody removed a table"):
        store.read(GAPS, DAY)
    store.replace(OHLCV, DAY, ROWS)
    store.append(GAPS, rows_at(GAPS, ["2024-12-30"]))
    assert_frame_equal(store.read(OHLCV, DAY), ROWS)
    assert store.read(GAPS, DAY).height == 1


def test_a_read_that_google_does_not_find_says_what_to_look_at(store, open_another, session):
    store.replace(OHLCV, DAY, ROWS)
    reader = open_another(connect=session.connect)
    session.plan = faults.always("query", faults.fail_job("notFound", "Not found: Table x in location EU"))
    with pytest.raises(StorageError, match=r"in location EU.*MDP_BIGQUERY__LOCATION") as raised:
        reader.read(OHLCV, DAY)
    assert not raised.value.retryable


def test_emptying_a_slice_late_changes_nothing_of_what_was_stored_later(store, open_another, client, session):
    store.replace(OHLCV, DAY, ROWS)
    other = open_another(connect=session.connect)
    sent = []

    def keep(request, send):
        sent.append(send)
        raise KeyboardInterrupt

    session.plan = faults.once("statement", keep)
    with pytest.raises(KeyboardInterrupt):
        other.replace(OHLCV, DAY, ROWS.clear())
    new = rows_at(OHLCV, ["2024-12-30T05:00"], seed=4)
    store.replace(OHLCV, DAY, new)
    sent[0]()  # what stood in the queue is carried out now
    assert_frame_equal(store.read(OHLCV, DAY), new)
    store.replace(OHLCV, part("2024-12-30", "2024-12-31"), ROWS.clear())
    assert store.read(OHLCV, DAY).is_empty()


def test_an_append_repeated_by_a_run_is_added_once(open_another, session):
    rows = rows_at(GAPS, ["2024-12-30", "2024-12-30T01:00"])
    unheard = open_another(writer="run-7-0", connect=session.connect)
    session.plan = faults.always("upload", faults.lose_answer)
    with pytest.raises(StorageError):
        unheard.append(GAPS, rows)
    session.plan = lambda request: None
    unheard.append(GAPS, rows)
    open_another(writer="run-7-0").append(GAPS, rows)
    assert open_another().read(GAPS, DAY).height == 2
    open_another(writer="run-7-1").append(GAPS, rows)
    unheard.append(GAPS, rows)  # said to have been added: this is another one
    assert open_another().read(GAPS, DAY).height == 6


@pytest.mark.parametrize("fault", [faults.lose_answer, faults.hide_answer], ids=["lost", "503"])
def test_a_snapshot_is_published_though_the_answer_to_a_change_of_its_copies_is_lost(
    store, open_another, session, fault
):
    store.replace(OHLCV, DAY, ROWS)
    session.plan = faults.once("change table", fault)
    take(open_another(connect=session.connect))
    assert session.log.count("change table") == 2
    assert store.snapshots() == {"paper": b"paper"}


def test_deleting_a_snapshot_gives_up_what_it_holds_though_a_request_fails(
    store, open_another, client, settings, session
):
    store.replace(OHLCV, DAY, ROWS)
    take(store)
    other = open_another(connect=session.connect)
    session.plan = faults.once("drop table", faults.refuse(503, "backendError"), number=1)
    other.delete_snapshot("paper")
    assert copies(client, settings, "") == []


def test_what_a_killed_publisher_kept_is_removed_once_it_is_old(store, open_another, client, settings, session):
    from datetime import timedelta

    store.replace(OHLCV, DAY, ROWS)
    take(store)
    kept = copies(client, settings, "")

    def die(request, send):
        raise KeyboardInterrupt

    killed = open_another(connect=session.connect)
    session.plan = lambda request: (
        die if session.log.count("change table") and request.step in ("make table", "drop table") else None
    )
    with pytest.raises(KeyboardInterrupt):
        take(killed, "lost")
    assert len(copies(client, settings, "")) == len(kept) + 2
    assert store.vacuum(OHLCV, timedelta(hours=1)).files == 0
    assert len(copies(client, settings, "")) == len(kept) + 2  # it may still be at work
    forsaken = store._snapshots.forsaken(OHLCV, timedelta(0))
    assert len(forsaken) == 2
    store._snapshots.drop(forsaken)
    assert copies(client, settings, "") == kept
    assert_frame_equal(store.read_snapshot("paper", OHLCV, DAY), ROWS)
