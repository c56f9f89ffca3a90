"""A pytest plugin: ``pytest_plugins = ["mdp.simulator.pytest"]`` in a ``conftest.py``, or ``-p mdp.simulator.pytest``.

Gives tests of any project an exchange to ask. Not here: the running simulator itself (``threaded``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from mdp.simulator.simulation import Simulation, build_simulation
from mdp.simulator.threaded import ExchangeSimulator, running_in_thread

SimulatorFactory = Callable[..., ExchangeSimulator]


@pytest.fixture(scope="session")
def exchange_world() -> Simulation:
    """The candles that all simulators of a test session serve; override it for another seed or folder."""
    return build_simulation()


@pytest.fixture
def exchange_simulator(exchange_world: Simulation) -> Iterator[ExchangeSimulator]:
    """A running simulator of its own for one test, whose clock starts at 2025-01-08T00:00Z."""
    with running_in_thread(exchange_world) as simulator:
        yield simulator


@pytest.fixture(scope="session")
def start_exchange_simulator(exchange_world: Simulation) -> Iterator[SimulatorFactory]:
    """Starts simulators that run until the session ends: ``start_exchange_simulator(now=…, scenario=…)``."""
    with ExitStack() as stack:
        yield lambda **choices: stack.enter_context(running_in_thread(exchange_world, **choices))
