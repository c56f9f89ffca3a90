"""Binance's bulk files: which there are for a window, where they are, what their lines say.

Source: github.com/binance/binance-public-data, README, 2026-07. Not here: fetching them (``archive_downloads``), when
they are asked (``archive_first``).
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta

import polars as pl

from mdp.domain.interval import DAY, Interval
from mdp.domain.market import Exchange, Market
from mdp.exchanges.archive_content import Layout, read_csv, refuse, to_answer
from mdp.exchanges.archive_files import BulkFile, Effort, Fetch
from mdp.exchanges.binance.pager import MAX_ROWS
from mdp.exchanges.binance.parse import FIELDS
from mdp.exchanges.symbols import to_market_id

LAYOUT = Layout(
    Exchange.BINANCE,
    FIELDS,
    {
        "open_time": ("open_time", pl.Int64()),
        **{name: (name, pl.Float64()) for name in ("open", "high", "low", "close", "volume", "quote_volume")},
        "trades": ("trades", pl.Int64()),
    },
)
"""The columns of REST, in the same order."""

_CHECKSUM = re.compile(r"([0-9a-fA-F]{64})[ \t]+\*?(\S+)\s*")
_LATEST = timedelta(days=7)
"""After the end of a day, its file is there or will never be. Chosen: days come the next day, as far as is known."""


class BinanceArchive:
    """Binance's bulk files of minutes; see ``archive_files.Archive``."""

    exchange = Exchange.BINANCE
    page_slots = MAX_ROWS

    async def list_files(
        self,
        market: Market,
        days: Interval,
        now: datetime,
        effort: Effort,  # noqa: ARG002 nothing is asked: the names follow from the dates
    ) -> list[BulkFile]:
        """Return one file for each month of which all is wanted, else one for each day."""
        return list_files(market, days, now)

    async def files_instead(self, market: Market, missing: BulkFile, now: datetime, fetch: Fetch) -> list[BulkFile]:
        """Return the daily files of a month that has no file of its own.

        None where the last day has no file either, although it would be there by now: the archive has nothing of that
        month, as of those before the listing, and asking for each of its days would be in vain.
        """
        if missing.window.duration == DAY:
            return []
        days = [daily(market, day) for day in missing.window.days()]
        is_due = now >= missing.window.end + _LATEST
        return [] if is_due and await fetch(str(days[-1].checksum_path)) is None else days

    def parse_checksum(self, text: bytes, path: str) -> str:
        """Read a CHECKSUM file."""
        return parse_checksum(text, path)

    def parse_file(self, text: bytes, market: Market, path: str, received_at: datetime) -> pl.DataFrame:
        """Read what is inside a zip."""
        return parse_file(text, market, path, received_at)


def list_files(market: Market, days: Interval, now: datetime) -> list[BulkFile]:
    """Return the files that ought to hold some whole days: one a month where all of it is wanted, else one a day.

    A month is published on the first Monday of the next one, a day on the next day.

    Args:
        market: Whose candles.
        days: Whole UTC days.
        now: Our time.

    Returns:
        Files whose windows lie inside ``days`` and do not overlap, ascending; none for a day that is not over.
    """
    files = []
    for part in days.months():
        month_end = next(Interval(part.start, part.start + 32 * DAY).months()).end
        first_monday = month_end + timedelta(days=-month_end.weekday() % 7)
        if part.start.day == 1 and part.end == month_end and now >= first_monday:
            files.append(monthly(market, part))
        else:
            files += [daily(market, day) for day in part.days() if day.end <= now]
    return files


def monthly(market: Market, month: Interval) -> BulkFile:
    """Return the file of a UTC month."""
    return _file(market, month, "monthly", f"{month.start:%Y-%m}")


def daily(market: Market, day: Interval) -> BulkFile:
    """Return the file of a UTC day."""
    return _file(market, day, "daily", f"{day.start:%Y-%m-%d}")


def _file(market: Market, window: Interval, kind: str, spelled: str) -> BulkFile:
    market_id = to_market_id(market)
    path = f"data/spot/{kind}/klines/{market_id}/1m/{market_id}-1m-{spelled}.zip"
    return BulkFile(path, window, window, f"{path}.CHECKSUM")


def parse_checksum(text: bytes, path: str) -> str:
    """Read what ``sha256sum -c`` reads: 64 hexadecimal digits and the name of the file.

    Raises:
        PayloadError: something else, or it is about another file.
    """
    said = text[:1_000].decode(errors="replace")
    match = _CHECKSUM.fullmatch(said)
    name = path.rpartition("/")[2]
    if match is None or match[2] != name:
        raise refuse(Exchange.BINANCE, f"{path}.CHECKSUM", f"expected a SHA-256 of {name}, got something else", said)
    return match[1].lower()


def parse_file(text: bytes, market: Market, path: str, received_at: datetime) -> pl.DataFrame:
    """Turn the lines of a file into a table, in their order; nothing is filtered.

    Raises:
        PayloadError: not such a file; names line and field.

    Shape:
        Result: ``frames.ANSWER_SCHEMA``. ``volume`` in base coin, ``quote_volume`` in quote coin.
    """
    return to_answer(read_csv(text, LAYOUT, path), market, received_at, path)
