"""Network namespaces as hosts: each with an address of its own on one switch, which can be cut off or die at once.

The machine outside is not touched: the switch is in a namespace too, and so nothing of it can reach what is outside.
Hosts share the disk, as those of a deployment share a file system. Not here: what runs on a host (``fleet``).
"""

from __future__ import annotations

import ctypes
import os
import secrets
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pytest

_NET = "10.213.7"
"""Addresses inside the namespaces alone: two networks of the same numbers do not see each other."""

_CLONE_NEWNET = 0x4000_0000
_PR_SET_PDEATHSIG = 1

T = TypeVar("T")


@dataclass
class Host:
    """One host.

    Attributes:
        name: Of its namespace.
        address: Of it.
        folder: Where outputs of its processes go.
    """

    name: str
    address: str
    folder: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def prefix(self) -> tuple[str, ...]:
        """What a command starts with so that it runs there."""
        return ("ip", "netns", "exec", self.name)

    def start(self, title: str, command: list[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """Start a process there; its output goes to ``title.log``."""
        with (self.folder / f"{title}.log").open("ab") as log:
            process = subprocess.Popen(
                [*self.prefix, *command], env=dict(environment), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, preexec_fn=_die_with_the_test,
            )  # fmt: skip
        self.processes.append(process)
        return process

    def run(self, command: list[str], environment: Mapping[str, str], timeout_s: float = 120) -> str:
        """Run a command there to its end and return what it printed."""
        ended = subprocess.run(
            [*self.prefix, *command], env=dict(environment), capture_output=True, text=True, timeout=timeout_s,
            check=False,
        )  # fmt: skip
        assert ended.returncode == 0, f"{command}: {ended.stdout[-2_000:]}{ended.stderr[-4_000:]}"
        return ended.stdout

    def call(self, function: Callable[[], T]) -> T:
        """Call a function as if this process ran there; connections that it opens are that host's."""
        done: list[T] = []
        failed: list[BaseException] = []

        def there() -> None:
            try:
                with Path(f"/run/netns/{self.name}").open("rb") as namespace:
                    if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), _CLONE_NEWNET) != 0:
                        raise OSError(ctypes.get_errno(), "setns")
                done.append(function())
            except BaseException as error:  # raised again where it was asked for
                failed.append(error)

        thread = threading.Thread(target=there)
        thread.start()
        thread.join()
        if failed:
            raise failed[0]
        return done[0]

    def pids(self) -> list[int]:
        """Return the processes there."""
        return [int(word) for word in _ip("netns", "pids", self.name).split()]

    def cut_off(self) -> None:
        """Pull the cable."""
        _ip("-n", self.name, "link", "set", "wire", "down")

    def plug_in(self) -> None:
        """Put the cable back."""
        _ip("-n", self.name, "link", "set", "wire", "up")

    def die(self) -> None:
        """End as by a power cut: no packet leaves it any more, and no process of it is left."""
        self.cut_off()
        self.kill_all()

    def kill_all(self) -> None:
        """Kill every process there."""
        for _ in range(50):
            pids = self.pids()
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if not pids:
                for process in self.processes:
                    process.wait(10)
                return
            time.sleep(0.05)
        raise AssertionError(f"{self.name}: {self.pids()} do not die")


@contextmanager
def hosts(folder: Path, *names: str) -> Iterator[dict[str, Host]]:
    """Make hosts on one switch until the block ends; then all their processes are killed."""
    _require_namespaces()
    mark = f"mdp-{secrets.token_hex(3)}"
    switch = f"{mark}-switch"
    made: dict[str, Host] = {}
    _ip("netns", "add", switch)
    try:
        _ip("-n", switch, "link", "add", "switch", "type", "bridge")
        _ip("-n", switch, "link", "set", "switch", "up")
        for number, name in enumerate(names, start=1):
            made[name] = Host(f"{mark}-{name}", f"{_NET}.{number}", folder)
            _plug(made[name], switch, f"port{number}")
        yield dict(made)
    finally:
        for host in made.values():
            with suppress(AssertionError):
                host.kill_all()
        for name in [*(host.name for host in made.values()), switch]:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def _plug(host: Host, switch: str, port: str) -> None:
    _ip("netns", "add", host.name)
    _ip("link", "add", "wire", "netns", host.name, "type", "veth", "peer", "name", port, "netns", switch)
    _ip("-n", switch, "link", "set", port, "master", "switch")
    _ip("-n", switch, "link", "set", port, "up")
    _ip("-n", host.name, "addr", "add", f"{host.address}/24", "dev", "wire")
    for device in ("lo", "wire"):
        _ip("-n", host.name, "link", "set", device, "up")


def _require_namespaces() -> None:
    probe = f"mdp-{secrets.token_hex(3)}-probe"
    made = subprocess.run(["ip", "netns", "add", probe], check=False, capture_output=True, text=True)
    if made.returncode != 0:
        pytest.skip(f"this user may not make network namespaces: {made.stderr.strip()}")
    subprocess.run(["ip", "netns", "del", probe], check=True)


def _ip(*words: str) -> str:
    done = subprocess.run(["ip", *words], check=False, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"
    return done.stdout


def _die_with_the_test() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
