"""One keeper for all of a process that needs the server of a ``bus_dir``: budgets and live buses alike.

Not here: keeping it (``keeper``).
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path

from mdp.bus.keeper import Keeper


@dataclass(slots=True)
class _Shared:
    keeper: Keeper
    users: int


_lock = threading.Lock()
_shared: dict[tuple[int, Path], _Shared] = {}


class Share:
    """A share in the keeper of a ``bus_dir``; the server is kept until the last share of the process is given back."""

    def __init__(self, bus_dir: Path) -> None:
        # the process is part of the key: a forked one has the table, but no thread that keeps anything
        self._key = (os.getpid(), bus_dir)
        with _lock:
            found = _shared.get(self._key)
            if found is None:
                found = _shared[self._key] = _Shared(Keeper(bus_dir), 0)
                found.keeper.start()
            found.users += 1
        self._keeper: Keeper | None = found.keeper

    def wait_until_ready(self) -> None:
        """Wait until the server accepts connections, or is known not to."""
        if (keeper := self._keeper) is not None:
            keeper.wait_until_ready()

    def close(self) -> None:
        """Give it back; again does nothing."""
        with _lock:
            keeper, self._keeper = self._keeper, None
            if keeper is None:
                return
            found = _shared[self._key]
            found.users -= 1
            if found.users:
                return
            del _shared[self._key]
        keeper.close()
