"""How many bytes the backfills of a data directory receive in a second, all their processes on this machine together.

The count is a small file of the data directory: the moment up to which each line is booked, on the clock that all
processes of the machine share. Not here: requests (``script``), who books (``exchanges.receiving``).
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import math
import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from mdp.bus.address import machine
from mdp.config.settings import Settings
from mdp.domain.market import Exchange
from mdp.errors import ConfigError

BURST_S = 0.1
"""What was not used in so long a time may be used later, so that a process that wakes up late loses nothing."""

_WINDOW_S = 0.05
_LEAST_WINDOW, _LARGEST_WINDOW = 96 * 1024, 4 * 1024 * 1024
_LOCKED_FOR_S = 0.0005
_LONGEST_S = 86_400.0  # nobody books so far ahead

_ALL: Final = 0
_PLACES = {exchange: place for place, exchange in enumerate(Exchange, start=1)}
_LAYOUT = struct.Struct(f"={len(_PLACES) + 1}d")


class SharedBandwidth:
    """The line of one exchange, and the line of all of them: what is received passes through both.

    Whoever wants to receive books a stretch of both lines and waits until it begins, in the order of booking. Nobody
    holds anything, so a process that dies leaves nothing behind but what it had booked.

    Args:
        path: The file.
        exchange: Who sends.
        bytes_per_s: Of all exchanges together.
        share: What this exchange may take of that.

    Attributes:
        window: Bytes that are booked ahead of a transfer, so many that a line over the world is kept busy.

    Raises:
        ConfigError: the file cannot be written.
    """

    def __init__(self, path: Path, exchange: Exchange, bytes_per_s: float, share: float) -> None:
        self.window = int(min(max(bytes_per_s * share * _WINDOW_S, _LEAST_WINDOW), _LARGEST_WINDOW))
        self._place = _PLACES[exchange]
        self._rates = {_ALL: bytes_per_s, self._place: bytes_per_s * share}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # one description for each object: two of one process exclude each other as those of two processes do
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            expected = f"a directory that can be written ({error.strerror})"
            raise ConfigError("MDP_DATA_DIR", got=str(path.parent), expected=expected) from error

    def __del__(self) -> None:
        if (file := getattr(self, "_file", None)) is not None:
            os.close(file)

    async def reserve(self, size: int) -> float:
        """Wait until so many bytes may be received, and return how many seconds that took."""
        waited_s = 0.0
        # The exchange's own line first: what it may not have yet would otherwise keep the others' line empty.
        for place in (self._place, _ALL):
            pause_s = self._book(place, size)
            waited_s += max(0.0, pause_s)
            try:
                await asyncio.sleep(max(0.0, pause_s))
            except asyncio.CancelledError:
                self._change(dict.fromkeys((self._place, place), -size))
                raise
        return waited_s

    def charge(self, size: int) -> None:
        """Count bytes that came without being booked; less than 0: such as were booked and do not come."""
        self._change({_ALL: size, self._place: size})

    def _book(self, place: int, size: int) -> float:
        """Book a stretch of a line; return in how many seconds it begins."""
        with self._booked_until() as (now, until):
            begins = max(until[place], now - BURST_S)
            until[place] = begins + size / self._rates[place]
            if place == _ALL and begins > now:  # what waits here must not come in one rush on the exchange's line
                until[self._place] = max(until[self._place], begins + size / self._rates[self._place])
            return begins - now

    def _change(self, sizes: dict[int, int]) -> None:
        with self._booked_until() as (now, until):
            for place, size in sizes.items():
                until[place] = max(until[place], now - BURST_S) + size / self._rates[place]

    @contextmanager
    def _booked_until(self) -> Iterator[tuple[float, list[float]]]:
        """Yield the time and the moments up to which each line is booked, and keep what became of these."""
        self._lock()
        try:
            now = time.monotonic()
            found = os.pread(self._file, _LAYOUT.size, 0).ljust(_LAYOUT.size, b"\0")
            # a damaged file is an empty line; a NaN is smaller than nothing
            kept = _LAYOUT.unpack(found)
            yield now, (until := [moment if moment < now + _LONGEST_S else -math.inf for moment in kept])
            os.pwrite(self._file, _LAYOUT.pack(*until), 0)
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def _lock(self) -> None:
        # Held for some microseconds. The kernel would wait as well, but not hear an interrupt of another thread.
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(_LOCKED_FOR_S)
            else:
                return


def open_bandwidth(settings: Settings, exchange: Exchange) -> SharedBandwidth | None:
    """Return what backfills may receive from an exchange; None: as much as comes.

    Raises:
        ConfigError: the data directory cannot be written.
    """
    mbit = settings.exchanges.bandwidth_mbit
    if mbit is None:
        return None
    # Named for the machine, for its clock is no other's: several may share a data directory.
    name = hashlib.sha256(machine().encode()).hexdigest()[:16]
    share = settings.exchanges.of(exchange).bandwidth_share
    return SharedBandwidth(settings.run_dir / "bandwidth" / name, exchange, mbit * 1_000_000 / 8, share)
