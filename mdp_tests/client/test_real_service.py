"""The client and the real service: what one says the other understands, and a restart in the middle loses nothing."""

from __future__ import annotations

import asyncio

import polars as pl
import pytest

from mdp.client import AsyncClient, Client, NotFound, WrongParameter
from mdp.client.quality import day_schema, gap_schema
from mdp.domain.candles import CANDLE_SCHEMA, DVOL_SCHEMA, REVISION_SCHEMA
from mdp.domain.timeframe import Timeframe
from mdp_tests.client.serving import HOLE, SNAPSHOT, START, WHOLE, Service, build_lake, minutes
from mdp_tests.support.builders import at

pytestmark = pytest.mark.slow

BTC = "binance:BTC-USDT"
DAYS = (WHOLE.start, WHOLE.end)


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    folder = tmp_path_factory.mktemp("client")
    build_lake(folder)
    with Service(folder) as service:
        yield service.url


@pytest.fixture
def client(url):
    with Client(url) as found:
        yield found


def test_history_over_several_pages_is_what_is_stored(client):
    found = client.history(BTC, "1m", *DAYS)
    assert found.equals(minutes())
    pages = [page.height for page in client.history_pages(BTC, "1m", *DAYS)]
    assert pages == [1000, 1000, 1000, 1000, 280]
    assert [page.height for page in client.history_pages(BTC, "1m", *DAYS, page_rows=400)] == [400] * 10 + [280]


def test_the_event_loop_gets_the_same(url):
    async def ask():
        async with AsyncClient(url) as client:
            return await asyncio.gather(*(client.history(BTC, "1m", *DAYS) for _ in range(2)))

    assert all(found.equals(minutes()) for found in asyncio.run(ask()))


def test_a_snapshot_and_the_past_are_read_by_name_and_time(client):
    [summary] = client.snapshots()
    manifest = client.snapshot(SNAPSHOT)
    assert (summary.name, summary.id, summary.start, summary.end) == (SNAPSHOT, manifest.id, *DAYS)
    assert summary.rows == sum(part.rows for part in manifest.parts)
    pinned = f"{SNAPSHOT}@{manifest.id[:12]}"
    assert client.history(BTC, "1m", *DAYS, snapshot=pinned).equals(minutes())
    assert client.history(BTC, "1m", DAYS[0], snapshot=SNAPSHOT).equals(minutes()), "to where the snapshot ends"
    assert client.history(BTC, "1m", *DAYS, as_of=at("2025-06-01")).schema == CANDLE_SCHEMA
    with pytest.raises(NotFound, match="q2"):
        client.history(BTC, "1m", *DAYS, snapshot="q2")
    with pytest.raises(WrongParameter, match="snapshot"):
        client.history(BTC, "1m", *DAYS, snapshot=f"{SNAPSHOT}@{'0' * 12}")


def test_what_is_known_about_history_has_its_schemas(client):
    gaps = client.gaps(BTC, *DAYS)
    assert gaps.schema == gap_schema()
    assert gaps.select("start", "end", "cause").rows() == [(HOLE.start, HOLE.end, "exchange_outage")]
    revisions = client.revisions(BTC)
    assert (revisions.schema, revisions["old_close"].to_list()) == (REVISION_SCHEMA, [99.5])
    days = client.coverage(BTC, *DAYS)
    assert (days.schema, days["present"].to_list()) == (day_schema(), [1400, 1440, 1440])
    whole = client.coverage(None, *DAYS)
    assert whole.filter(pl.col("market") == BTC).equals(days)
    [btc] = [market for market in client.markets() if market.market == BTC]
    assert (btc.is_volatility_index, btc.stored.start, btc.stored.end) == (False, *DAYS)


def test_the_index_is_read_by_the_minute(client):
    found = client.dvol("BTC", START, at("2024-12-30T02:00"))
    assert (found.schema, found.height, found["dvol"].unique().to_list()) == (DVOL_SCHEMA, 60, [50.0])


def test_wrong_questions_are_answered_with_what_there_is(client):
    with pytest.raises(NotFound) as caught:
        client.history("binance:DOGE-USDT", "1m", *DAYS)
    assert BTC in caught.value.errors[0].allowed
    with pytest.raises(WrongParameter) as caught:
        client.history(BTC, "1m", "1990-01-01", "2024-12-31")
    assert caught.value.errors[0].parameter in ("start", "end")
    assert not caught.value.retryable


def test_columns_are_chosen_and_timeframes_read(client):
    found = client.history(BTC, Timeframe.H1, *DAYS, columns=["open_time", "close", "minutes"])
    assert (found.columns, found.height) == (["open_time", "close", "minutes"], 72)
    assert found.filter(pl.col("minutes") < 60)["open_time"].to_list() == [HOLE.start]
