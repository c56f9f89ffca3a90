"""Are our longer candles those that the exchange makes itself?

The one check that sees what was stored before it was finished, or restated since. Not here: whether they are those of
our own minutes (``pipeline.integrity``).
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from math import sqrt
from typing import NamedTuple
from zlib import crc32

import polars as pl

from mdp.domain.amounts import HALF_A_DIGIT, slack
from mdp.domain.candles import RAW_SCHEMA
from mdp.domain.gaps import Cause
from mdp.domain.interval import DAY, Interval, merge
from mdp.domain.market import Exchange, Market
from mdp.domain.resample import resample
from mdp.domain.rules import Asked, split_by_rules, to_candles
from mdp.domain.timeframe import EPOCH, Timeframe
from mdp.errors import ExchangeError, Incomplete
from mdp.pipeline.checking import examples
from mdp.pipeline.checking.verdicts import SAMPLED, Example
from mdp.ports import GAPS, OHLCV, CandleSource, CandleStore, OpenSource, Slice

COMPARED = (Timeframe.M5, Timeframe.H1, Timeframe.D1)
"""One request for each timeframe and day: 288 candles of 5m fit a page of every exchange."""

RESTATED = "the exchange gives other minutes now than are stored: collect the day again"
OWN_MINUTES = "the exchange's own minutes do not make its candle: ask it"
NOT_KNOWN = "its minutes could not be asked for"

_COLUMNS = ("open", "high", "low", "close", "volume", "quote_volume", "trades")
_NATIVE = "_native"
_GOLDEN = (sqrt(5) - 1) / 2


@dataclass(frozen=True, slots=True)
class NativeComparison:
    """Our candles of one market on one day, against the exchange's own.

    Attributes:
        market: Whose.
        window: The day.
        compared: Candles that at least one side has.
        differing: Candles whose values differ, or that only one side has.
        examples: The first that differ: ours as found, the exchange's as expected; at most ``SAMPLED``.
        cause: Why, as far as asking again for the minutes of the first of them tells; empty where none differs.
    """

    market: Market
    window: Interval
    compared: int
    differing: int
    examples: tuple[Example, ...] = ()
    cause: str = ""


@dataclass(frozen=True, slots=True)
class NativeReport:
    """What comparing came to: the market-days compared, and the markets that could not be judged, and why."""

    compared: tuple[NativeComparison, ...]
    not_judged: Mapping[Market, ExchangeError]


class NotJudged(Incomplete):
    """Exchanges did not give their own candles; what could be compared was."""

    def __init__(self, not_judged: Mapping[Market, ExchangeError]) -> None:
        why = {str(market): str(error) for market, error in not_judged.items()}
        super().__init__(why, retryable=any(error.retryable for error in not_judged.values()))
        listed = "; ".join(f"{market}: {error}" for market, error in why.items())
        self.args = (f"could not be judged: {listed}; the other markets were",)


class _Part(NamedTuple):
    """A market on one day: its stored candles, and where it is known why it has none."""

    market: Market
    window: Interval
    ours: pl.DataFrame
    explained: Sequence[Interval]


def compare_with_native(
    store: CandleStore, markets: Iterable[Market], open_source: OpenSource, day: Interval
) -> NativeReport:
    """Ask each exchange for its own candles of a day, and of one earlier stored day, and compare them with ours.

    Open, high, low and close must be equal, volume to 8 decimals, trades and quote volume (as far as rounding of its
    minutes allows) where both have them; a candle that only one side has differs, unless nothing was traded in it and
    all its minutes are a gap that is explained. A market without any stored candle in a window is left out: whether it
    should have some, ``freshness`` tells.

    Args:
        store: Where ours are.
        markets: Spot markets.
        open_source: Opens an exchange; those that answer are judged although another does not.
        day: The last full UTC day.
    """
    parts: dict[Exchange, list[_Part]] = defaultdict(list)
    for market in markets:
        for window in (day, earlier_day(store, market, day)):
            ours = store.read(OHLCV, Slice(market, COMPARED, window)) if window else None
            if window and ours is not None and len(ours):
                parts[market.exchange].append(_Part(market, window, ours, _explained(store, market, window)))

    async def ask_all() -> list[tuple[list[NativeComparison], dict[Market, ExchangeError]]]:
        return await asyncio.gather(*(_ask(open_source, exchange, wanted) for exchange, wanted in parts.items()))

    compared: list[NativeComparison] = []
    not_judged: dict[Market, ExchangeError] = {}
    for found, failed in asyncio.run(ask_all()):
        compared += found
        not_judged |= failed
    return NativeReport(tuple(compared), not_judged)


def earlier_day(store: CandleStore, market: Market, day: Interval) -> Interval | None:
    """Choose a stored day before ``day``: the same for the same day, another for the next, all of history in time.

    Steps of the golden section spread the nights evenly over whatever is stored: of ``n`` days each is looked at within
    about ``2.7 n`` nights. None where nothing earlier is stored.
    """
    before = Slice(market, (Timeframe.D1,), Interval(EPOCH, day.start))
    days = store.read(OHLCV, before, columns=["open_time"])["open_time"]
    if days.is_empty():
        return None
    night = (day.start - EPOCH) // DAY
    chosen: datetime = days[int((night * _GOLDEN + crc32(str(market).encode()) / 2**32) % 1 * len(days))]
    return Interval(chosen, chosen + DAY)


def _explained(store: CandleStore, market: Market, window: Interval) -> list[Interval]:
    gaps = store.read(GAPS, Slice(market, (Timeframe.M1,), window)).filter(
        pl.col("cause").is_in([cause.value for cause in Cause if cause.is_explained])
    )
    known = merge(Interval(start, end) for start, end in gaps.select("start", "end").iter_rows())
    return [gap for gap in known if gap.duration >= COMPARED[0].duration]  # no shorter one holds a candle


async def _ask(
    open_source: OpenSource, exchange: Exchange, parts: list[_Part]
) -> tuple[list[NativeComparison], dict[Market, ExchangeError]]:
    """Judge the days of one exchange; once it is away, its other markets are not asked for."""
    compared: list[NativeComparison] = []
    failed: dict[Market, ExchangeError] = {}
    away: ExchangeError | None = None
    async with open_source(exchange) as source:
        for part in parts:
            if away is None:
                try:
                    compared.append(await _compare(source, part))
                    continue
                except ExchangeError as error:
                    failed[part.market] = error
                    away = error if error.retryable else None
            else:
                failed.setdefault(part.market, away)
    return compared, failed


async def _compare(source: CandleSource, part: _Part) -> NativeComparison:
    market, window, ours, explained = part
    answers = [(await source.fetch(market, timeframe, window)).rows for timeframe in COMPARED]
    theirs = pl.concat(rows.filter("closed").unique("open_time", keep="last") for rows in answers)
    key = ["timeframe", "open_time"]
    both = ours.select(*key, "minutes", *_COLUMNS).join(
        theirs.select(*key, *_COLUMNS), on=key, how="full", suffix=_NATIVE, coalesce=True
    )
    both = both.filter(~_is_idle_gap(explained))
    other = both.filter(_differs())
    if other.is_empty():
        return NativeComparison(market, window, len(both), 0)
    # short candles first: they say where, and cost the least to ask for again
    other = other.with_columns(rank=pl.col("timeframe").replace_strict({one.value: one.seconds for one in COMPARED}))
    first = other.sort("rank", "open_time").row(0, named=True)
    shown = tuple(islice(examples.differing_rows(other, _COLUMNS, _NATIVE), SAMPLED))
    return NativeComparison(market, window, len(both), len(other), shown, await _cause(source, market, first))


def _is_idle_gap(explained: Sequence[Interval]) -> pl.Expr:
    """Whether the exchange has a candle in which nothing was traded, of minutes that are a gap of which that is known.

    Where the exchange gives no minute without trades, its longer candle may still stand there.
    """
    closes = pl.col("open_time") + pl.duration(
        seconds=pl.col("timeframe").replace_strict({one.value: one.seconds for one in COMPARED})
    )
    is_inside = [(pl.col("open_time") >= gap.start) & (closes <= gap.end) for gap in explained]
    is_idle = pl.col("minutes").is_null() & (pl.col(f"volume{_NATIVE}") == 0)
    return (is_idle & pl.any_horizontal(*is_inside, pl.lit(value=False))).fill_null(value=False)


def _differs() -> pl.Expr:
    """Whether a candle is not the exchange's; null where a side has none counts, amounts nobody gives do not."""
    prices = [pl.col(name).ne_missing(pl.col(f"{name}{_NATIVE}")) for name in ("open", "high", "low", "close")]
    volume = _apart("volume", slack(pl.col(f"volume{_NATIVE}"))).fill_null(value=True)
    # each minute's quote volume is rounded by itself, and so is that of the longer candle
    rounding = HALF_A_DIGIT * pl.col("minutes") + 1e-9 * pl.col(f"quote_volume{_NATIVE}").abs()
    quote = _apart("quote_volume", rounding).fill_null(value=False)
    trades = (pl.col("trades") != pl.col(f"trades{_NATIVE}")).fill_null(value=False)
    return pl.any_horizontal(*prices, volume, quote, trades)


def _apart(name: str, allowed: pl.Expr) -> pl.Expr:
    return (pl.col(name) - pl.col(f"{name}{_NATIVE}")).abs() > allowed


async def _cause(source: CandleSource, market: Market, candle: Mapping[str, object]) -> str:
    """Ask for the minutes of one candle again: do they make the exchange's candle, or do they not either?"""
    timeframe, start = Timeframe(str(candle["timeframe"])), candle["open_time"]
    if not isinstance(start, datetime):
        return NOT_KNOWN
    window = Interval(start, start + timeframe.duration)
    try:
        rows = (await source.fetch(market, Timeframe.M1, window)).rows
    except ExchangeError:
        return NOT_KNOWN
    raw = rows.with_columns(window_start=pl.lit(Timeframe.D1.floor(start), dtype=RAW_SCHEMA["window_start"]))
    accepted = split_by_rules(raw.select(RAW_SCHEMA.names()), Asked(window, Timeframe.M1)).accepted
    made = resample(to_candles(accepted, Timeframe.M1), timeframe).select("minutes", *_COLUMNS)
    native = pl.DataFrame(
        [{name: candle[f"{name}{_NATIVE}"] for name in _COLUMNS}],
        schema={name: RAW_SCHEMA[name] for name in _COLUMNS},
    )
    native = native.rename({name: f"{name}{_NATIVE}" for name in _COLUMNS})
    if made.is_empty():
        return OWN_MINUTES
    return OWN_MINUTES if pl.concat([made, native], how="horizontal").select(_differs()).item() else RESTATED
