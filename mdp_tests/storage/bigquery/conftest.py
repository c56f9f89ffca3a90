"""The store on an emulator, in datasets of its own for each test, and as many stores on them as a test wants."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import stamina

from mdp.config.sections import BigQuerySettings


@pytest.fixture
def settings(bigquery_emulator, bigquery_dataset) -> BigQuerySettings:
    return BigQuerySettings(
        project=bigquery_emulator.project,
        dataset=bigquery_dataset,
        api_endpoint=bigquery_emulator.api_endpoint,
        write_endpoint=bigquery_emulator.write_endpoint,
    )


@pytest.fixture(autouse=True)
def _without_waiting() -> Iterator[None]:
    with stamina.set_testing(True, attempts=3):
        yield


@pytest.fixture
def open_another(settings) -> Callable[..., Any]:
    from mdp.storage.bigquery.store import BigQueryStore  # here: Google's libraries cost the fast tests a second

    return lambda **more: BigQueryStore(settings, **more)


@pytest.fixture
def store(open_another) -> Any:
    return open_another()


@pytest.fixture
def client(settings) -> Any:
    from mdp.storage.bigquery.connecting import connect

    return connect(settings)
