"""The simulator as a process: it binds a port, says when it is ready, and stops when told.

Not here: what it answers (``app`` and the exchanges' modules), how a person starts it (``__main__``, the command line).
"""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import uvicorn
from starlette.applications import Starlette

from mdp.errors import InputError
from mdp.simulator.app import create_app
from mdp.simulator.simulation import DEFAULT_SEED, build_simulation

HOST = "127.0.0.1"

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def serve(port: int, data_dir: Path | None = None, now: datetime | None = None, seed: int = DEFAULT_SEED) -> None:
    """Serve until SIGINT or SIGTERM.

    Prints ``simulator ready on http://127.0.0.1:PORT`` on standard output once connections are accepted.

    Args:
        port: Where to listen on the loopback address; 0: any free port.
        data_dir: Folder of recorded days; None: those that come with the package.
        now: UTC time at which the simulated clock starts; None: the wall clock.
        seed: Seed of everything invented.

    Raises:
        InputError: the port cannot be had, the folder is missing or damaged, or ``now`` is not simulated.
    """
    listener = _bind(port)
    try:
        _Server(create_app(build_simulation(data_dir=data_dir, now=now, seed=seed))).run(sockets=[listener])
    finally:
        listener.close()


def _bind(port: int) -> socket.socket:
    """Take the port before anything is loaded: whoever waits for it learns at once that it is taken."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen(1_024)
    except (OSError, OverflowError) as error:
        listener.close()
        raise InputError("--port", got=port, expected=f"a free port ({error})") from error
    return listener


class _Server(uvicorn.Server):
    """Uvicorn that announces itself and ends normally on a stop signal."""

    def __init__(self, app: Starlette) -> None:
        # its own Date header would tell the real time, and the exchanges' time here is simulated
        super().__init__(
            uvicorn.Config(
                app,
                log_level="warning",
                access_log=False,
                date_header=False,
                server_header=False,
                lifespan="off",
                timeout_keep_alive=75,  # idle clients keep their connection, as at the exchanges
                timeout_graceful_shutdown=2,
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start accepting connections, then say so."""
        await super().startup(sockets)
        if sockets and self.started:
            print(f"simulator ready on http://{HOST}:{sockets[0].getsockname()[1]}", flush=True)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop on a signal; uvicorn's own version raises the signal again afterwards, which ends in a traceback."""
        if threading.current_thread() is not threading.main_thread():  # only the main thread hears signals
            yield
            return
        previous = {number: signal.signal(number, self.handle_exit) for number in _STOP_SIGNALS}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
