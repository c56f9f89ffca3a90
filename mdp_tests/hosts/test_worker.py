"""A worker that took a task while Dagster's storage is away keeps it until the storage is back."""

from __future__ import annotations

import threading
import time

import pytest

from mdp.hosts import worker
from mdp.hosts.worker import open_instance
from mdp_tests.support.postgres import create

pytestmark = pytest.mark.slow


def test_a_task_that_was_taken_waits_for_the_storage_of_dagster(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(worker, "STORAGE_S", 0.1)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    server = create(tmp_path / "postgres")
    (tmp_path / "dagster.yaml").write_text(f"storage: {{postgres: {{postgres_url: '{server.url}'}}}}\n")
    opened: list[int] = []

    def work():
        with open_instance("a-run") as instance:
            opened.append(instance.get_runs_count())

    taken = threading.Thread(target=work)
    taken.start()
    try:
        deadline = time.monotonic() + 60
        while caplog.text.count("run a-run waits: Dagster's storage does not answer") < 2:
            assert time.monotonic() < deadline, caplog.text
            time.sleep(0.05)
        assert not opened
        server.start()
        taken.join(60)
        assert opened == [0]
    finally:
        server.remove()
