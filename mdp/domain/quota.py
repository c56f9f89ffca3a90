"""How often one address may ask an exchange, and what an answer says about it. Pure.

Not here: which quotas an exchange has (each exchange's ``quota``), counting them for all processes (``bus``).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Priority(StrEnum):
    """Who goes first when not all may ask: what is live does, and a backfill waits."""

    LIVE = "live"
    BACKFILL = "backfill"


@dataclass(frozen=True, slots=True)
class Quota:
    """One limit of an exchange: so much in any window of so many seconds, by address.

    Attributes:
        name: What is counted, such as ``weight`` or ``market/history-candles``; unique within the exchange.
        amount: How much of it, in the exchange's own unit.
        window_s: Length of the window, whenever it starts.
        is_calendar: Whether the exchange counts by whole windows of its own clock (Binance: minutes), so that what an
            answer reports counts from the start of such a window.
    """

    name: str
    amount: float
    window_s: float
    is_calendar: bool = False


@dataclass(frozen=True, slots=True)
class Usage:
    """What an answer reports of a quota.

    Attributes:
        quota: Its name.
        used: How much of it this address has used in the current window, whoever asked; None where not told.
        left: How much is left; None where not told.
        resets_in_s: Seconds until it is whole again; None where not told.
    """

    quota: str
    used: float | None = None
    left: float | None = None
    resets_in_s: float | None = None
