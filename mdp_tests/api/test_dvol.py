"""The volatility index over HTTP, by its own route and as the market it is."""

from __future__ import annotations

from datetime import timedelta

import polars as pl
import pytest

from mdp.domain.candles import DVOL_SCHEMA
from mdp.domain.timeframe import Timeframe
from mdp.ports import DVOL as TABLE
from mdp.ports import Slice
from mdp.storage import open_store
from mdp_tests.support.builders import DVOL, NOW, at, window

WINDOW = window("2024-12-30T10:00", "2024-12-30T12:00")
ASKED = {"start": "2024-12-30T10:00Z", "end": "2024-12-30T12:00Z"}

pytestmark = pytest.mark.slow  # writes to a lake of its own


@pytest.fixture(scope="module", autouse=True)
def stored(settings):
    rows = [
        ("deribit", "BTC-DVOL", "1m", at("2024-12-30T10:00") + timedelta(minutes=n), 50.25 + n / 8,
         at("2024-12-30T09:00") + timedelta(hours=n // 60), n % 60, "rest", NOW)
        for n in range(120) if n != 30
    ]  # fmt: skip
    store, part = open_store(settings), Slice(DVOL, (Timeframe.M1,), WINDOW)
    store.replace(TABLE, part, pl.DataFrame(rows, schema=DVOL_SCHEMA, orient="row"))
    yield
    store.replace(TABLE, part, DVOL_SCHEMA.to_frame())


def test_minutes_of_the_index_are_given_as_stored(client):
    found = client.get("/api/v1/dvol/BTC", params=ASKED).json()
    assert found["columns"] == ["open_time", "dvol", "hour_open_time", "age_minutes", "source", "ingested_at"]
    assert len(found["rows"]) == 119
    assert found["rows"][1] == [
        "2024-12-30T10:01:00Z", 50.375, "2024-12-30T09:00:00Z", 1, "rest", "2026-01-02T03:04:05Z",
    ]  # fmt: skip


def test_both_ways_of_asking_give_the_same(client):
    market = "/api/v1/market-data/deribit/BTC-DVOL/history"
    own = client.get("/api/v1/dvol/BTC", params=ASKED)
    for timeframe in ({}, {"timeframe": "1m"}):
        assert client.get(market, params={**ASKED, **timeframe}).content == own.content
    refused = client.get(market, params={**ASKED, "timeframe": "1h"})
    assert refused.json()["errors"][0]["allowed"] == ["1m"]


def test_pages_of_the_index_join(client):
    first = client.get("/api/v1/dvol/BTC", params={**ASKED, "limit": "100"}).json()
    second = client.get("/api/v1/dvol/BTC", params={**ASKED, "cursor": first["next_cursor"]}).json()
    assert first["rows"] + second["rows"] == client.get("/api/v1/dvol/BTC", params=ASKED).json()["rows"]


def test_a_currency_without_an_index_is_not_found(client):
    for currency in ("SOL", "btc", "%00", "BTC-DVOL"):
        answer = client.get(f"/api/v1/dvol/{currency}", params=ASKED)
        assert (answer.status_code, answer.json()["errors"][0]["allowed"]) == (404, ["BTC", "ETH"])
    assert client.get("/api/v1/dvol/BTC", params={**ASKED, "timeframe": "1m"}).status_code == 400
