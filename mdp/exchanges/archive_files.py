"""What a bulk file is to us, and what every exchange's archive can tell.

Not here: any exchange's own (its ``archive``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

import polars as pl

from mdp.domain.interval import Interval
from mdp.domain.market import Exchange, Market

Fetch = Callable[[str], Coroutine[Any, Any, bytes | None]]
"""Gives what is at a path of the archive; None where nothing is."""


@dataclass(frozen=True, slots=True)
class BulkFile:
    """A file that an exchange ought to have.

    Attributes:
        path: Below the archive's address.
        window: The candles it is about.
        wanted: Those of them that are taken from it; the wanted parts of the files of one fetch do not overlap.
        checksum_path: Where its SHA-256 is published; None: nowhere.
    """

    path: str
    window: Interval
    wanted: Interval
    checksum_path: str | None = None


@dataclass(slots=True)
class Effort:
    """What a fetch has cost so far.

    Attributes:
        requests: Requests to the exchange's API that were answered; files are none.
        waited_s: Seconds they waited for the budget.
        retried: Why something was asked again, by name of our error, and how often.
    """

    requests: int = 0
    waited_s: float = 0.0
    retried: Counter[str] = field(default_factory=Counter)


class Archive(Protocol):
    """What is particular to one exchange's archive.

    Attributes:
        exchange: Whose.
        page_slots: Candles in one answer of its REST API: missing ones that are no further apart are asked together.
    """

    exchange: Exchange
    page_slots: int

    async def list_files(self, market: Market, days: Interval, now: datetime, effort: Effort) -> list[BulkFile]:
        """Return the files that ought to hold some whole UTC days, as many of these as are published by now.

        Raises:
            ExchangeError: it cannot be told.
        """
        ...

    async def files_instead(self, market: Market, missing: BulkFile, now: datetime, fetch: Fetch) -> list[BulkFile]:
        """Return shorter files in the place of one that is not there; none where there are none either.

        Raises:
            ExchangeError: it cannot be told.
        """
        ...

    def parse_checksum(self, text: bytes, path: str) -> str:
        """Read a published SHA-256; raises ``PayloadError``."""
        ...

    def parse_file(self, text: bytes, market: Market, path: str, received_at: datetime) -> pl.DataFrame:
        """Turn what is inside a file into a table of ``ANSWER_SCHEMA``; raises ``PayloadError``."""
        ...
