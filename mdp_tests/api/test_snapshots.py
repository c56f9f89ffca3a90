"""Snapshots over HTTP: which there are, and what one says of itself."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from mdp.domain.timeframe import Timeframe
from mdp.pipeline.snapshots import create_snapshot, delete_snapshot
from mdp.storage import open_store
from mdp_tests.support.builders import MARKET, window

pytestmark = pytest.mark.slow  # makes a snapshot


@pytest.fixture(scope="module")
def made(settings):
    store = open_store(settings)
    yield create_snapshot(
        store, "listed", [MARKET], [Timeframe.H1, Timeframe.M5], window("2024-12-30", "2024-12-31"),
        lambda: datetime.now(UTC), "for a test",
    )  # fmt: skip
    delete_snapshot(store, "listed")


def test_snapshots_are_listed_with_what_they_hold(client, made):
    (found,) = (one for one in client.get("/api/v1/snapshots").json()["snapshots"] if one["name"] == "listed")
    assert (found["id"], found["note"], found["rows"]) == (made.id, "for a test", made.rows)
    assert (found["markets"], found["timeframes"]) == (["binance:BTC-USDT"], ["5m", "1h"])
    assert (found["start"], found["end"]) == ("2024-12-30T00:00:00Z", "2024-12-31T00:00:00Z")


def test_a_snapshot_says_all_of_itself_and_is_not_sent_twice(client, made):
    answer = client.get("/api/v1/snapshots/listed")
    assert (answer.json()["id"], len(answer.json()["parts"])) == (made.id, len(made.parts))
    again = client.get("/api/v1/snapshots/listed", headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("name", ["none", "..%2Flake", "%2e%2e", "a%00b", ".hidden", "x" * 200, "a b", "%0d%0aX: y"])
def test_a_name_that_is_none_is_not_found(client, name):
    answer = client.get(f"/api/v1/snapshots/{name}")
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
    assert "/tmp" not in answer.text


def test_these_routes_take_no_parameters(client):
    for path in ("/api/v1/snapshots", "/api/v1/snapshots/none", "/api/v1/markets"):
        assert client.get(path, params={"limit": "1"}).json()["errors"][0]["parameter"] == "limit"
