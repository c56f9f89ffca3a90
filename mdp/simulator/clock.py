"""The simulated clock: it starts where it is told and advances with real time, or faster, or slower.

Not here: the clock that drives quotas and time-outs, which is always the real one (``quotas``).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple

from mdp.errors import InputError

ClockMs = Callable[[], int]
"""Tells the simulated time in milliseconds since the epoch."""

SLOWEST, FASTEST = 0.01, 1_000.0

_NS = 1_000_000


class Reading(NamedTuple):
    """What the clock shows, in terms of a clock that every process of this machine has.

    Attributes:
        now_ms: Simulated time, whole milliseconds since the epoch.
        monotonic_ns: ``CLOCK_MONOTONIC`` of this machine in the instant in which it became that.
        speed: Simulated seconds in a real one. Until the clock is set, it shows
            ``now_ms + (monotonic_ns() - monotonic_ns) * speed / 1e6``.
    """

    now_ms: int
    monotonic_ns: int
    speed: float


class SimulatedClock:
    """A clock that shows what it was set to and, ``speed`` times, the real time that has passed since.

    It never goes back unless it is set.

    Args:
        start: What it shows now; None: it is the wall clock, until it is set.
        speed: Simulated seconds in a real one; a wall clock with a speed starts now and runs away.

    Raises:
        InputError: the speed is not one from 0.01 to 1000.
    """

    def __init__(self, start: datetime | None = None, speed: float = 1.0) -> None:
        # one value, so that a thread that reads while another sets sees the old time or the new one
        self._started: tuple[int, int, float] | None = None
        self._listeners: list[Callable[[], None]] = []
        self._latest_wall_ns = 0
        self._lock = threading.Lock()
        if start is not None or speed != 1.0:
            self.set(start, speed)

    def __call__(self) -> int:
        """Tell the simulated time in milliseconds since the epoch."""
        return self._read_ns(time.monotonic_ns()) // _NS

    @property
    def speed(self) -> float:
        """Simulated seconds in a real one."""
        return 1.0 if self._started is None else self._started[2]

    def read(self) -> Reading:
        """Tell the time together with the machine's own clock, for other processes."""
        speed = self.speed
        at_ns = time.monotonic_ns()
        now_ns = self._read_ns(at_ns)
        return Reading(now_ns // _NS, at_ns - round(now_ns % _NS / speed), speed)

    def seconds_until(self, moment_ms: int) -> float:
        """Return in how many real seconds the clock shows a time; negative: it is past."""
        return (moment_ms * _NS - self._read_ns(time.monotonic_ns())) / self.speed / 1e9

    def set(self, moment: datetime | None = None, speed: float | None = None) -> None:
        """Show ``moment`` now and go on from there, ``speed`` times as fast as real time.

        Args:
            moment: None: what it shows already.
            speed: None: as fast as before.

        Raises:
            InputError: the speed is not one from 0.01 to 1000.
        """
        chosen = self.speed if speed is None else require_speed(speed)
        with self._lock:
            at_ns = time.monotonic_ns()
            shown_ns = self._read_ns(at_ns) if moment is None else to_ms(moment) * _NS
            self._started = (shown_ns, at_ns, chosen)
        for listener in list(self._listeners):
            listener()

    def listen(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` whenever the clock was set, in the thread that set it."""
        self._listeners.append(listener)

    def _read_ns(self, at_ns: int) -> int:
        started = self._started
        if started is None:
            # somebody may set the machine's clock back; ours then waits
            self._latest_wall_ns = max(self._latest_wall_ns, time.time_ns())
            return self._latest_wall_ns
        shown_ns, since_ns, speed = started
        passed_ns = at_ns - since_ns
        return shown_ns + (passed_ns if speed == 1.0 else int(passed_ns * speed))


def require_speed(speed: object, name: str = "speed") -> float:
    """Return a speed that the clock can have.

    Raises:
        InputError: it cannot; the message begins with ``name``.
    """
    is_number = isinstance(speed, int | float) and not isinstance(speed, bool)
    if not is_number or not SLOWEST <= float(speed) <= FASTEST:  # type: ignore[arg-type] # a number by now
        raise InputError(name, got=speed, expected=f"a number from {SLOWEST} to {FASTEST:g}")
    return float(speed)  # type: ignore[arg-type] # a number by now


def to_ms(moment: datetime) -> int:
    """Return a UTC time in milliseconds since the epoch."""
    return round((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1_000)


def from_ms(moment_ms: int) -> datetime:
    """Return the UTC time of milliseconds since the epoch."""
    return datetime.fromtimestamp(moment_ms / 1_000, tz=UTC)
