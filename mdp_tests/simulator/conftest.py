"""A simulated world whose clocks stand still until a test moves them.

Not here: the simulator as a process (``support.simulator_process``).
"""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import datetime

import httpx
import pytest

from mdp.simulator.alterations import Alterations
from mdp.simulator.app import create_app
from mdp.simulator.clock import to_ms
from mdp.simulator.encoded_pages import PageCache
from mdp.simulator.history import History
from mdp.simulator.lines import Lines
from mdp.simulator.recorded_days import CARRIED, load_recorded_days
from mdp.simulator.request_log import RequestLog
from mdp.simulator.script import FaultScript
from mdp.simulator.simulation import Quotas, build_simulation

SEED = 7

RECORDED = load_recorded_days(CARRIED)
"""The carried days, read once for all tests."""

HISTORY = History(SEED, RECORDED)
"""The truth of the world that ``world`` shows on the wire."""


class World:
    """A simulated world with hands on its clocks: ``now`` is simulated, ``real_s`` drives the quotas."""

    def __init__(self, shared):
        self.now_ms = to_ms(datetime.fromisoformat("2025-01-07T12:00:30Z"))
        self.real_s = 1_000_000_000.0  # 40 s into a minute
        faults = FaultScript(lambda: self.real_s)
        self.simulation = dataclasses.replace(
            shared,
            clock=lambda: self.now_ms,
            quotas=Quotas.real(lambda: self.real_s),
            faults=faults,
            alterations=Alterations(faults, shared.history, lambda: self.now_ms),
            requests=RequestLog(),
            lines=Lines(),
            pages=PageCache(),
        )
        self._app = create_app(self.simulation)

    @property
    def faults(self):
        return self.simulation.faults

    @property
    def history(self):
        return self.simulation.history

    def at(self, text):
        self.now_ms = to_ms(datetime.fromisoformat(text))
        return self

    def ask(self, path, headers=None, address="127.0.0.1", method="GET", json=None, **params) -> httpx.Response:
        async def request():
            transport = httpx.ASGITransport(self._app, client=(address, 1))
            async with httpx.AsyncClient(transport=transport, base_url="http://simulator") as client:
                return await client.request(method, path, params=params, headers=headers, json=json)

        return asyncio.run(request())


@pytest.fixture(scope="session")
def shared_simulation():
    """One world for all tests: what is invented or recorded never changes, only clocks and quotas do."""
    return build_simulation(seed=SEED, clock=lambda: 0)


@pytest.fixture
def world(shared_simulation):
    return World(shared_simulation)


def ms(text: str) -> int:
    """A time in milliseconds."""
    return to_ms(datetime.fromisoformat(text))
