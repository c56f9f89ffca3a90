"""The vigil of a run: its signs of life, and that it ends when Dagster says so or when it is cut off.

A host that seems gone may only be cut off, and its run is launched again elsewhere; the vigil sees to it that the first
one has ended by then. Not here: who watches the signs (``launcher``), executing a run (``execution``).
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import dagster as dg
from redis.exceptions import RedisError

from mdp.hosts.signs import Signs

GRACE_S = 30.0
"""A run that was told to end and has not after so long is killed."""

_END = {dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.CANCELED, dg.DagsterRunStatus.FAILURE}

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long silence lasts before it means something, in seconds.

    Attributes:
        lost_s: A run whose signs of life have not changed for so long is lost, for those who watch.
    """

    lost_s: float

    @property
    def beat_s(self) -> float:
        """Between two signs of life."""
        return self.lost_s / 20

    @property
    def fence_s(self) -> float:
        """A run that could not ask for so long whether it may go on is killed, well before others call it lost."""
        return self.lost_s * 0.6


@contextmanager
def keeping_vigil(run_id: str, task_id: str, status_of: Callable[[str], dg.DagsterRunStatus | None], signs: Signs,
                  patience: Patience) -> Iterator[None]:  # fmt: skip
    """Give signs of life for as long as the block takes, which must be in the main thread.

    The kernel's timer kills this process when the vigil did not wind it up again: also when the process was stopped,
    or hangs in a library that heeds no signal, such as a read from a server that is cut off.

    Args:
        run_id: Run that is executed.
        task_id: Its task.
        status_of: Asks Dagster's storage how the run stands; None: it was deleted. Raises when the storage is away.
        signs: Where to give them.
        patience: How often, and when to give up.
    """
    vigil = _Vigil(run_id, task_id, status_of, signs, patience)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    vigil.wind_up(patience.fence_s)
    thread = threading.Thread(target=vigil.keep, name=f"vigil of {run_id}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        vigil.end()
        thread.join(patience.fence_s)  # it may be waiting for a storage that is away
        signal.setitimer(signal.ITIMER_REAL, 0)


@dataclass(slots=True)
class _Vigil:
    run_id: str
    task_id: str
    status_of: Callable[[str], dg.DagsterRunStatus | None]
    signs: Signs
    patience: Patience
    over: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def end(self) -> None:
        with self.lock:
            self.over.set()

    def wind_up(self, seconds: float) -> None:
        signal.setitimer(signal.ITIMER_REAL, seconds)

    def keep(self) -> None:
        while not self.over.is_set():
            if self._is_to_end():
                self._interrupt()
                return
            self.over.wait(self.patience.beat_s)

    def _interrupt(self) -> None:
        with self.lock:  # whoever has just ended is not to hear of it any more
            if not self.over.is_set():
                _log.warning("run %s is to end: interrupted, killed in %.0f s", self.run_id, GRACE_S)
                self.wind_up(GRACE_S)
                os.kill(os.getpid(), signal.SIGINT)

    def _is_to_end(self) -> bool:
        """Ask Dagster; whoever could ask gives a sign of life, whatever the broker says to that."""
        try:
            status = self.status_of(self.run_id)
        except Exception as error:
            _log.warning("run %s: Dagster's storage does not answer (%s)", self.run_id, type(error).__name__)
            return False
        if status is None or status in _END:
            return True
        self.wind_up(self.patience.fence_s)
        try:
            self.signs.beat(self.task_id)
        except RedisError as error:
            _log.warning("run %s: no sign of life could be given (%s)", self.run_id, type(error).__name__)
        return False
