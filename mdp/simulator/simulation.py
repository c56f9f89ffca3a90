"""Everything one simulated world consists of, put together from a few choices.

Not here: the HTTP service around it (``app``, ``server``).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from mdp.errors import InputError
from mdp.simulator.alterations import Alterations
from mdp.simulator.candles import DAY_MS
from mdp.simulator.clock import ClockMs, SimulatedClock, from_ms, require_speed, to_ms
from mdp.simulator.encoded_pages import PageCache
from mdp.simulator.history import History
from mdp.simulator.levels import END_DAY, FIRST_DAY
from mdp.simulator.lines import Lines
from mdp.simulator.quotas import Credits, RequestsPerWindow, Seconds, WeightPerMinute
from mdp.simulator.recorded_days import CARRIED, load_recorded_days
from mdp.simulator.request_log import RequestLog
from mdp.simulator.script import FaultScript
from mdp.simulator.stream_log import StreamLog
from mdp.simulator.volatility import VolatilityHistory

DEFAULT_SEED = 20_170_801

BYBIT_BAN_S = 600.0
RAW_REQUESTS = 300_000
DEFAULT_STREAM_RATE = 20.0


@dataclass(frozen=True, slots=True)
class Quotas:
    """What each exchange allows one address.

    Attributes:
        binance: Weight a minute.
        binance_raw: Requests in five minutes, whatever their weight.
        bybit: All requests.
        okx: Requests by endpoint, named by the end of its path.
        deribit: Credits.
    """

    binance: WeightPerMinute
    bybit: RequestsPerWindow
    okx: Mapping[str, RequestsPerWindow]
    deribit: Credits
    binance_raw: WeightPerMinute

    def describe(self) -> dict[str, object]:
        """Return the use of every quota by every address, as ``/control/quotas`` shows it."""
        return {
            "binance": {"REQUEST_WEIGHT": self.binance.describe(), "RAW_REQUESTS": self.binance_raw.describe()},
            "bybit": {"requests": self.bybit.describe()},
            "okx": {path: quota.describe() for path, quota in self.okx.items()},
            "deribit": {"credits": self.deribit.describe()},
        }

    @classmethod
    def real(cls, clock: Seconds | None = None) -> Quotas:
        """Return the documented quotas.

        Args:
            clock: The real time in seconds since the epoch, for tests; None: the clocks of this machine. Binance's
                windows begin at whole minutes of UTC, the others' whenever the first request comes.
        """
        utc, steady = clock or time.time, clock or time.monotonic
        okx = {
            "public/time": (10, 2.0),
            "public/instruments": (20, 2.0),
            "public/market-data-history": (5, 2.0),
            "market/candles": (40, 2.0),
            "market/history-candles": (20, 2.0),
            "system/status": (1, 5.0),
        }
        return cls(
            binance=WeightPerMinute(utc),
            bybit=RequestsPerWindow(steady, limit=600, window_s=5.0, ban_s=BYBIT_BAN_S),
            okx={path: RequestsPerWindow(steady, limit, window_s) for path, (limit, window_s) in okx.items()},
            deribit=Credits(steady),
            binance_raw=WeightPerMinute(utc, limit=RAW_REQUESTS, minutes=5),
        )


@dataclass(frozen=True, slots=True)
class Simulation:
    """One simulated world.

    Attributes:
        clock: Its time.
        seed: Seed of everything invented.
        history: Candles of the spot markets.
        volatility: Hours of the volatility indices.
        quotas: What each exchange allows.
        faults: The script of what goes wrong.
        alterations: What the script changes in candles.
        requests: What was asked.
        lines: Latency and bandwidth.
        pages: Pages ready to be sent.
        streams: Who is connected to the streams.
        stream_rate: Messages a real second that one market's stream has at most, however fast the clock is.
    """

    clock: ClockMs
    seed: int
    history: History
    volatility: VolatilityHistory
    quotas: Quotas
    faults: FaultScript
    alterations: Alterations
    requests: RequestLog = field(default_factory=RequestLog)
    lines: Lines = field(default_factory=Lines)
    pages: PageCache = field(default_factory=PageCache)
    streams: StreamLog = field(default_factory=StreamLog)
    stream_rate: float = DEFAULT_STREAM_RATE

    def set_now(self, now: datetime | None = None, speed: float | None = None) -> None:
        """Move the simulated clock, or change its speed; it goes on from there.

        Args:
            now: None: it shows what it shows.
            speed: Simulated seconds in a real one; None: as before.

        Raises:
            InputError: the time is not simulated, the speed is not one from 0.01 to 1000, or the clock is one that
                cannot be moved.
        """
        if not isinstance(self.clock, SimulatedClock):
            raise InputError("now", got=str(now), expected="a simulator whose clock can be moved")
        self.clock.set(None if now is None else require_simulated(now, "now"), speed)
        self.pages.clear()


def build_simulation(
    *,
    data_dir: Path | None = None,
    now: datetime | None = None,
    seed: int = DEFAULT_SEED,
    clock: ClockMs | None = None,
    quotas: Quotas | None = None,
    speed: float = 1.0,
    stream_rate: float = DEFAULT_STREAM_RATE,
) -> Simulation:
    """Put a world together.

    Args:
        data_dir: Folder of recorded days; None: those that come with the package.
        now: UTC time at which the simulated clock starts; None: the wall clock.
        seed: Seed of everything invented; equal seeds give equal worlds.
        clock: The simulated clock itself, for tests; ``now`` is then not used.
        quotas: What each exchange allows; None: what the real ones do.
        speed: Simulated seconds in a real one.
        stream_rate: Messages a real second that one market's stream has at most.

    Raises:
        InputError: ``data_dir`` is missing or damaged, ``now`` lies outside the simulated years, or ``speed`` is not
            one from 0.01 to 1000.
    """
    if clock is None and now is not None:
        require_simulated(now, "--now")
    faults, history = FaultScript(), History(seed, load_recorded_days(data_dir or CARRIED))
    shown = clock or SimulatedClock(now, require_speed(speed, "--speed"))
    return Simulation(
        clock=shown,
        seed=seed,
        history=history,
        volatility=VolatilityHistory(seed),
        quotas=quotas or Quotas.real(),
        faults=faults,
        alterations=Alterations(faults, history, shown),
        stream_rate=stream_rate,
    )


def require_simulated(moment: datetime, name: str) -> datetime:
    """Return a moment that lies inside the simulated years.

    Raises:
        InputError: it does not; the message begins with ``name``.
    """
    first_ms, end_ms = FIRST_DAY * DAY_MS, END_DAY * DAY_MS
    if not first_ms <= to_ms(moment) < end_ms:
        expected = f"a time from {from_ms(first_ms):%Y-%m-%d} to before {from_ms(end_ms):%Y-%m-%d}"
        raise InputError(name, got=str(moment), expected=expected)
    return moment
