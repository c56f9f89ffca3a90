"""What became of what feeds told: a report of each market, and of the whole.

Not here: finding it out (``live``), showing it (``defs``, ``cli``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from mdp.domain.market import Market
from mdp.errors import MdpError, StorageError


@dataclass(frozen=True, slots=True)
class MarketKept:
    """What became of one market's entries.

    Attributes:
        market: Whose.
        entries: Taken, repetitions among them.
        stored: Minutes that were not there before; of an index the minutes that its candles gave a value.
        first_open_time: Of the minutes that were stored or revised; None without any.
        last_open_time: The same for the last.
        revised: Stored minutes that were replaced by other values; of an index its candles.
        unchanged: Told again, saying what is stored.
        superseded: Told, while what is stored is known better.
        left: Differing from what a day says that was collected after it ended; healing asks again.
        rejected: Rows by the rule they broke; each row that was not kept before counts.
        absent: Slots that were seen missing, and of which that was not recorded.
        buckets: Longer candles that were made or made again.
        hours_left: Hours of an index whose minutes are not all confirmed: the nightly job asks for them.
        refused: Candles and slots whose time cannot be.
        newest_open_time: Of the good minutes that were told; None without any.
        lag_s: Seconds of the market from the close of that minute to this report; None without any.
    """

    market: Market
    entries: int = 0
    stored: int = 0
    first_open_time: datetime | None = None
    last_open_time: datetime | None = None
    revised: int = 0
    unchanged: int = 0
    superseded: int = 0
    left: int = 0
    rejected: Mapping[str, int] = field(default_factory=dict)
    absent: int = 0
    buckets: int = 0
    hours_left: int = 0
    refused: int = 0
    newest_open_time: datetime | None = None
    lag_s: float | None = None


@dataclass(frozen=True, slots=True)
class Kept:
    """What became of some entries: all of it is durable.

    Attributes:
        markets: Each market that was told of, ascending.
        at: When it was stored, by the market's clock.
        took_s: Real seconds that storing took.
    """

    markets: tuple[MarketKept, ...]
    at: datetime
    took_s: float = 0.0

    def total(self, name: str) -> int:
        """Add up a count of all markets, such as ``stored``; of ``rejected`` the rows by rule."""
        counts = (getattr(one, name) for one in self.markets)
        return sum(sum(count.values()) if isinstance(count, Mapping) else count for count in counts)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a person should know, one sentence each; empty as a rule."""
        return tuple(said for one in self.markets for said in _warnings(one))


class NotKept(StorageError):
    """Some markets' entries could not be stored; those of all others are. Theirs must be taken again.

    Attributes:
        kept: What became of the others: their entries may be acknowledged.
        failures: The markets, and why.
    """

    def __init__(self, kept: Kept, failures: Mapping[Market, MdpError]) -> None:
        listed = "; ".join(f"{market}: {error}" for market, error in sorted(failures.items()))
        super().__init__(f"not stored: {listed}; what was told of other markets is stored")
        self.kept = kept
        self.failures = dict(failures)
        self.retryable = any(error.retryable for error in failures.values())


def _warnings(one: MarketKept) -> list[str]:
    said = []
    if one.rejected:
        rules = ", ".join(f"{rule} {count}" for rule, count in sorted(one.rejected.items()))
        said.append(f"{one.market}: rows that break a rule were set aside: {rules}")
    if one.revised:
        said.append(f"{one.market}: {one.revised} stored candles were revised")
    if one.absent:
        said.append(f"{one.market}: the exchange gives no candle of {one.absent} minutes")
    if one.left:
        said.append(f"{one.market}: {one.left} minutes differ from a day already collected; `mdp heal` asks again")
    if one.refused:
        said.append(f"{one.market}: {one.refused} candles or slots of an impossible time were refused")
    return said
