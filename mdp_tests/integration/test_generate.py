"""Missing days collected through the service: real webserver, daemon, workers and simulator, several services.

Everything runs as under ``mdp up``, in a data directory of its own.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from datetime import date
from threading import Event

import msgspec
import pytest
from starlette.testclient import TestClient

from mdp.api.app import create_app
from mdp.bus import open_live_bus
from mdp.bus.topics import GenerationMessage
from mdp.config.settings import load_settings
from mdp.domain.interval import Interval
from mdp.domain.market import Market
from mdp.pipeline.coverage import coverage_by_day, shortfalls
from mdp.storage import open_store
from mdp_tests.integration.test_live_run import running_house

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

MARKETS = ("binance:BTC-USDT", "binance:ETH-USDT", "bybit:SOL-USDT", "okx:BTC-USDT", "deribit:BTC-DVOL")
GENERATE = "/api/v1/market-data/{}/generate"
BACKFILLS = """{ partitionBackfillsOrError { ... on PartitionBackfills { results {
  id status partitionNames tags { key value } runs(limit: 50) { status tags { key value } } } } } }"""


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    with running_house(tmp_path_factory.mktemp("generate"), speed=1, markets=MARKETS) as running:
        yield running


def settings_of(house, **api):
    return load_settings(
        data_dir=house.workplace.data_dir, simulated=True, markets=MARKETS, api={"dagster_url": house.ui_url, **api}
    )


@contextmanager
def service(house, **api):
    app = create_app(settings_of(house, **api))
    with TestClient(app, base_url="http://127.0.0.1:8000", client=("127.0.0.1", 50_000)) as client:
        yield client


def backfills(house):
    return house.ask(BACKFILLS)["partitionBackfillsOrError"]["results"]


def wait_for_daemon(house, client, market, window):
    """Ask until the daemon is there; return the first answer that is not 503."""
    return house.wait("a daemon", lambda: said if (said := ask(client, market, window)).status_code != 503 else None)[0]


def ask(client, market, window):
    path = GENERATE.format(market.replace(":", "/"))
    return client.post(path, params={"start": str(window[0]), "end": str(window[1])})


def wait_for_end(house, client, name):
    def ended():
        found = client.get(f"/api/v1/generations/{name}").json()
        return found if found["state"] not in ("queued", "running") else None

    return house.wait("an end", ended, 120)[0]


def stored(house, market, window):
    store, whole = (
        open_store(settings_of(house)),
        Interval.of_days(window[0], date.fromordinal(window[1].toordinal() - 1)),
    )
    one = Market.parse(market)
    return coverage_by_day(store, one, whole), shortfalls(store, one, whole)


@contextmanager
def listening(house):
    """Collect what is said of generations, on a bus that runs only as long as this."""
    heard, is_ready, is_done = [], Event(), Event()

    async def listen():
        async with open_live_bus(settings_of(house)) as bus:
            subscription = bus.subscribe("generation.*")
            await subscription.ready()
            is_ready.set()
            hearing = asyncio.create_task(hear(subscription))
            while not is_done.is_set():
                await asyncio.sleep(0.1)
            hearing.cancel()
            with suppress(asyncio.CancelledError):
                await hearing

    async def hear(subscription):
        async for message in subscription:
            heard.append(msgspec.json.decode(message.body, type=GenerationMessage))
            assert message.topic == f"generation.{heard[-1].job}"

    with ThreadPoolExecutor(1) as pool:
        listener = pool.submit(asyncio.run, listen())
        assert is_ready.wait(30)
        try:
            yield heard
        finally:
            is_done.set()
        listener.result()


def test_asked_by_two_services_at_once_exactly_the_missing_days_are_collected_once(house):
    market, whole = "binance:BTC-USDT", (date(2024, 12, 28), date(2025, 1, 1))
    before = house.workplace.run("backfill", "--market", market, "--start", "2024-12-29", "--end", "2024-12-30")
    assert before.returncode == 0, before.stderr
    with ExitStack() as opened:
        one, other = (opened.enter_context(service(house)) for _ in range(2))
        index = wait_for_daemon(house, one, "deribit:BTC-DVOL", (date(2024, 12, 30), date(2024, 12, 31))).json()
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda client: ask(client, market, whole), [one, other, one, other]))
        assert [answer.status_code for answer in answers] == [202] * 4
        (name,) = {answer.json()["id"] for answer in answers}
        assert {answer.headers["location"] for answer in answers} == {f"/api/v1/generations/{name}"}
        assert [sorted(found["partitionNames"]) for found in backfills(house)] == [
            [f"{day}|{market}" for day in ("2024-12-28", "2024-12-30", "2024-12-31")],
            ["BTC|2024-12-30"],
        ]
    with listening(house) as heard, service(house) as restarted:
        found = wait_for_end(house, restarted, name)
        assert (found["state"], found["days"], found["days_done"], found["missing"]) == ("succeeded", 3, 3, [])
        assert wait_for_end(house, restarted, index["id"])["state"] == "succeeded"
        again = ask(restarted, market, whole)
        assert (again.status_code, again.json()["state"], again.json()["days"]) == (200, "succeeded", 0)
        listed = restarted.get("/api/v1/generations").json()["generations"]
        assert [one["id"] for one in listed] == [name, index["id"]]
        house.wait("the end on the bus", lambda: [one for one in heard if one.job == name and one.state == "succeeded"])
    told = [one for one in heard if one.job == name]
    assert told[0].state in ("queued", "running")
    assert [one.state for one in told].count("succeeded") == 1, "an end is told once"
    coverage, left = stored(house, market, whole)
    assert not left
    assert all(day.present == day.expected for day in coverage.values())
    for backfill in backfills(house):
        for run in backfill["runs"]:
            tags = {tag["key"]: tag["value"] for tag in run["tags"]}
            assert tags["mdp/place"] == "work"
            assert tags["mdp/exchange"] in ("binance", "deribit")


def test_with_dagster_away_what_to_start_is_said_and_what_is_whole_needs_none(house):
    with service(house, dagster_url="http://127.0.0.1:9") as alone:
        told = ask(alone, "okx:BTC-USDT", (date(2024, 12, 28), date(2024, 12, 29)))
        assert (told.status_code, told.json()["retryable"]) == (503, True)
        assert "mdp up" in told.json()["detail"]
        whole = ask(alone, "binance:BTC-USDT", (date(2024, 12, 28), date(2025, 1, 1)))
        assert (whole.status_code, whole.json()["state"]) == (200, "succeeded")
        assert alone.get("/api/v1/generations").status_code == 503
