"""Where the bus is, who this machine is, and what a connection to it looks like.

Not here: its server (``server``), who keeps it running (``keeper``).
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
import stat
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mdp.config.settings import Settings
from mdp.errors import ConfigError

MAX_SOCKET_PATH = 100
"""The kernel's limit is 108 bytes on Linux and 104 on macOS."""

CONNECT_S, ANSWER_S = 2.0, 5.0
"""Seconds until a server that does not connect or answer counts as gone."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where the bus is.

    Attributes:
        url: For redis-py.
        keeps: Folder whose own server it is, ``bus_dir`` of the settings; None: somebody else runs it.
    """

    url: str
    keeps: Path | None


def bus_address(settings: Settings) -> Address:
    """Return where the bus of these settings is, whether or not it runs.

    Raises:
        ConfigError: the folder for its socket belongs to somebody else, or there is no place for it.
    """
    if settings.bus.url is not None:
        return Address(re.sub("^valkey", "redis", settings.bus.url), None)
    return Address(f"unix://{socket_path(settings.bus_dir)}", settings.bus_dir)


def socket_path(bus_dir: Path) -> Path:
    """Return the path of the Unix socket of the server of a folder.

    Below it, or where that would be longer than a socket may be called, in a folder of ours for temporary files.

    Raises:
        ConfigError: that folder belongs to somebody else.
    """
    own = bus_dir / "bus" / "bus.sock"
    if len(os.fsencode(own)) <= MAX_SOCKET_PATH:
        return own
    digest = hashlib.sha256(os.fsencode(bus_dir)).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"mdp-{os.getuid()}-{digest}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) != 0o700 or not stat.S_ISDIR(found.st_mode):
        raise ConfigError(str(folder), got="a folder of somebody else", expected="a folder of yours with mode 0700")
    return folder / "bus.sock"


@cache
def machine() -> str:
    """Return a name for all processes that share one monotonic clock.

    That is one run of one kernel; a container may have a clock of its own (time namespace).
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{Path('/proc/self/ns/time').readlink()}"
    except OSError:
        # Not Linux: the clock counts from the start of the machine as well; without its id, the name has to do.
        return socket.gethostname()
