"""Processes that a command starts: their environment, their end, and that they never outlive it.

Not here: what they do.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import IO

from mdp.config.settings import Settings
from mdp.errors import MdpError

PR_SET_PDEATHSIG = 1


class ServiceDied(MdpError):
    """A process that should have done its work, or stayed, ended by itself or never answered."""


def dagster_environment(settings: Settings) -> dict[str, str]:
    """Return the variables with which any of Dagster's own commands finds this project."""
    return {
        "DAGSTER_HOME": str(settings.dagster_home),
        "DAGSTER_STORAGE_DIR": str(settings.dagster_dir),
        "DAGSTER_COMPUTE_LOGS_DIR": str(settings.dagster_dir / "storage"),
        # With the setting in dagster.yaml alone, the webserver still makes folders for it beside that file.
        "DAGSTER_DISABLE_TELEMETRY": "yes",
        "MDP_DATA_DIR": str(settings.data_dir),
        "MDP_ENV": settings.env,
        "MDP_WORKERS": str(settings.workers),  # also how many runs Dagster lets run at once
    }


def start(
    command: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    stdin: int = subprocess.DEVNULL,
    stdout: IO[bytes] | int | None = None,
    stderr: IO[bytes] | int | None = None,
    cwd: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own, so that a Ctrl-C on the terminal reaches only us, and we end it.

    On Linux the kernel interrupts it should we die without having done so.
    """
    return subprocess.Popen(
        command,
        env={**os.environ, **(environment or {})},
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        cwd=cwd,
        start_new_session=True,
        preexec_fn=_in_the_child,
    )


def stop(*processes: subprocess.Popen[bytes], patience_s: float = 20, grace_s: float = 3) -> None:
    """Interrupt processes that :func:`start` started, all at the same time, and wait for their end.

    Those that are left after ``patience_s`` are terminated; after another ``grace_s`` their sessions are killed.
    """
    for number, seconds in ((signal.SIGINT, patience_s), (signal.SIGTERM, grace_s)):
        running = [process for process in processes if process.poll() is None]
        for process in running:
            process.send_signal(number)
        deadline = time.monotonic() + seconds
        for process in running:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0, deadline - time.monotonic()))
    for process in processes:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def last_line(log: Path) -> str:
    """Return the last line of a process's log, and where the whole of it is."""
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return f"{lines[-1] if lines else 'without a word'} (whole log: {log})"


def free_port(preferred: int) -> int:
    """Return ``preferred`` when nothing listens there on 127.0.0.1, otherwise a free port."""
    for port in (preferred, 0):
        with closing(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            bound: int = probe.getsockname()[1]
            return bound
    raise OSError("no free port on 127.0.0.1")


def _in_the_child() -> None:
    # Whoever was started with SIGINT ignored (a background job of a shell) would pass that on, and not be stoppable.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGINT)
