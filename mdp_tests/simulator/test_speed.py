"""What a page costs: CPU time, the best of several tries, so that a busy machine does not matter."""

from __future__ import annotations

import time

import pytest

from mdp.domain.timeframe import Timeframe
from mdp.simulator import binance, bybit
from mdp.simulator.generator import Generator
from mdp.simulator.markets import SIMULATED_MARKETS
from mdp.simulator.pages import Keep, Request, read_page
from mdp.simulator.paths import Paths
from mdp.simulator.recorded_days import CARRIED, load_recorded_days
from mdp_tests.simulator.conftest import SEED, ms

pytestmark = pytest.mark.slow

NOW = ms("2026-01-01T00:00Z")
ENCODERS = [(SIMULATED_MARKETS[1], binance.print_candles), (SIMULATED_MARKETS[4], bybit.print_candles)]


def best_of(tries, work):
    took = []
    for _ in range(tries):
        begun = time.process_time()
        work()
        took.append(time.process_time() - begun)
    return min(took) * 1_000


def page(history, market, encode, first_ms, timeframe=Timeframe.M1):
    request = Request(market, timeframe, first_ms, NOW, 1_000, Keep.OLDEST)
    return "[" + ",".join(read_page(history, request, NOW).texts(encode)) + "]"


@pytest.mark.parametrize(("market", "encode"), ENCODERS, ids=["binance", "bybit"])
def test_a_warm_page_of_1000_minutes_costs_at_most_3_ms(shared_simulation, market, encode):
    page(shared_simulation.history, market, encode, ms("2024-06-01T00:00Z"))
    assert best_of(20, lambda: page(shared_simulation.history, market, encode, ms("2024-06-01T00:00Z"))) <= 3


@pytest.mark.parametrize(("market", "encode"), ENCODERS, ids=["binance", "bybit"])
def test_a_cold_generated_day_costs_at_most_10_ms(shared_simulation, market, encode):
    days = iter(range(ms("2023-06-01T00:00Z"), NOW, 86_400_000))
    assert best_of(20, lambda: page(shared_simulation.history, market, encode, next(days))) <= 10


def test_generating_a_day_costs_less_than_2_ms():
    generator = Generator(SEED, Paths(SEED, load_recorded_days(CARRIED)))
    days = iter(range(19_000, 19_100))
    assert best_of(20, lambda: generator.minutes(SIMULATED_MARKETS[1], next(days))) < 2
