"""The services of a deployment as processes, without a container engine, under the restart policy of their file.

Where this user may, each service has a process tree and a host name of its own, as in a container: it is number 1
there, and nothing of it outlives it. Not here: what the file says (``topology_compose``), what the services do together
(``topology_course``).
"""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import psutil

from mdp.bus.server import find_program
from mdp_tests.deploy.topology_compose import Place, Service
from mdp_tests.support.postgres import PASSWORD, Postgres, create

_FIRST_WAIT_S, _LONGEST_WAIT_S, _STEADY_S = 0.1, 60.0, 10.0
"""Docker's: how long it waits before it starts again what ended, doubled each time until it lived long enough."""

_LAST = (("simulator",), ("valkey", "postgres"))
"""Stopped after all others, in this order."""

_ALONE = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--uts")


@dataclass
class Running:
    """The processes of one service.

    Attributes:
        service: Which.
        process: The newest one; None before the first.
        starts: How many there were.
        ended: Exit codes of those that ended by themselves.
    """

    service: Service
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0
    ended: list[int] = field(default_factory=list)
    began: float = 0.0
    wait_s: float = _FIRST_WAIT_S
    again_at: float | None = None
    is_killed: bool = False

    def is_due(self) -> bool:
        """Tell whether it ended, and waited as long as its restart policy says."""
        if self.process is None or not self.service.restarts or self.process.poll() is None:
            return False
        now = time.monotonic()
        if self.again_at is None:
            if not self.is_killed:
                self.ended.append(self.process.returncode)
            is_steady = now - self.began > _STEADY_S
            self.wait_s = _FIRST_WAIT_S if is_steady else min(2 * self.wait_s, _LONGEST_WAIT_S)
            self.again_at = now + self.wait_s
        return now >= self.again_at


class Deployment:
    """The services of ``deploy/compose.yaml`` in a folder of their own.

    Args:
        folder: For all they write.
        more: What every service of ours finds in its environment besides what the file gives it.
        simulated_from: Simulated time with which the simulator's clock starts, in seconds since the epoch.
        speed: How fast that clock runs.
        simulator: Further arguments of the simulator.
    """

    def __init__(
        self,
        folder: Path,
        *,
        more: Mapping[str, str],
        simulated_from: float,
        speed: float,
        simulator: tuple[str, ...] = (),
    ) -> None:
        self.place, self.logs, self.speed = Place(folder), folder / "logs", speed
        for one in (self.place.data_dir, self.logs, folder / "valkey"):
            one.mkdir(parents=True)
        self.postgres: Postgres = create(folder / "postgres", port=self.place.ports["postgres"])
        self._simulated_from, self._began, self._simulator = simulated_from, time.monotonic(), simulator
        found = self.place.services({"POSTGRES_PASSWORD": PASSWORD}, more)
        self.running = {name: Running(service) for name, service in found.items()}
        self._lock = threading.RLock()
        self._is_over = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="restart policy", daemon=True)

    def url(self, name: str) -> str:
        """Return where a service answers HTTP."""
        return f"http://127.0.0.1:{self.place.ports[name]}"

    @property
    def simulated_now(self) -> float:
        """What the simulator's clock shows, in seconds since the epoch: it goes on while the simulator is away."""
        return self._simulated_from + (time.monotonic() - self._began) * self.speed

    def start(self, *names: str) -> None:
        """Start services; from now on their restart policy holds."""
        with self._lock:
            for name in names:
                self._spawn(self.running[name])
        if not self._keeper.is_alive():
            self._keeper.start()

    def run(self, name: str, timeout_s: float = 180) -> None:
        """Run a service that is meant to end, to its end."""
        self.start(name)
        process = self.running[name].process
        assert process is not None
        code = process.wait(timeout_s)
        assert code == 0, f"{name} ended with {code}: {self.log(name)}"

    def kill(self, name: str) -> None:
        """End a service with all its processes at once; its restart policy starts it again."""
        with self._lock:
            running = self.running[name]
            assert running.process is not None
            assert running.process.poll() is None, f"{name} is not there to be killed: {self.log(name)}"
            running.is_killed = True
            kill_tree(running.process)

    def log(self, name: str, last: int = 3_000) -> str:
        """Return the end of what a service said."""
        path = self.logs / f"{name}.log"
        return path.read_text(errors="replace")[-last:] if path.exists() else ""

    def process_inside(self, name: str, pid: int) -> psutil.Process | None:
        """Return the process that has a number inside a service; None where there is none any more."""
        process = self.running[name].process
        assert process is not None
        with suppress(psutil.NoSuchProcess):
            for one in psutil.Process(process.pid).children(recursive=True):
                if _number_inside(one.pid) == pid:
                    return one
        return None

    def _spawn(self, running: Running) -> None:
        service = running.service
        with (self.logs / f"{service.name}.log").open("ab") as output:
            running.process = subprocess.Popen(
                [*_container(service.name), *self._words(service)], env=service.environment, cwd=self.place.folder,
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
        running.starts += 1
        running.began, running.again_at, running.is_killed = time.monotonic(), None, False

    def _words(self, service: Service) -> list[str]:
        if service.name == "postgres":
            return [*self.postgres.command, *(service.command or ["postgres"])[1:]]
        assert service.command is not None, f"{service.name} has no command"
        if service.name == "valkey":
            where = {"--port": str(self.place.ports["valkey"]), "--dir": str(self.place.folder / "valkey")}
            here = [word for pair in where.items() for word in pair]
            return [find_program(), *service.command[1:], "--bind", "127.0.0.1", *here]
        if service.name == "simulator":
            now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.simulated_now))
            return [*service.command, "--now", now, "--speed", f"{self.speed:g}", *self._simulator]
        return service.command

    def _keep(self) -> None:
        """Start again whatever ended, as the restart policy of the file says."""
        while not self._is_over.wait(0.05):
            with self._lock:
                for running in self.running.values():
                    if running.is_due():
                        self._spawn(running)

    def stop(self) -> dict[str, float]:
        """Ask each service to end; return how long each took, infinity where it had to be killed."""
        self._is_over.set()
        if self._keeper.is_alive():
            self._keeper.join()
        took: dict[str, float] = {}
        first = tuple(name for name in self.running if not any(name in names for names in _LAST))
        for names in (first, *_LAST):
            took |= self._stop(names)
        return took

    def _stop(self, names: tuple[str, ...]) -> dict[str, float]:
        left = {name: one for name in names if (one := self.running[name].process) and one.poll() is None}
        for name, process in left.items():
            with suppress(psutil.NoSuchProcess):
                _first_of(process).send_signal(signal.SIGINT if name == "postgres" else signal.SIGTERM)
        took = dict.fromkeys(left, float("inf"))
        began = time.monotonic()
        while left:
            lasted_s = time.monotonic() - began
            for name, process in list(left.items()):
                if process.poll() is not None:
                    took[name] = lasted_s
                elif lasted_s < self.running[name].service.grace_s:
                    continue
                kill_tree(process)
                del left[name]
            time.sleep(0.02)
        return took


@cache
def _may_contain() -> bool:
    if sys.platform != "linux":
        return False
    return subprocess.run([*_ALONE, "hostname", "probe"], capture_output=True, check=False).returncode == 0


def _container(name: str) -> list[str]:
    """What a command stands behind to have a process tree and a host name of its own; nothing where it may not."""
    if not _may_contain():
        return []
    return [*_ALONE, "sh", "-c", 'hostname "$0" && exec "$@"', f"{socket.gethostname()}-{name}"]


def _first_of(process: subprocess.Popen[bytes]) -> psutil.Process:
    own = psutil.Process(process.pid)
    return own.children()[0] if own.name() == "unshare" and own.children() else own


def _number_inside(pid: int) -> int:
    """Return the number of a process in the innermost process tree that it is in."""
    with suppress(OSError, StopIteration):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("NSpid:")).split()[-1])
    return pid


def kill_tree(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and all that it started, and wait for their end."""
    with suppress(psutil.NoSuchProcess):
        own = psutil.Process(process.pid)
        started = own.children(recursive=True)
        for one in (own, *started):
            with suppress(psutil.NoSuchProcess):
                one.kill()
        psutil.wait_procs(started, timeout=10)
    process.wait(10)


@contextmanager
def deployed(deployment: Deployment) -> Iterator[dict[str, float]]:
    """Have a deployment until the block ends; then yielded is how long each service took to end."""
    took: dict[str, float] = {}
    try:
        yield took
    finally:
        took |= deployment.stop()
        deployment.postgres.remove()
