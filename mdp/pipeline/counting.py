"""What is counted of each write to a store and of each slice that was asked for.

Not here: the names (``counts``), writing (``batches``, ``live``).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from mdp.counts import COUNTS
from mdp.domain.market import Market
from mdp.errors import MdpError
from mdp.ports import Fetched, Table


@contextmanager
def counted_write(table: Table, rows: int) -> Iterator[None]:
    """Count a write, however it ends."""
    began = time.monotonic()
    outcome = "failed"
    try:
        yield
        outcome = "stored"
        COUNTS.add("mdp_store_rows", rows, table.name)
    except MdpError as error:
        outcome = type(error).__name__
        raise
    finally:
        COUNTS.add("mdp_store_writes", 1, table.name, outcome)
        COUNTS.add("mdp_store_seconds", time.monotonic() - began, table.name)


def count_unchanged(table: Table) -> None:
    """Count a write that was not needed: what is stored is the same."""
    COUNTS.add("mdp_store_writes", 1, table.name, "unchanged")


def count_collected(market: Market, fetched: Fetched) -> None:
    """Count a slice that came, and its candles by where they came from."""
    exchange = market.exchange.value
    COUNTS.add("mdp_fetch_slices", 1, exchange, "collected")
    COUNTS.add("mdp_fetch_candles", len(fetched.rows), exchange, "archive" if fetched.files else "rest")


def count_missed(market: Market, error: MdpError) -> None:
    """Count a slice that did not come."""
    COUNTS.add("mdp_fetch_slices", 1, market.exchange.value, type(error).__name__)
