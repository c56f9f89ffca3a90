"""Which of the processes that use a ``bus_dir`` keeps its server running, and who takes over.

Everybody tries to connect first. Who finds nobody there tries the lock, and who gets the lock starts the server and
keeps it until it ends itself. All others stay connected, see the connection break when the server ends, and begin
again: one of them is the next keeper, with the file that the server left. Not here: starting it (``server``).
"""

from __future__ import annotations

import atexit
import fcntl
import logging
import os
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

from mdp.bus.address import socket_path
from mdp.bus.server import Server, ServerFailed, start_server

_log = logging.getLogger(__name__)

READY_S = 5.0
"""How long a first request waits for the server."""

AGAIN_S = 0.05
LONGEST_AGAIN_S = 5.0


class Keeper:
    """Sees to it, in a thread, that the server of a ``bus_dir`` runs as long as this process needs it."""

    def __init__(self, bus_dir: Path) -> None:
        self._bus_dir = bus_dir
        self._is_settled = threading.Event()
        self._is_closing = threading.Event()
        self._connection: socket.socket | None = None
        self._server: Server | None = None
        self._thread = threading.Thread(target=self._keep, name="mdp-bus-keeper", daemon=True)

    def start(self) -> None:
        """Begin; the thread is a daemon, and the server ends with this process however it ends."""
        atexit.register(self.close)
        self._thread.start()

    def wait_until_ready(self) -> None:
        """Wait until the server accepts connections, or is known not to."""
        self._is_settled.wait(READY_S)

    def close(self) -> None:
        """Stop; a server that this process keeps ends, and another process that needs it starts it again."""
        atexit.unregister(self.close)
        self._is_closing.set()
        self._is_settled.set()
        if (connection := self._connection) is not None:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        if self._thread.is_alive():
            self._thread.join(10)

    def _keep(self) -> None:
        pause = AGAIN_S
        while not self._is_closing.is_set():
            try:
                if self._stay_connected() or self._keep_server():
                    pause = AGAIN_S
                    continue
            except (ServerFailed, OSError) as error:
                if pause == AGAIN_S:
                    _log.warning("the bus cannot be started: %s", error)
                self._is_settled.set()
                pause = min(LONGEST_AGAIN_S, max(1.0, 2 * pause))
            self._is_closing.wait(pause)

    def _stay_connected(self) -> bool:
        """Hold a connection until it breaks; False: there is nobody to connect to."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            try:
                connection.connect(str(socket_path(self._bus_dir)))
            except OSError:
                return False
            self._connection = connection
            self._is_settled.set()
            try:
                while not self._is_closing.is_set() and connection.recv(64):
                    pass
            except OSError:
                pass
            finally:
                self._connection = None
        return True

    def _keep_server(self) -> bool:
        """Start the server and stay with it until it ends; False: somebody else has the lock."""
        folder = self._bus_dir / "bus"
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / "keeper.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            server = start_server(self._bus_dir, lock)
            try:
                began = time.monotonic()
                self._stay_connected()
                if not self._is_closing.is_set():
                    _log.warning("the server of the bus ended by itself; it is started again")
            finally:
                server.end()
            if time.monotonic() - began < 1 and not self._is_closing.is_set():
                self._is_closing.wait(1.0)  # one that dies at once is not started in a hot loop
            return True
        finally:
            os.close(lock)
