from __future__ import annotations

import pytest

from mdp_tests.support.simulator_process import running_simulator
from mdp_tests.support.workplace import Workplace


@pytest.fixture(scope="session")
def simulator_url():
    with running_simulator() as simulator:
        yield simulator.url


@pytest.fixture
def workplace(tmp_path, simulator_url):
    return Workplace(tmp_path, simulator_url)
