"""The committed facts of ``data/reference``: when markets were listed, when exchanges were down.

Not here: what follows from a fact (``domain.gaps``).
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TypeVar

from mdp.config.settings import PROJECT_ROOT
from mdp.domain.gaps import Cause, Fact
from mdp.domain.interval import Interval, parse_time
from mdp.domain.market import Exchange, Market
from mdp.domain.timeframe import EPOCH
from mdp.errors import ConfigError

Row = TypeVar("Row")

REFERENCE_DIR = PROJECT_ROOT / "data" / "reference"


@dataclass(frozen=True, slots=True)
class Outage:
    """A stretch in which an exchange had no candles.

    Attributes:
        exchange: Whose.
        symbol_key: Whose candles are missing; empty when every symbol was hit.
        interval: The stretch, as exact as its source tells it.
        source: Where it is written, and how exact its bounds are.
    """

    exchange: Exchange
    symbol_key: str
    interval: Interval
    source: str = ""


@dataclass(frozen=True, slots=True)
class Reference:
    """What is known about the outside world.

    Attributes:
        listings: First candle of each market whose beginning is established.
        outages: Known outages, any order.
        listing_sources: Where the first candle of a market is written.
    """

    listings: dict[Market, datetime]
    outages: tuple[Outage, ...]
    listing_sources: Mapping[Market, str] = field(default_factory=dict)

    def listed_at(self, market: Market) -> datetime | None:
        """Return the first open time a market ever had; None when it is not established."""
        return self.listings.get(market)

    def outages_of(self, market: Market) -> list[Outage]:
        """Return the known outages that hit a market."""
        return [
            outage
            for outage in self.outages
            if outage.exchange == market.exchange and outage.symbol_key in ("", market.symbol_key)
        ]

    def facts_of(self, market: Market, first_slot: datetime | None) -> list[Fact]:
        """Return what is known of slots without candles of a market; the listing comes before the outages.

        Args:
            market: Whose.
            first_slot: First slot that a series can hold, given the market's first candle; None: not established.
        """
        outages = [
            Fact(outage.interval, Cause.EXCHANGE_OUTAGE, outage.source or None) for outage in self.outages_of(market)
        ]
        if first_slot is None or first_slot <= EPOCH:
            return outages
        listing = Fact(Interval(EPOCH, first_slot), Cause.BEFORE_LISTING, self.listing_sources.get(market))
        return [listing, *outages]


@cache
def load_reference(folder: Path = REFERENCE_DIR) -> Reference:
    """Read the reference facts.

    Raises:
        ConfigError: a file is missing, or a row of it cannot be understood; the message names file and line.
    """
    listings = list(_read(folder / "markets.csv", _listing))
    outages = tuple(_read(folder / "known_outages.csv", _outage))
    return Reference(
        {market: first for market, first, _ in listings if first is not None},
        outages,
        {market: source for market, _, source in listings},
    )


def _listing(row: dict[str, str]) -> tuple[Market, datetime | None, str]:
    first = row["first_open_time"]
    return Market.parse(row["market"]), parse_time(first) if first else None, row["source"]


def _outage(row: dict[str, str]) -> Outage:
    source = "; ".join(text for text in (row["source"], row.get("note")) if text)
    interval = Interval(parse_time(row["start"]), parse_time(row["end"]))
    return Outage(Exchange(row["exchange"]), row["symbol"], interval, source)


def _read(path: Path, understand: Callable[[dict[str, str]], Row]) -> Iterator[Row]:
    if not path.is_file():
        raise ConfigError(str(path), got="no such file", expected="the reference file of the project")
    with path.open(encoding="utf-8", newline="") as file:
        for number, row in enumerate(csv.DictReader(file), start=2):
            try:
                yield understand(row)
            except (ValueError, KeyError) as error:
                raise ConfigError(f"{path}, line {number}", got=dict(row), expected=str(error)) from error
