"""``mdp serve``: the service, one process that watches over those that answer.

The one that watches holds the port: while a worker is started anew, connections wait instead of being refused.
Not here: what is answered (``api``).
"""

from __future__ import annotations

import ctypes
import errno
import ipaddress
import logging
import math
import signal
import socket
import sys
import time
from multiprocessing.connection import wait
from typing import TYPE_CHECKING

import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess
from uvicorn.supervisors.multiprocess import Process

from mdp.api.addresses import parse_networks
from mdp.api.key_file import read_keys
from mdp.cli.processes import PR_SET_PDEATHSIG
from mdp.config.settings import Settings, load_settings
from mdp.errors import ConfigError
from mdp.logs import configure_logs

if TYPE_CHECKING:
    from fastapi import FastAPI

BACKLOG = 2_048
"""Connections that may wait while nobody accepts them."""

_MOST_FRAME_BYTES = 65_536

_LOOK_S = 0.2
"""So often signals are looked for; the end of a worker is noticed at once."""

_SHORT_LIFE_S, _PAUSE_S = 3.0, 1.0
"""A worker that lived no longer is replaced after a pause, lest a broken one takes the whole machine."""

_GRACE_S = 5.0
"""Beyond the time for requests in flight: for the end of streams and of the connection to the bus."""

log = logging.getLogger(__name__)


def run_service(host: str | None, port: int | None) -> None:
    """Serve until stopped; requests in flight are answered first.

    Args:
        host: Instead of that of the settings.
        port: The same; 0 takes a free one.

    Raises:
        ConfigError: a setting is wrong, or something listens there already.
    """
    settings = load_settings()
    own = settings.api
    _look_at_access(settings)
    listening = _listen(own.host if host is None else host, own.port if port is None else port)
    configure_logs(settings, service="watcher")
    watching = _Watching(server_config(settings, workers=own.workers), [listening], own.drain_s)  # heeds signals now
    with listening:
        address, number = listening.getsockname()[:2]
        shown = f"[{address}]" if ":" in address else address
        sys.stderr.write(f"mdp: page and API at http://{shown}:{number}\n")
        if not ipaddress.ip_address(address).is_loopback:
            sys.stderr.write("mdp: from other machines every request needs a key: mdp keys create NAME\n")
        watching.run()


def _look_at_access(settings: Settings) -> None:
    """Refuse settings with which every worker would refuse everybody.

    Raises:
        ConfigError: the file of keys is damaged or too open, or a trusted proxy is no address.
    """
    read_keys(settings.keys_file)
    parse_networks(settings.api.trusted_proxies)


def server_config(settings: Settings, *, workers: int) -> uvicorn.Config:
    """Return how the service is served."""
    own = settings.api
    return uvicorn.Config(
        "mdp.cli.serve:worker",
        factory=True,
        workers=workers,
        loop="uvloop",
        http="mdp.api.quick_answers:BufferProtocol",  # by name: the one that watches needs nothing of it
        ws="websockets-sansio",
        ws_max_size=_MOST_FRAME_BYTES,
        ws_per_message_deflate=False,  # a candle is too small to gain by it, and each client would cost 250 kB
        lifespan="on",
        access_log=False,  # we write our own
        log_config=None,
        server_header=False,
        proxy_headers=False,  # the gate believes only proxies that the settings name
        backlog=BACKLOG,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=math.ceil(own.drain_s),  # None would be for ever
    )


def worker() -> FastAPI:
    """Make the service of a worker process, which never outlives the one that watches over it."""
    from mdp.api.app import create_app

    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    settings = load_settings()
    configure_logs(settings, service="worker")
    return create_app(settings)


class _Watching(Multiprocess):
    """uvicorn's supervisor with a judgement of its own: a worker is replaced when it is gone, never because it is busy.

    uvicorn kills a worker that does not answer within seconds, which on a machine at its limit is every worker; and it
    takes a worker that ended as it was told for a failure.
    """

    def __init__(self, config: uvicorn.Config, sockets: list[socket.socket], drain_s: float) -> None:
        super().__init__(config, sockets)
        self._drain_s = drain_s
        self._began: dict[int | None, float] = {}

    def run(self) -> None:
        """Watch until told to end; then return once all workers have ended.

        Raises:
            SystemExit: 1, a worker could not even begin.
        """
        self.init_processes()
        self._began = {process.pid: time.monotonic() for process in self.processes}
        could_begin = True
        while could_begin and not self.should_exit.is_set():
            wait([process.process.sentinel for process in self.processes], _LOOK_S)
            self.handle_signals()
            could_begin = self.should_exit.is_set() or self._replace_the_dead()
        self._end()
        if not could_begin:
            raise SystemExit(1)

    def handle_hup(self) -> None:
        """Nothing: settings are read once, and keys are read whenever they change."""

    handle_ttin = handle_ttou = handle_hup

    def _replace_the_dead(self) -> bool:
        """Start anew what is gone; return False where a worker says that it cannot begin."""
        for number, process in enumerate(self.processes):
            if process.process.is_alive():
                continue
            process.join()
            if process.exitcode == STARTUP_FAILURE:
                return False
            log.warning("worker %s ended with code %s; another one begins", process.pid, process.exitcode)
            if time.monotonic() - self._began.pop(process.pid, 0.0) < _SHORT_LIFE_S:
                time.sleep(_PAUSE_S)
            self.processes[number] = process = Process(self.config, self.sockets)
            process.start()
            self._began[process.pid] = time.monotonic()
        return True

    def _end(self) -> None:
        """Have all workers end; whoever is not done when requests should have been answered is killed."""
        for listening in self.sockets:
            listening.close()  # whoever comes now is refused instead of waiting for nobody
        for process in self.processes:
            process.terminate()
        deadline = time.monotonic() + self._drain_s + _GRACE_S
        for process in self.processes:
            process.process.join(max(0.0, deadline - time.monotonic()))
            if process.process.is_alive():
                log.error("worker %s did not end within %g s and was killed", process.pid, self._drain_s + _GRACE_S)
                process.process.kill()
                process.join()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        # listening from now on: whoever comes before the first worker is there waits for it
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(
                "MDP_API__PORT", got=port, expected=f"a free port of {host}: something listens there"
            ) from None
        if error.errno == errno.EACCES:
            raise ConfigError("MDP_API__PORT", got=port, expected="one that this user may listen on") from None
        raise ConfigError(
            "MDP_API__HOST", got=host, expected=f"an address of this machine ({error.strerror})"
        ) from None
    listening.set_inheritable(True)
    return listening
