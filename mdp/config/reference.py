"""The committed facts of ``data/reference``: when markets were listed, when exchanges were down.

Not here: what follows from a fact (``domain.gaps``).
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TypeVar

from mdp.config.settings import PROJECT_ROOT
from mdp.domain.interval import Interval, parse_time
from mdp.domain.market import Exchange, Market
from mdp.errors import ConfigError

Fact = TypeVar("Fact")

REFERENCE_DIR = PROJECT_ROOT / "data" / "reference"


@dataclass(frozen=True, slots=True)
class Outage:
    """A stretch in which an exchange had no candles; ``symbol_key`` is empty when every symbol was hit."""

    exchange: Exchange
    symbol_key: str
    interval: Interval


@dataclass(frozen=True, slots=True)
class Reference:
    """What is known about the outside world.

    Attributes:
        listings: First candle of each market whose beginning is established.
        outages: Known outages, any order.
    """

    listings: dict[Market, datetime]
    outages: tuple[Outage, ...]

    def listed_at(self, market: Market) -> datetime | None:
        """Return the first open time a market ever had; None when it is not established."""
        return self.listings.get(market)

    def outages_of(self, market: Market) -> list[Interval]:
        """Return the known outages that hit a market."""
        return [
            outage.interval
            for outage in self.outages
            if outage.exchange == market.exchange and outage.symbol_key in ("", market.symbol_key)
        ]


@cache
def load_reference(folder: Path = REFERENCE_DIR) -> Reference:
    """Read the reference facts.

    Raises:
        ConfigError: a file is missing, or a row of it cannot be understood; the message names file and line.
    """
    listings = dict(_read(folder / "markets.csv", _listing))
    outages = tuple(_read(folder / "known_outages.csv", _outage))
    return Reference({market: first for market, first in listings.items() if first is not None}, outages)


def _listing(row: dict[str, str]) -> tuple[Market, datetime | None]:
    first = row["first_open_time"]
    return Market.parse(row["market"]), parse_time(first) if first else None


def _outage(row: dict[str, str]) -> Outage:
    return Outage(Exchange(row["exchange"]), row["symbol"], Interval(parse_time(row["start"]), parse_time(row["end"])))


def _read(path: Path, understand: Callable[[dict[str, str]], Fact]) -> Iterator[Fact]:
    if not path.is_file():
        raise ConfigError(str(path), got="no such file", expected="the reference file of the project")
    with path.open(encoding="utf-8", newline="") as file:
        for number, row in enumerate(csv.DictReader(file), start=2):
            try:
                yield understand(row)
            except (ValueError, KeyError) as error:
                raise ConfigError(f"{path}, line {number}", got=dict(row), expected=str(error)) from error
