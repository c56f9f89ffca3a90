"""One at a time: two requests for days of one market must not both find that nothing is being done.

Not here: what is done meanwhile (``beginning``).
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import IO

from mdp.api.problems import Problem, unavailable
from mdp.api.surroundings import Surroundings
from mdp.bus.live_leases import LiveLease
from mdp.domain.market import Market
from mdp.errors import BusUnavailable

_log = logging.getLogger(__name__)

_PATIENCE_S = 30.0
_LOOK_S = 0.05
_LEASE_S = 120.0
"""Longer than a launch can take; the lease of a service that died in the middle lapses then."""


@asynccontextmanager
async def alone(around: Surroundings, market: Market) -> AsyncIterator[None]:
    """Be the only one that launches backfills of a market.

    A lock file is for all services of this data directory, and a lease for those of other machines that share the bus.
    Without the bus the file alone must do.

    Raises:
        Problem: 503, somebody else is at it for long.
    """
    deadline = time.monotonic() + _PATIENCE_S
    file = await _locked(around, market, deadline)
    try:
        lease = await _leased(around, market, deadline)
        try:
            yield
        finally:
            if lease is not None:
                with suppress(BusUnavailable):
                    await lease.release()
    finally:
        file.close()


async def _locked(around: Surroundings, market: Market, deadline: float) -> IO[bytes]:
    folder = around.settings.run_dir / "generations"
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / f"{market}.lock".replace(":", "_")).open("ab")
    try:
        while True:
            with suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return file
            await _wait(market, deadline)
    except BaseException:
        file.close()
        raise


async def _leased(around: Surroundings, market: Market, deadline: float) -> LiveLease | None:
    try:
        while True:
            lease = await around.bus.lease(f"generate/{market}", uuid.uuid4().hex, for_s=_LEASE_S)
            if lease is not None:
                return lease
            await _wait(market, deadline)
    except BusUnavailable as error:
        _log.info("the bus is away, a backfill is launched without its lease: %s", error)
        return None


async def _wait(market: Market, deadline: float) -> None:
    if time.monotonic() > deadline:
        raise _busy(market)
    await asyncio.sleep(_LOOK_S)


def _busy(market: Market) -> Problem:
    return unavailable(f"another request is launching a backfill of {market}: ask again")
