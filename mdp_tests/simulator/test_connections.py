"""A simulator in a thread, asked over real connections: how they end, how long they take, what is kept."""

from __future__ import annotations

import asyncio
import time

import httpx
import pytest

from mdp.domain.market import Exchange
from mdp.errors import InputError
from mdp.simulator.lines import Line, Lines
from mdp.simulator.threaded import running_in_thread
from mdp_tests.simulator.conftest import ms

KLINES = {"symbol": "BTCUSDT", "interval": "1m", "startTime": ms("2024-12-30T00:00Z"), "limit": 500}


@pytest.fixture(scope="module")
def running(shared_simulation):
    with running_in_thread(shared_simulation) as simulator:
        yield simulator


@pytest.fixture
def simulator(running):
    yield running
    running.faults.clear()
    running.set_line()


@pytest.fixture
def client(simulator):
    with httpx.Client(base_url=simulator.url_of("binance"), trust_env=False, timeout=5) as client:
        yield client


def klines(client):
    return client.get("/api/v3/klines", params=KLINES)


def logged_after(simulator, number):
    """The first request after that of a number, once its end has been written down."""
    until = time.monotonic() + 5
    while simulator.simulation.requests.last == number and time.monotonic() < until:
        time.sleep(0.005)
    return simulator.requests("binance", since=number)[0]


def took_s(work):
    begun = time.monotonic()
    work()
    return time.monotonic() - begun


class TestEnds:
    def test_a_reset_is_a_reset(self, simulator, client):
        simulator.faults.add(kind="reset", exchange="binance", times=1)
        with pytest.raises(httpx.ReadError, match="reset by peer"):
            klines(client)
        assert klines(client).status_code == 200

    def test_a_transfer_that_is_cut_announced_more_than_came(self, simulator, client):
        simulator.faults.add(kind="cut_transfer", exchange="binance", times=1, share=0.25)
        with pytest.raises(httpx.RemoteProtocolError, match="without sending complete message body"):
            klines(client)
        assert len(klines(client).json()) == 500

    def test_nothing_comes_for_a_while_and_then_the_end(self, simulator, client):
        simulator.faults.add(kind="hang", exchange="binance", seconds=0.05, times=1)
        last = simulator.simulation.requests.last
        with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
            klines(client)
        assert logged_after(simulator, last).status is None

    def test_who_gives_up_on_a_hanging_answer_frees_it(self, simulator, client):
        simulator.faults.add(kind="hang", exchange="binance", times=1)
        last = simulator.simulation.requests.last
        with pytest.raises(httpx.ReadTimeout):
            client.get("/api/v3/time", timeout=0.02)
        assert logged_after(simulator, last).faults == (f"{simulator.faults.entries[0].number}:hang",)

    def test_a_slow_body_is_whole_in_the_end(self, simulator, client):
        simulator.faults.add(kind="slow", exchange="binance", seconds=0.1, times=1)
        assert took_s(lambda: klines(client).json()) >= 0.08  # of twenty timers that may fire a millisecond early
        assert len(klines(client).json()) == 500


class TestLines:
    def test_latency_is_added_to_every_request(self, simulator, client):
        simulator.set_line("binance", latency_ms=30)
        assert took_s(lambda: client.get("/api/v3/ping")) >= 0.025  # timers may fire a millisecond early

    def test_answers_share_the_bandwidth(self, simulator, client):
        size = len(klines(client).content)
        simulator.set_line("binance", bandwidth_mbit=size * 8 * 20 / 1e6)
        plain = {"Accept-Encoding": "identity"}
        assert took_s(lambda: [client.get("/api/v3/klines", params=KLINES, headers=plain) for _ in range(2)]) >= 0.09

    def test_answers_that_come_together_go_one_after_another(self):
        lines = Lines()
        lines.set_all(Line(bandwidth_mbit=1))

        async def two_answers():
            await asyncio.gather(*(lines.carry(Exchange.OKX, 2_500) for _ in range(2)))

        assert took_s(lambda: asyncio.run(two_answers())) >= 0.035


class TestSimulator:
    def test_a_forwarded_address_has_quotas_of_its_own(self, simulator, client):
        client.get("/api/v3/ping", headers={"X-Forwarded-For": "10.0.0.2"})
        assert simulator.quotas()["binance"]["REQUEST_WEIGHT"]["clients"]["10.0.0.2"]["asked"] == 1
        control = httpx.get(f"{simulator.url}/control/faults", headers={"X-Forwarded-For": "10.0.0.2"}, trust_env=False)
        assert control.status_code == 403

    def test_every_simulator_has_its_own_faults_quotas_log_and_clock(self, simulator, client, shared_simulation):
        with running_in_thread(shared_simulation, now="2024-12-30T06:00Z") as other:
            simulator.faults.add(kind="status", exchange="binance", status=503)
            answer = httpx.get(f"{other.url_of('binance')}/api/v3/time", trust_env=False)
            assert answer.status_code == 200
            assert 0 <= answer.json()["serverTime"] - ms("2024-12-30T06:00Z") < 60_000
            other.set_now("2024-12-31T00:00Z")
            moved = httpx.get(f"{other.url_of('binance')}/api/v3/time", trust_env=False)
            assert 0 <= moved.json()["serverTime"] - ms("2024-12-31T00:00Z") < 60_000
            assert len(other.requests()) == 2
            assert other.quotas()["binance"]["REQUEST_WEIGHT"]["clients"]["127.0.0.1"]["used"] == 2

    def test_turning_the_clock_back_makes_candles_unhappened(self, simulator, client):
        simulator.set_now("2025-01-02T00:00Z")
        full = client.get("/api/v3/klines", params={**KLINES, "startTime": ms("2025-01-01T20:00Z"), "limit": 60})
        simulator.set_now("2025-01-01T20:10:30Z")
        part = client.get("/api/v3/klines", params={**KLINES, "startTime": ms("2025-01-01T20:00Z"), "limit": 60})
        assert (len(full.json()), len(part.json())) == (60, 11)

    @pytest.mark.parametrize("call", [lambda s: s.url_of("kraken"), lambda s: s.set_now("2041-01-01")])
    def test_what_is_not_simulated_is_refused(self, simulator, call):
        with pytest.raises(InputError):
            call(simulator)
