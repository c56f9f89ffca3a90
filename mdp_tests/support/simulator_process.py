"""The exchange simulator as a process of its own, for tests that need a real server.

Not here: the simulator inside the test's own process (``simulator.conftest``).
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

READY = "simulator ready on "


@dataclass(frozen=True, slots=True)
class RunningSimulator:
    """A simulator that accepts connections.

    Attributes:
        url: Where, such as ``http://127.0.0.1:43210``.
        process: Its process; ends by SIGTERM when the test is done.
    """

    url: str
    process: subprocess.Popen[str]


@contextmanager
def running_simulator(*arguments: str) -> Iterator[RunningSimulator]:
    """Run ``python -m mdp.simulator`` on a free port until the block ends.

    Args:
        arguments: Further arguments, such as ``"--now", "2025-01-08T00:00Z"``.
    """
    command = [sys.executable, "-m", "mdp.simulator", "--port", "0", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()  # empty when the process ends before it is ready
            if not line.startswith(READY):
                assert process.stderr is not None
                raise AssertionError(f"the simulator did not start: {line}{process.stderr.read()}")
            yield RunningSimulator(line.removeprefix(READY).strip(), process)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(timeout=10)
                except subprocess.TimeoutExpired:
                    process.kill()
