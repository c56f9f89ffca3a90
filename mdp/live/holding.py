"""Who holds the lease of a feed, and whether that process is seen on this machine.

Not here: what is done about it (``supervising``), the lease (``bus``).
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path

from mdp.domain.market import Exchange


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lease, as feeds name themselves: ``host:pid:random``."""

    host: str
    pid: int

    @classmethod
    def parse(cls, text: str) -> Holder | None:
        """Understand a holder; None: it is named otherwise."""
        host, _, rest = text.partition(":")
        pid, _, random = rest.partition(":")
        return cls(host, int(pid)) if pid.isascii() and pid.isdigit() and random else None

    @property
    def is_here(self) -> bool:
        """Tell whether it says to run on this machine."""
        return self.host == socket.gethostname()

    def is_seen(self, exchange: Exchange) -> bool:
        """Tell whether a process of this number runs here and is a feed of the exchange (Linux; elsewhere: no)."""
        folder = Path("/proc") / str(self.pid)
        try:  # of a zombie the command line is empty: it is as dead as one that is gone
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            return False
        return b"feed" in words and exchange.value.encode() in words
