"""The budgets of one process: opened once, one for each exchange that is asked.

Not here: how leave is given (``desk``), the server (``keeper``).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from mdp.bus.address import bus_address
from mdp.bus.counting import Counting
from mdp.bus.desk import Desk
from mdp.bus.keeping import Share
from mdp.bus.outage import CoolDowns, Outage
from mdp.bus.shared import SharedCount
from mdp.bus.terms import Terms, require_quotas
from mdp.config.masking import masked
from mdp.config.settings import Settings
from mdp.domain.market import Exchange
from mdp.domain.quota import Priority, Quota
from mdp.ports import Budget

RETRY_S, OWN_RETRY_S = 1.0, 0.2
"""How often a lost bus is tried: one on a network, and the one of this machine, which costs nothing."""


HAND_OVER_S = 1.5
"""In so long another process has taken over a server of this machine."""


class Budgets:
    """Budgets that all processes with the same bus share. Nothing is started before the first request.

    Safe to use from any thread; a budget itself belongs to the event loop that uses it first. Close it, or use it in
    ``with``: the server of ``bus_dir`` ends then, if this process keeps it. At the end of the interpreter it
    does by itself.

    Args:
        settings: Where the bus is, and the name of the address from which requests leave.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._address = bus_address(settings)
        self._cool_downs = CoolDowns()
        # so many processes work at the same time: their parts must not add up to more than our share
        self._part = min(settings.bus.fallback_share, 1 / settings.workers)
        self._outage = Outage(
            masked(settings.bus.url) if settings.bus.url else str(settings.bus_dir / "bus"),
            self._part,
            patience_s=0.0 if self._address.keeps is None else HAND_OVER_S,
        )
        self._share: Share | None = None
        self._lock = threading.Lock()

    def of(
        self,
        exchange: Exchange,
        quotas: Sequence[Quota],
        *,
        host: str,
        rate_share: float,
        symbol_shares: Mapping[str, float],
        timeout_s: float,
        priority: Priority = Priority.BACKFILL,
    ) -> Budget:
        """Return the budget of one exchange.

        Args:
            exchange: Who is asked.
            quotas: Its quotas by address, at least one.
            host: Host, and port where it is not the usual one, that is asked.
            rate_share: Share of each that this environment may use, above 0 and up to 1.
            symbol_shares: Share of that for a symbol, such as ``{"BTC-USDT": 0.5}``; others may use all of it.
            timeout_s: Seconds until a request without an answer has failed: so long its room is kept should this
                process die.
            priority: Live requests go before backfills of any process.

        Raises:
            InputError: quotas that cannot be counted.
        """
        terms = Terms(
            exchange,
            host,
            self._settings.env,
            require_quotas(quotas),
            rate_share,
            dict(symbol_shares),
            timeout_s,
            priority,
        )
        counting = Counting(
            terms,
            SharedCount(self._address, self._settings.bus.egress, terms),
            outage=self._outage,
            cool_downs=self._cool_downs,
            part=self._part,
            retry_s=RETRY_S if self._address.keeps is None else OWN_RETRY_S,
            ready=self._be_ready,
        )
        return Desk(terms, counting, self._cool_downs)

    def close(self) -> None:
        """End the server, if this process keeps it; budgets that are still used go on without."""
        with self._lock:
            share, self._share = self._share, None
        if share is not None:
            share.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def _be_ready(self) -> None:
        if self._address.keeps is None:
            return
        with self._lock:
            if self._share is None:
                self._share = Share(self._address.keeps)
            share = self._share
        await asyncio.to_thread(share.wait_until_ready)


def open_budgets(settings: Settings) -> Budgets:
    """Return the budgets of these settings; nothing is started before the first request.

    Raises:
        ConfigError: the folder for the bus's socket belongs to somebody else.
    """
    return Budgets(settings)


def local_budget(
    exchange: Exchange,
    quotas: Sequence[Quota],
    *,
    rate_share: float = 1.0,
    symbol_shares: Mapping[str, float] | None = None,
    timeout_s: float = 10.0,
) -> Budget:
    """Return a budget of this process alone: no bus, no server, the whole share; for embedding and tests.

    Raises:
        InputError: quotas that cannot be counted.
    """
    terms = Terms(
        exchange,
        "local",
        "local",
        require_quotas(quotas),
        rate_share,
        symbol_shares or {},
        timeout_s,
        Priority.BACKFILL,
    )
    cool_downs = CoolDowns()
    counting = Counting(terms, None, outage=Outage("none", 1.0), cool_downs=cool_downs, part=1.0)
    return Desk(terms, counting, cool_downs)
