"""What an exchange refused for good, so that it is not asked again as long as a source is open, or for a while.

Not here: which answers are such refusals (each exchange's ``client``).
"""

from __future__ import annotations

import math
from time import monotonic

from mdp.domain.market import Market
from mdp.errors import RequestRejected
from mdp.exchanges.verdicts import Reach


class Refusals:
    """Remembers refusals of a whole exchange and of single markets.

    Args:
        last_s: How long. A source that is never closed asks again: a refusal may have been a mishap of a moment.
    """

    def __init__(self, last_s: float = math.inf) -> None:
        self._last_s = last_s
        self._by_market: dict[Market | None, tuple[RequestRejected, float]] = {}

    def remember(self, error: RequestRejected, reach: Reach, market: Market | None) -> None:
        """Keep a refusal that reaches further than its own request.

        Args:
            error: What was said.
            reach: How far it goes.
            market: What the request was about; None: about none.
        """
        if reach is Reach.EXCHANGE:
            self._by_market[None] = (error, monotonic() + self._last_s)
        elif reach is Reach.MARKET and market is not None:
            self._by_market[market] = (error, monotonic() + self._last_s)

    def check(self, market: Market | None) -> None:
        """Let pass what was not refused.

        Raises:
            RequestRejected: it would be refused again; says what the exchange said then.
        """
        for about in (None, market):
            error, until = self._by_market.get(about, (None, 0.0))
            if error is None:
                continue
            if monotonic() >= until:
                del self._by_market[about]
                continue
            said = str(error).removeprefix(f"{error.exchange}: ")
            raise RequestRejected(error.exchange, f"{said}; it was refused before and is not asked again") from error
