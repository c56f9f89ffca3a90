"""One page of candles: which candles an exchange's bounds and limit select.

Not here: what an exchange's parameters mean as bounds (``binance``, ``bybit``, ``okx``), what the candles are
(``history``).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from mdp.domain.timeframe import Timeframe
from mdp.simulator.candles import DAY_MS, NO_CANDLES, Candles
from mdp.simulator.history import DayOfCandles, Encoder, print_days
from mdp.simulator.markets import SimulatedMarket


class Candled(Protocol):
    """What pages are cut from: the history as it is (``History``), or as the exchange tells it (``AlteredHistory``)."""

    def days(self, market: SimulatedMarket, timeframe: Timeframe, first: int, last: int) -> list[DayOfCandles]:
        """Return days ``first`` to ``last``, both included, as they are once they are over."""
        ...

    def open_candle(self, market: SimulatedMarket, timeframe: Timeframe, now_ms: int) -> Candles:
        """Return the candle that is open at ``now_ms``; none when nothing has happened in it, or before listing."""
        ...

    def is_recorded(self, market: SimulatedMarket, day: int) -> bool:
        """Tell whether a day (since the epoch) of a market was recorded."""
        ...


class Keep(StrEnum):
    """Which side of a range that is larger than the page is kept."""

    OLDEST = "oldest"
    NEWEST = "newest"


@dataclass(frozen=True, slots=True)
class Request:
    """What one request asks for.

    Attributes:
        market: Whose candles.
        timeframe: Their length.
        first_ms: Earliest open time, inclusive.
        last_ms: Latest open time, inclusive.
        limit: Most candles.
        keep: Which side is kept when there are more.
    """

    market: SimulatedMarket
    timeframe: Timeframe
    first_ms: int
    last_ms: int
    limit: int
    keep: Keep


@dataclass(frozen=True, slots=True)
class Page:
    """The candles of one page, ascending.

    Attributes:
        parts: Finished candles: positions ``[start, stop)`` of a day.
        open_candle: The candle still open, after all others; may be empty.
        open_is_recorded: Whether the open candle is a part of a recorded day.
    """

    parts: list[tuple[DayOfCandles, int, int]]
    open_candle: Candles
    open_is_recorded: bool = False

    def texts(self, encode: Encoder, encode_open: Encoder | None = None) -> list[str]:
        """Print the page, oldest first; the open candle by its own encoder where it has one."""
        print_days([day for day, _, _ in self.parts], encode)
        texts = [text for day, start, stop in self.parts for text in day.texts[encode][start:stop]]
        if len(self.open_candle):
            texts += (encode_open or encode)(self.open_candle)
        return texts

    @property
    def origin(self) -> str:
        """Say where the candles come from: ``recorded``, ``generated``, ``mixed``, or ``none``."""
        kinds = {day.is_recorded for day, _, _ in self.parts}
        if len(self.open_candle):
            kinds.add(self.open_is_recorded)
        if len(kinds) == 2:
            return "mixed"
        return {True: "recorded", False: "generated"}[kinds.pop()] if kinds else "none"


def read_page(history: Candled, request: Request, now_ms: int, *, with_open: bool = True) -> Page:
    """Cut one page.

    Args:
        history: The truth.
        request: What is asked for.
        now_ms: As of when: nothing that opens later exists.
        with_open: Whether the candle still open belongs to the answer.
    """
    if request.first_ms > min(request.last_ms, now_ms):
        return Page([], NO_CANDLES)
    last_ms = min(request.last_ms, now_ms)
    closed_ms = min(last_ms, now_ms - request.timeframe.milliseconds)
    open_candle = NO_CANDLES
    if with_open and last_ms > closed_ms:
        open_candle = history.open_candle(request.market, request.timeframe, now_ms)
        open_candle = open_candle.opened_between(max(request.first_ms, closed_ms + 1), last_ms)
    open_is_recorded = history.is_recorded(request.market, now_ms // DAY_MS)
    if request.keep is Keep.NEWEST:
        parts = _newest(history, request, closed_ms, request.limit - len(open_candle))
        return Page(parts, open_candle, open_is_recorded)
    parts = _oldest(history, request, closed_ms, request.limit)
    has_room = sum(stop - start for _, start, stop in parts) < request.limit
    return Page(parts, open_candle if has_room else NO_CANDLES, open_is_recorded)


def _first_ms(request: Request) -> int:
    """The earliest open time worth looking at: a market's first candle opens on its first day, none before."""
    return max(request.first_ms, request.market.first_candle_ms // DAY_MS * DAY_MS)


def _days_worth(timeframe: Timeframe, candles: int) -> int:
    """Days that hold about so many candles, at least one."""
    return max(1, -(-candles * timeframe.milliseconds // DAY_MS))


def _oldest(history: Candled, request: Request, closed_ms: int, wanted: int) -> list[tuple[DayOfCandles, int, int]]:
    parts: list[tuple[DayOfCandles, int, int]] = []
    first_ms = _first_ms(request)
    day, last_day = first_ms // DAY_MS, closed_ms // DAY_MS
    while wanted > 0 and day <= last_day:
        until = min(day + _days_worth(request.timeframe, wanted) - 1, last_day)
        for found in history.days(request.market, request.timeframe, day, until):
            start, stop = _positions(found.candles, first_ms, closed_ms)
            stop = min(stop, start + wanted)
            if stop > start:
                parts.append((found, start, stop))
                wanted -= stop - start
        day = until + 1
    return parts


def _newest(history: Candled, request: Request, closed_ms: int, wanted: int) -> list[tuple[DayOfCandles, int, int]]:
    parts: list[tuple[DayOfCandles, int, int]] = []
    first_ms = _first_ms(request)
    day, first_day = closed_ms // DAY_MS, first_ms // DAY_MS
    while wanted > 0 and day >= first_day:
        since = max(day - _days_worth(request.timeframe, wanted) + 1, first_day)
        for found in reversed(history.days(request.market, request.timeframe, since, day)):
            start, stop = _positions(found.candles, first_ms, closed_ms)
            start = max(start, stop - wanted)
            if stop > start:
                parts.append((found, start, stop))
                wanted -= stop - start
        day = since - 1
    return parts[::-1]


def _positions(candles: Candles, first_ms: int, last_ms: int) -> tuple[int, int]:
    start, stop = candles.open_ms.searchsorted((first_ms, last_ms + 1))
    return int(start), int(max(start, stop))
