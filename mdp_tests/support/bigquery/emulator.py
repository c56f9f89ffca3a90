"""The emulator as a process of its own on two free ports of 127.0.0.1, which ends when whoever started it ends.

Not here: what it is taught (``launch``), the fixture (``fixtures``).
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[3]
PYTHON = ROOT / ".venv-bigquery" / "bin" / "python"
STAMP = ROOT / ".venv-bigquery" / ".installed"
LOCK = Path(__file__).with_name("requirements.lock")
READY = "ready "
PROJECT = "test-project"
END_S = 10


@dataclass(frozen=True, slots=True)
class RunningEmulator:
    """An emulator that accepts connections; everything it holds is in memory.

    Attributes:
        api_endpoint: Of its REST API, such as ``http://127.0.0.1:43210``.
        write_endpoint: Of its Storage APIs, as ``127.0.0.1:43211``; without encryption.
        project: A project to use; it knows every project.
        process: Its process.
    """

    api_endpoint: str
    write_endpoint: str
    project: str
    process: subprocess.Popen[str]

    def environment(self, dataset: str) -> dict[str, str]:
        """Return the settings that make ``mdp`` keep its tables in a dataset here."""
        return {
            "MDP_STORE": "bigquery",
            "MDP_BIGQUERY__PROJECT": self.project,
            "MDP_BIGQUERY__DATASET": dataset,
            "MDP_BIGQUERY__API_ENDPOINT": self.api_endpoint,
            "MDP_BIGQUERY__WRITE_ENDPOINT": self.write_endpoint,
        }


def require_environment() -> None:
    """Make the emulator's environment where it is missing or older than its lock.

    Raises:
        RuntimeError: that failed; the message has the command to run and what it said.
    """
    if STAMP.exists() and STAMP.stat().st_mtime >= LOCK.stat().st_mtime:
        return
    made = subprocess.run(["make", "emulator"], cwd=ROOT, capture_output=True, text=True, check=False)
    if made.returncode or not STAMP.exists():
        raise RuntimeError(f"the BigQuery emulator is not installed: run `make emulator`.\n{made.stdout}{made.stderr}")


@contextmanager
def running_emulator(log: Path) -> Iterator[RunningEmulator]:
    """Run an emulator until the block ends.

    Args:
        log: File for what it writes besides its ports.
    """
    require_environment()
    command = [str(PYTHON), "-m", "mdp_tests.support.bigquery.launch", "--until-stdin-closes"]
    quiet = {name: value for name, value in os.environ.items() if not name.startswith(("BQEMU_", "PYTHON"))}
    with (
        log.open("w") as errors,
        subprocess.Popen(
            command, cwd=ROOT, env=quiet, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        try:
            yield _ready(process, log)
        finally:
            process.terminate()
            try:
                process.wait(END_S)
            except subprocess.TimeoutExpired:
                process.kill()


def _ready(process: subprocess.Popen[str], log: Path) -> RunningEmulator:
    assert process.stdout is not None
    for line in process.stdout:  # ends without a line where the process ends
        if line.startswith(READY):
            rest, grpc = line.removeprefix(READY).split()
            return RunningEmulator(f"http://127.0.0.1:{rest}", f"127.0.0.1:{grpc}", PROJECT, process)
    raise AssertionError(f"the BigQuery emulator did not start:\n{log.read_text()[-4000:]}")
