"""Snapshots as BigQuery holds them: copies of one moment, which stay once they are published and not before.

Not here: what every store promises of snapshots (``contracts``).
"""

from __future__ import annotations

import pytest

from mdp.errors import SnapshotExists
from mdp.ports import FETCHES, OHLCV
from mdp_tests.contracts.rows import DAY, rows_at

pytestmark = pytest.mark.slow


def held(client, settings, prefix):
    name = f"{settings.project}.{settings.dataset}_snapshots"
    tables = [client.get_table(item.reference) for item in client.list_tables(name)]
    return {table.table_id: table.expires for table in tables if table.table_id.startswith(prefix)}


def test_what_is_taken_expires_until_it_is_published_and_goes_with_the_snapshot(store, client, settings):
    store.replace(OHLCV, DAY, rows_at(OHLCV, ["2024-12-30"]))
    with store.draft_snapshot("end-of-year") as draft:
        draft.take(OHLCV, [DAY])
        draft.take(FETCHES, [DAY])
        drafts = held(client, settings, "draft_")
        assert len(drafts) == 2
        assert all(drafts.values())
        draft.publish(b"{}")
    drafts = held(client, settings, "draft_")
    assert len(drafts) == 3
    assert not any(name.endswith(("_ohlcv", "_fetches")) and expires for name, expires in drafts.items())
    store.delete_snapshot("end-of-year")
    assert held(client, settings, "") == {}


def test_a_name_is_given_once_and_the_loser_leaves_nothing(store, open_another, client, settings):
    other = open_another()
    with store.draft_snapshot("a") as first, other.draft_snapshot("a") as second:
        first.take(OHLCV, [DAY])
        second.take(OHLCV, [DAY])
        first.publish(b"first")
        with pytest.raises(SnapshotExists):
            second.publish(b"second")
    assert store.snapshots() == {"a": b"first"}
    assert len(held(client, settings, "draft_")) == 2
