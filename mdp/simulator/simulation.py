"""Everything one simulated world consists of, put together from a few choices.

Not here: the HTTP service around it (``app``, ``server``).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from mdp.errors import InputError
from mdp.simulator.candles import DAY_MS
from mdp.simulator.clock import ClockMs, clock_from, from_ms, to_ms
from mdp.simulator.history import History
from mdp.simulator.levels import END_DAY, FIRST_DAY
from mdp.simulator.quotas import Credits, RequestsPerWindow, Seconds, WeightPerMinute
from mdp.simulator.recorded_days import CARRIED, load_recorded_days
from mdp.simulator.volatility import VolatilityHistory

DEFAULT_SEED = 20_170_801

BYBIT_BAN_S = 600.0


@dataclass(frozen=True, slots=True)
class Quotas:
    """What each exchange allows one address.

    Attributes:
        binance: Weight a minute.
        bybit: All requests.
        okx: Requests by endpoint, named by the end of its path.
        deribit: Credits.
    """

    binance: WeightPerMinute
    bybit: RequestsPerWindow
    okx: Mapping[str, RequestsPerWindow]
    deribit: Credits

    @classmethod
    def real(cls, clock: Seconds = time.monotonic) -> Quotas:
        """Return the documented quotas."""
        okx = {
            "public/time": (10, 2.0),
            "public/instruments": (20, 2.0),
            "market/candles": (40, 2.0),
            "market/history-candles": (20, 2.0),
            "system/status": (1, 5.0),
        }
        return cls(
            binance=WeightPerMinute(clock),
            bybit=RequestsPerWindow(clock, limit=600, window_s=5.0, ban_s=BYBIT_BAN_S),
            okx={path: RequestsPerWindow(clock, limit=limit, window_s=length) for path, (limit, length) in okx.items()},
            deribit=Credits(clock),
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
    """

    clock: ClockMs
    seed: int
    history: History
    volatility: VolatilityHistory
    quotas: Quotas


def build_simulation(
    *,
    data_dir: Path | None = None,
    now: datetime | None = None,
    seed: int = DEFAULT_SEED,
    clock: ClockMs | None = None,
    quotas: Quotas | None = None,
) -> Simulation:
    """Put a world together.

    Args:
        data_dir: Folder of recorded days; None: those that come with the package.
        now: UTC time at which the simulated clock starts; None: the wall clock.
        seed: Seed of everything invented; equal seeds give equal worlds.
        clock: The simulated clock itself, for tests; ``now`` is then not used.
        quotas: What each exchange allows; None: what the real ones do.

    Raises:
        InputError: ``data_dir`` is missing or damaged, or ``now`` lies outside the simulated years.
    """
    first_ms, end_ms = FIRST_DAY * DAY_MS, END_DAY * DAY_MS
    started = to_ms(now) if now is not None else clock_from(None)()
    if clock is None and not first_ms <= started < end_ms:
        expected = f"a time from {from_ms(first_ms):%Y-%m-%d} to before {from_ms(end_ms):%Y-%m-%d}"
        raise InputError("--now", got=str(now or "the wall clock"), expected=expected)
    return Simulation(
        clock=clock or clock_from(now),
        seed=seed,
        history=History(seed, load_recorded_days(data_dir or CARRIED)),
        volatility=VolatilityHistory(seed),
        quotas=quotas or Quotas.real(),
    )
