"""The settings of one exchange, and what all have in common.

Not here: how they are found (``settings``), the other sections (``sections``).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mdp.config.fields import Share, Strict, Url
from mdp.domain.market import Exchange


class ExchangeSettings(Strict):
    """One exchange: where it is and how hard we may ask.

    Attributes:
        rest_url: Scheme, host and prefix in front of the exchange's own paths such as ``/api/v3/klines``. None: the
            simulator where exchanges are simulated, else the address of ``MDP_EXCHANGES__NETWORK``. An exchange that
            has one of its own is asked at addresses of its own alone.
        ws_url: The same for its WebSocket.
        archive_url: The same for its bulk files.
        demo: Whether requests say that they are of demo trading, where an exchange tells it by a header: OKX. On the
            network ``paper`` they always do.
        timeout_s: Seconds until a request without an answer counts as failed.
        pages_in_flight: Requests of one process to this exchange that may wait for an answer at the same time.
        rate_share: Share of the exchange's quota for this address that we may use.
        symbol_shares: Share of what we may use that one symbol may take, such as ``{"BTC-USDT": 0.5}``; others: all.
        archives: Whether bulk files are asked before REST, where the exchange publishes them.
        settle_s: Seconds after its close until a candle counts as finished.
        attempts: How often a request is tried before its failure is reported.
        failures_to_open: Failures in a row after which nobody asks the exchange for a while.
        probe_after_s: Seconds until a single request may try whether it is back.
        bandwidth_share: Share of ``MDP_EXCHANGES__BANDWIDTH_MBIT`` that answers and files of this exchange may take.
    """

    rest_url: Url | None = None
    ws_url: Url | None = None
    archive_url: Url | None = None
    demo: bool = False
    timeout_s: Annotated[float, Field(gt=0, le=120)] = 10
    pages_in_flight: Annotated[int, Field(ge=1, le=64)] = 16
    rate_share: Share = 0.8
    symbol_shares: dict[str, Share] = Field(default_factory=dict)
    archives: bool = True
    settle_s: Annotated[float, Field(ge=0, le=600)] = 10
    attempts: Annotated[int, Field(ge=1, le=10)] = 4
    failures_to_open: Annotated[int, Field(ge=1, le=1_000)] = 8
    probe_after_s: Annotated[float, Field(gt=0, le=3_600)] = 15
    bandwidth_share: Share = 1.0


class ExchangesSettings(Strict):
    """The exchanges by name, and what they have in common.

    Attributes:
        network: Which addresses an exchange has that names none of its own, where exchanges are not simulated:
            ``real``, or ``paper``, the ones for demo trading (``mdp/config/endpoints.toml``).
        bandwidth_mbit: Million bits a second that all backfills of this data directory together may receive on one
            machine. None: no limit. Live is never held back.
    """

    network: Literal["real", "paper"] = "real"
    bandwidth_mbit: Annotated[float, Field(gt=0, le=100_000)] | None = None
    binance: ExchangeSettings = ExchangeSettings()
    bybit: ExchangeSettings = ExchangeSettings()
    okx: ExchangeSettings = ExchangeSettings()
    deribit: ExchangeSettings = ExchangeSettings()

    def of(self, exchange: Exchange) -> ExchangeSettings:
        """Return the settings of one exchange."""
        found: ExchangeSettings = getattr(self, exchange.value)
        return found
