"""The simulator as a process: it binds a port, says when it is ready, and stops when told.

Not here: what it answers (``app`` and the exchanges' modules), how a person starts it (``__main__``, the command line).
"""

from __future__ import annotations

import asyncio
import errno
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Literal, cast

import uvicorn
from starlette.types import ASGIApp

from mdp.errors import InputError
from mdp.simulator.app import create_app
from mdp.simulator.clock import SimulatedClock
from mdp.simulator.connections import abort
from mdp.simulator.lines import Line
from mdp.simulator.scenarios import load_scenario
from mdp.simulator.simulation import DEFAULT_SEED, DEFAULT_STREAM_RATE, build_simulation
from mdp.simulator.streams.connection import Connection
from mdp.simulator.streams.hub import Hub
from mdp.simulator.wire import Door

HOST = "127.0.0.1"

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def serve(
    port: int,
    data_dir: Path | None = None,
    now: datetime | None = None,
    seed: int = DEFAULT_SEED,
    *,
    scenario: str | None = None,
    line: Line | None = None,
    speed: float = 1.0,
    stream_rate: float = DEFAULT_STREAM_RATE,
    host: str = HOST,
) -> None:
    """Serve until SIGINT or SIGTERM.

    Prints ``simulator ready on http://127.0.0.1:PORT`` on standard output once connections are accepted.

    Args:
        port: Where to listen; 0: any free port.
        data_dir: Folder of recorded days; None: those that come with the package.
        now: UTC time at which the simulated clock starts; None: the wall clock.
        seed: Seed of everything invented.
        scenario: What goes wrong: path of a scenario file, or the name of a carried one; None: nothing.
        line: Latency and bandwidth of every exchange, over those of the scenario; None: as the scenario has them.
        speed: Simulated seconds in a real one, from 0.01 to 1000.
        stream_rate: Messages a real second that one market's stream has at most, however fast the clock is.
        host: Address to listen on.

    Raises:
        InputError: the address or port cannot be had, the folder or the scenario is missing or damaged, ``now`` is not
            simulated, or the clock cannot be so fast or slow.
    """
    script = load_scenario(scenario) if scenario is not None else None
    with bind(port, host) as listener:
        simulation = build_simulation(data_dir=data_dir, now=now, seed=seed, speed=speed, stream_rate=stream_rate)
        if script is not None:
            script.begin(simulation)
        if line is not None:
            simulation.lines.set_all(line)
        Server(create_app(simulation), announces=True).run(sockets=[listener])


def serve_app(port: int, app: ASGIApp) -> None:
    """Serve a world that was put together by the caller, as ``serve`` does.

    Args:
        port: Where to listen on the loopback address; 0: any free port.
        app: From ``create_app``.

    Raises:
        InputError: the port cannot be had.
    """
    with bind(port) as listener:
        Server(app, announces=True).run(sockets=[listener])


def bind(port: int, host: str = HOST) -> socket.socket:
    """Return a socket that listens on a port of an address, the loopback one unless told otherwise.

    It is taken before anything is loaded: whoever waits for it learns at once that it is taken.

    Args:
        port: 0: any free one.
        host: The address.

    Raises:
        InputError: the address or port cannot be had.
    """
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(1_024)
    except (OSError, OverflowError) as error:
        listener.close()
        if isinstance(error, socket.gaierror) or getattr(error, "errno", None) == errno.EADDRNOTAVAIL:
            raise InputError("--host", got=host, expected=f"an address of this machine ({error})") from error
        raise InputError("--port", got=port, expected=f"a free port ({error})") from error
    return listener


class Server(uvicorn.Server):
    """Uvicorn that ends normally on a stop signal, whatever its clients do.

    Args:
        app: What it serves.
        announces: Whether it says on standard output where it listens.
    """

    def __init__(self, app: ASGIApp, *, announces: bool) -> None:
        # its own Date header would tell the real time, and the exchanges' time here is simulated
        super().__init__(
            uvicorn.Config(
                app,
                log_level="warning",
                access_log=False,
                date_header=False,
                server_header=False,
                lifespan="off",
                ws=_streams_of(app),
                backlog=1_024,
                timeout_keep_alive=75,  # idle clients keep their connection, as at the exchanges
                timeout_graceful_shutdown=2,
            )
        )
        self._announces = announces

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start accepting connections, then say so."""
        await super().startup(sockets)
        if sockets and self.started and self._announces:
            print(f"simulator ready on http://{HOST}:{sockets[0].getsockname()[1]}", flush=True)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drop every connection, also those that a scripted fault lets hang, then end."""
        for connection in list(self.server_state.connections):
            abort(getattr(connection, "transport", None))
        await super().shutdown(sockets)

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


def _streams_of(app: ASGIApp) -> type[asyncio.Protocol] | Literal["none"]:
    """What takes over a connection that asks to be a WebSocket; a clock that stands still has nothing to push."""
    if not isinstance(app, Door) or not isinstance(app.simulation.clock, SimulatedClock):
        return "none"
    hub = Hub(app.simulation, app.simulation.clock)
    # uvicorn only calls it
    return cast("type[asyncio.Protocol]", partial(Connection, hub))
