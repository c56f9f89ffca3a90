"""Fixtures: one emulator for a session of tests, a dataset of its own for each test.

Registered by ``mdp_tests.conftest``. Not here: how it is started (``emulator``).
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator

import pytest

from mdp_tests.support.bigquery.emulator import RunningEmulator, running_emulator

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def bigquery_emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEmulator]:
    """A running emulator, made and started when the first test asks for it; never skipped."""
    with running_emulator(tmp_path_factory.mktemp("bigquery") / "emulator.log") as emulator:
        yield emulator


@pytest.fixture
def bigquery_dataset() -> str:
    """A name for a dataset that no other test uses."""
    return f"market_data_{os.getpid()}_{next(_numbers)}"
