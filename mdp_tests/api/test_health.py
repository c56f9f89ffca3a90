"""What load balancers and people are told of the service: alive, ready, feeds and budgets."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from mdp.api.app import create_app
from mdp.config.settings import load_settings
from mdp.domain.market import Market
from mdp.ports import OHLCV
from mdp_tests.api.live_service import forget, grown_stale, live_buffer, put


@pytest.fixture
def without_buffers(client):
    forget(client)
    yield client
    forget(client)


def test_it_is_alive_whatever_else_is_away(client):
    answer = client.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "alive"})
    assert client.head("/healthz").status_code == 200  # as some load balancers ask


def test_it_is_not_ready_before_there_is_any_buffer_and_ready_with_one_also_a_stale_one(without_buffers):
    answer = without_buffers.get("/readyz")
    assert (answer.status_code, answer.json()["status"]) == (503, "not ready")
    assert "no buffer was read yet" in answer.json()["reasons"][0]
    assert answer.headers["retry-after"]
    for buffer in (live_buffer(), grown_stale(live_buffer())):
        put(without_buffers, buffer)
        assert without_buffers.get("/readyz").json() == {"status": "ready", "reasons": []}


def test_it_is_not_ready_while_storage_cannot_be_read_and_names_no_path_of_this_machine(tmp_path):
    settings = load_settings(data_dir=tmp_path, simulated=True, mode="backtest", api={"access_log": "off"})
    table = settings.lake_dir / OHLCV.name
    table.mkdir(parents=True)
    (table / "_delta_log").write_text("not a folder")
    with TestClient(create_app(settings), base_url="http://127.0.0.1:8000", client=("127.0.0.1", 1)) as asking:
        answer = asking.get("/readyz")
    assert (answer.status_code, len(answer.json()["reasons"])) == (503, 1)
    assert "storage cannot be read" in answer.json()["reasons"][0]
    assert str(tmp_path) not in answer.text


def test_of_feeds_without_a_bus_it_says_that_the_bus_is_away(client):
    for path in ("/api/v1/live", "/api/v1/budgets"):
        answer = client.get(path)
        assert answer.status_code in (200, 503)
        if answer.status_code == 503:
            assert (answer.json()["retryable"], answer.headers["retry-after"]) == (True, "5")


def test_one_buffer_of_any_market_is_enough_for_it_to_be_ready(without_buffers):
    put(without_buffers, live_buffer(market=Market.parse("deribit:BTC-DVOL")))
    assert without_buffers.get("/readyz").status_code == 200
