"""Do the exchanges still publish the bulk files that rows were taken from, and which days are in doubt if not?

Exchanges correct their files after the fact. A file that is another one now puts those days in doubt that were last
collected from the old one; collecting them again turns the candles that differ into revisions. Not here: asking
(``exchanges``), collecting again (``mdp backfill``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from mdp.domain.interval import DAY, Interval, merge
from mdp.domain.market import Exchange, Market
from mdp.domain.timeframe import Timeframe
from mdp.errors import ExchangeError
from mdp.ports import ARCHIVE_FILES, FETCHES, RAW_OHLCV, CandleStore, Slice

FILES_IN_FLIGHT = 8

Published = Callable[[str], Awaitable[str | None]]
"""Gives the SHA-256 that is published for a path now; None where the file is gone. Raises ``ExchangeError``."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A bulk file from which stored days were taken.

    Attributes:
        market: Whose candles.
        path: Below the archive's address.
        digests: Each day that was last taken from it, to the SHA-256 the file had then.
    """

    market: Market
    path: str
    digests: Mapping[Interval, str]


@dataclass(frozen=True, slots=True)
class Changed:
    """A file that is not the one any more that days were taken from.

    Attributes:
        market: Whose candles.
        path: Of the file.
        days: The days taken from what it was before: ascending stretches of whole days.
        stored: SHA-256 of what it was, the latest where there were several.
        published: SHA-256 of what it is; None where it is gone.
    """

    market: Market
    path: str
    days: tuple[Interval, ...]
    stored: str
    published: str | None


@dataclass(frozen=True, slots=True)
class Unverified:
    """A file that could not be asked for, and why."""

    market: Market
    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of verifying files: how many are what they were, which are not, and which could not be judged."""

    same: int
    changed: tuple[Changed, ...]
    unverified: tuple[Unverified, ...]

    def days(self) -> dict[Market, list[Interval]]:
        """Return the days in doubt of each market, as ascending stretches."""
        found: dict[Market, list[Interval]] = {}
        for one in self.changed:
            found[one.market] = merge([*found.get(one.market, []), *one.days])
        return found


def stored_files(store: CandleStore, market: Market, window: Interval) -> list[StoredFile]:
    """Return the files from which the stored rows of a window came.

    Args:
        store: Where rows and the evidence of files are.
        market: Whose.
        window: Whole UTC days; those of a file that lie outside are left out.

    Returns:
        By path, ascending. A day that was collected from elsewhere since counts for nothing; one that was collected
        from the same file again counts with what the file was the last time.
    """
    # the evidence of a file stands at its first day, up to a month before the day that is looked for
    wide = Interval(window.start - 31 * DAY, window.end)
    evidence = store.read(ARCHIVE_FILES, Slice(market, (Timeframe.M1,), wide)).sort("fetched_at", maintain_order=True)
    taken: dict[tuple[str, Interval], dict[datetime, str]] = {}
    columns = ("path", "sha256", "fetched_at", "window_start", "window_end")
    for path, sha256, fetched_at, start, end in evidence.select(columns).iter_rows():
        for day in Interval(start, end).days():
            if window.covers(day):
                taken.setdefault((path, day), {})[fetched_at] = sha256
    days = {day for _, day in taken}
    rows, asked = _times_of_rows(store, market, days), _times_of_fetches(store, market, window)
    digests: dict[str, dict[Interval, str]] = {}
    for (path, day), times in taken.items():
        if _is_in_use(rows.get(day, set()), set(times), asked.get(day, [])):
            digests.setdefault(path, {})[day] = times[max(times)]
    return [StoredFile(market, path, digests[path]) for path in sorted(digests)]


def _times_of_rows(store: CandleStore, market: Market, days: Collection[Interval]) -> dict[Interval, set[datetime]]:
    """When the stored raw rows of each day were received; rows of one file all say the same."""
    found: dict[Interval, set[datetime]] = {}
    for span in merge(days):
        for month in span.months():
            part = Slice(market, (Timeframe.M1,), month)
            rows = store.read(RAW_OHLCV, part, columns=["window_start", "fetched_at"]).unique()
            for start, received_at in rows.select("window_start", "fetched_at").iter_rows():
                found.setdefault(Interval(start, start + DAY), set()).add(received_at)
    return found


def _times_of_fetches(store: CandleStore, market: Market, window: Interval) -> dict[Interval, list[datetime]]:
    """When each day was asked for, each time; it is noted once all that came is there, files among it."""
    found: dict[Interval, list[datetime]] = {}
    part = Slice(market, (Timeframe.M1,), window)
    fetches = store.read(FETCHES, part, columns=["window_start", "fetched_at"])
    for start, asked_at in fetches.select("window_start", "fetched_at").iter_rows():
        found.setdefault(Interval(start, start + DAY), []).append(asked_at)
    return found


def _is_in_use(rows: Collection[datetime], taken: Collection[datetime], asked: Collection[datetime]) -> bool:
    """Tell whether what is stored of a day is what a file said, by when the one and the other were received.

    A file without a row on a day is in use as long as the day was not asked for again without it: with rows, it would
    matter. The first fetch noted after a file was received is the one that it was received for.
    """
    if not rows:
        return sum(asked_at >= max(taken) for asked_at in asked) <= 1
    return not set(rows).isdisjoint(taken) or max(rows) <= max(taken)


async def verify_files(files: Iterable[StoredFile], published: Mapping[Exchange, Published]) -> Verdict:
    """Compare what was taken with what is published now.

    Args:
        files: Of any markets.
        published: Asks each exchange of these.

    Returns:
        A verdict on every file; one that could not be asked for is neither the same nor changed.
    """
    turnstile = asyncio.Semaphore(FILES_IN_FLIGHT)

    async def verify(file: StoredFile) -> Changed | Unverified | None:
        async with turnstile:
            try:
                now = await published[file.market.exchange](file.path)
            except ExchangeError as error:
                return Unverified(file.market, file.path, str(error))
        return _compare(file, now)

    found = await asyncio.gather(*(verify(file) for file in files))
    return Verdict(
        same=sum(one is None for one in found),
        changed=tuple(one for one in found if isinstance(one, Changed)),
        unverified=tuple(one for one in found if isinstance(one, Unverified)),
    )


def _compare(file: StoredFile, published: str | None) -> Changed | None:
    doubtful = {day: sha256 for day, sha256 in file.digests.items() if sha256 != published}
    if not doubtful:
        return None
    return Changed(file.market, file.path, tuple(merge(doubtful)), list(doubtful.values())[-1], published)
