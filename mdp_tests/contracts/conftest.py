"""Every store there is, each empty and in a place of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mdp.config.sections import BigQuerySettings
from mdp.ports import CandleStore
from mdp.storage import DeltaStore, MemoryStore

STORES: dict[str, Callable[[Path], CandleStore]] = {
    "memory": lambda directory: MemoryStore(),
    "delta": lambda directory: DeltaStore(directory / "lake"),
}
"""Those that need nothing but a directory."""


@pytest.fixture(params=[*STORES, pytest.param("bigquery", marks=pytest.mark.slow)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> CandleStore:
    if request.param in STORES:
        return STORES[request.param](tmp_path)
    # imported here: Google's libraries cost a second, which the fast tests do not have
    from mdp.storage.bigquery.store import BigQueryStore

    emulator, dataset = request.getfixturevalue("bigquery_emulator"), request.getfixturevalue("bigquery_dataset")
    return BigQueryStore(
        BigQuerySettings(
            project=emulator.project,
            dataset=dataset,
            api_endpoint=emulator.api_endpoint,
            write_endpoint=emulator.write_endpoint,
        )
    )
