"""What an exchange refused for good, so that it is not asked again as long as a source is open.

Not here: which answers are such refusals (each exchange's ``client``).
"""

from __future__ import annotations

from mdp.domain.market import Market
from mdp.errors import RequestRejected
from mdp.exchanges.verdicts import Reach


class Refusals:
    """Remembers refusals of a whole exchange and of single markets."""

    def __init__(self) -> None:
        self._by_market: dict[Market | None, RequestRejected] = {}

    def remember(self, error: RequestRejected, reach: Reach, market: Market | None) -> None:
        """Keep a refusal that reaches further than its own request.

        Args:
            error: What was said.
            reach: How far it goes.
            market: What the request was about; None: about none.
        """
        if reach is Reach.EXCHANGE:
            self._by_market[None] = error
        elif reach is Reach.MARKET and market is not None:
            self._by_market[market] = error

    def check(self, market: Market | None) -> None:
        """Let pass what was not refused.

        Raises:
            RequestRejected: it would be refused again; says what the exchange said then.
        """
        error = self._by_market.get(None) or self._by_market.get(market)
        if error is not None:
            said = str(error).removeprefix(f"{error.exchange}: ")
            raise RequestRejected(error.exchange, f"{said}; it was refused before and is not asked again") from error
