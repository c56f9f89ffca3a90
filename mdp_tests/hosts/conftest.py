"""A broker, and Dagster's storage in memory with a launcher that uses it."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress

import dagster as dg
import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from mdp.bus.server import find_program
from mdp.cli.processes import free_port
from mdp.hosts.launcher import WORK_QUEUE, HostsLauncher
from mdp.hosts.signs import Signs
from mdp.hosts.vigil import Patience


@pytest.fixture(scope="session")
def broker() -> Iterator[str]:
    """The address of a broker of this session."""
    port = free_port(0)
    with tempfile.TemporaryDirectory(prefix="mdp-broker-") as folder:
        server = subprocess.Popen(
            [find_program(), "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", folder],
            stdout=subprocess.DEVNULL,
        )
        with Redis(port=port) as client:
            for _ in range(500):
                with suppress(RedisConnectionError):
                    client.ping()
                    break
                time.sleep(0.01)
        yield f"redis://127.0.0.1:{port}/1"
        server.kill()
        server.wait()


@pytest.fixture(scope="session")
def nobody() -> str:
    """The address of a broker that is away."""
    return f"redis://127.0.0.1:{free_port(0)}/1"


@pytest.fixture
def signs(broker: str) -> Iterator[Signs]:
    made = Signs(broker)
    yield made
    made.close()


@pytest.fixture(scope="session")
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@pytest.fixture
def launcher_at(instance: dg.DagsterInstance):
    """Makes a launcher with a broker."""

    def make(address: str, lost_s: float = 60) -> HostsLauncher:
        made = HostsLauncher(Patience(lost_s), address, default_queue=WORK_QUEUE)
        made.register_instance(instance)
        return made

    return make


@pytest.fixture
def run_as(instance: dg.DagsterInstance):
    """Makes a run that stands in some way, of some task."""

    @dg.job
    def nothing() -> None:
        pass

    def make(status: dg.DagsterRunStatus, task_id: str | None = None) -> dg.DagsterRun:
        tags = {} if task_id is None else {"dagster-celery/task_id": task_id}
        return instance.create_run_for_job(nothing, status=status, tags=tags)

    return make
