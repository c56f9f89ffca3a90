"""What all budgets of one process know together: whether the bus is there, and which exchange must be left alone.

Used from any thread. Not here: counting.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

_log = logging.getLogger(__name__)


class CoolDown(NamedTuple):
    """Nobody asks until then, on the monotonic clock."""

    until: float
    reason: str


@dataclass(slots=True)
class Outage:
    """Says once that the bus is gone and once that it is back, however many budgets notice.

    Attributes:
        where: The bus, for people.
        part: What each process takes meanwhile, for people.
        patience_s: What is back so soon is not worth a warning: another process took over.
    """

    where: str
    part: float
    patience_s: float = 0.0
    _why: str = ""
    _since: float | None = None
    _is_said: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begins(self, why: str, since: float) -> None:
        """The bus cannot be reached since then, on the monotonic clock; it never could: 0."""
        with self._lock:
            if self._since is None:
                self._since, self._why = since, why
        self.goes_on()

    def goes_on(self) -> None:
        """It still cannot; say so once, when patience is at its end."""
        with self._lock:
            is_over = self._since is not None and time.monotonic() - self._since >= self.patience_s
            is_first = is_over and not self._is_said
            self._is_said = self._is_said or is_over
        if is_first:
            _log.warning(
                "the bus (%s) cannot be reached: %s; every process goes on with %g of its share",
                self.where,
                self._why,
                self.part,
            )

    def ends(self) -> None:
        """Say that it is back."""
        with self._lock:
            was_said, self._is_said, self._since = self._is_said, False, None
        if was_said:
            _log.warning("the bus (%s) is back; requests are counted together again", self.where)


class CoolDowns:
    """The cool-downs that this process knows of, by the name an exchange is counted under; they outlive the bus."""

    def __init__(self) -> None:
        self._known: dict[str, CoolDown] = {}
        self._listeners: dict[str, list[Callable[[], None]]] = {}
        self._lock = threading.Lock()

    def of(self, name: str) -> CoolDown | None:
        """Return the present cool-down of an exchange."""
        found = self._known.get(name)
        return found if found is not None and found.until > time.monotonic() else None

    def lasts(self, name: str, seconds: float, reason: str) -> None:
        """Remember one; the longest of all counts."""
        until = time.monotonic() + seconds
        with self._lock:
            found = self._known.get(name)
            # what comes back from the bus differs by the time it travelled
            if found is not None and found.until >= until - 0.05:
                return
            self._known[name] = CoolDown(until, reason)
            listeners = list(self._listeners.get(name, ()))
        for listener in listeners:
            listener()

    def listen(self, name: str, listener: Callable[[], None]) -> None:
        """Call ``listener``, from any thread, when one begins or grows longer."""
        with self._lock:
            self._listeners.setdefault(name, []).append(listener)

    def forget(self, name: str, listener: Callable[[], None]) -> None:
        """Call it no more."""
        with self._lock:
            if listener in self._listeners.get(name, ()):
                self._listeners[name].remove(listener)
