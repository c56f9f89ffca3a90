"""The market's time: the machine's, or that of a simulator, which may run faster and stand in another year.

Not here: how far an exchange's clock is from ours (``clocks``), the simulator's clock itself (``simulator``).
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.client import HTTPException
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, build_opener

import msgspec

from mdp.domain.market import Exchange
from mdp.domain.timeframe import EPOCH
from mdp.errors import ExchangeUnavailable
from mdp.ports import MarketClock

_log = logging.getLogger(__name__)

READ_AGAIN_S = 2.0
"""How often the simulator is asked whether its clock was set."""

_TIMEOUT_S = 3.0
_LOOPBACK = ("127.0.0.1", "localhost", "::1")

# straight there: a proxy of the environment has no way to this machine
_opener = build_opener(ProxyHandler({}))


class MachineClock:
    """The machine's clock, UTC."""

    speed = 1.0

    def __call__(self) -> datetime:
        """Tell the UTC time."""
        return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class _Reading:
    """The simulated time at an instant of our monotonic clock; as ``/control/clock`` tells it."""

    now_ms: float
    monotonic_ns: int
    speed: float

    def at(self, monotonic_ns: int) -> datetime:
        return EPOCH + timedelta(milliseconds=self.now_ms + (monotonic_ns - self.monotonic_ns) * self.speed / 1e6)


class _Told(msgspec.Struct):
    now_ms: int
    monotonic_ns: int
    speed: float


class SimulatedClock:
    """A simulator's clock, computed here; asked now and then, in a thread, whether it was set.

    It goes on while the simulator is away.

    Args:
        exchange: On whose behalf it is asked.
        url: ``/control/clock`` of the simulator.

    Raises:
        ExchangeUnavailable: it does not answer.
    """

    def __init__(self, exchange: Exchange, url: str) -> None:
        self._exchange = exchange
        self._url = url
        self._reading = self._read()
        self._read_at = time.monotonic()

    def __call__(self) -> datetime:
        """Tell the simulated UTC time."""
        if time.monotonic() - self._read_at > READ_AGAIN_S:
            self._read_at = time.monotonic()
            threading.Thread(target=self._read_again, name="mdp-simulated-clock", daemon=True).start()
        return self._reading.at(time.monotonic_ns())

    @property
    def speed(self) -> float:
        """How many of its seconds pass in one of ours."""
        return self._reading.speed

    def _read_again(self) -> None:
        try:
            self._reading = self._read()
        except ExchangeUnavailable as error:
            _log.debug("the simulated clock goes on unread: %s", error)

    def _read(self) -> _Reading:
        before = time.monotonic_ns()
        try:
            with _opener.open(self._url, timeout=_TIMEOUT_S) as answer:
                told = msgspec.json.decode(answer.read(), type=_Told)
        except (OSError, HTTPException, msgspec.DecodeError) as error:
            if isinstance(error, HTTPError):
                error.close()
            raise ExchangeUnavailable(
                self._exchange.value, f"{self._url}: expected the simulator's clock, got: {error}"
            ) from error
        after = time.monotonic_ns()
        # one of another machine counts from another beginning: it read its clock in the middle, as far as we can tell
        is_ours = urlsplit(self._url).hostname in _LOOPBACK and before <= told.monotonic_ns <= after
        return _Reading(told.now_ms, told.monotonic_ns if is_ours else (before + after) // 2, told.speed)


def read_simulated_clock(exchange: Exchange, rest_url: str) -> MarketClock:
    """Return the clock of the simulator that has an exchange at ``rest_url``.

    Raises:
        ExchangeUnavailable: it does not answer.
    """
    url = urlsplit(rest_url)
    return SimulatedClock(exchange, f"{url.scheme}://{url.netloc}/control/clock")
