"""Every store there is, each empty and in a directory of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mdp.ports import CandleStore
from mdp.storage import DeltaStore, MemoryStore

STORES: dict[str, Callable[[Path], CandleStore]] = {
    "memory": lambda directory: MemoryStore(),
    "delta": lambda directory: DeltaStore(directory / "lake"),
}


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> CandleStore:
    return STORES[request.param](tmp_path)
