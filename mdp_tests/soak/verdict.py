"""What must hold after a soak: everything stored and buffered equals the simulator's truth.

Each function returns what is wrong, in words; nothing where all is well. Not here: how it came about (``chaos``).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from itertools import islice

import httpx
import polars as pl

from mdp.domain.candles import VALUE_COLUMNS
from mdp.domain.gaps import find_gaps
from mdp.domain.interval import Interval, format_time
from mdp.domain.live import Buffer, CandleState, LiveCandle
from mdp.domain.market import Market
from mdp.domain.resample import resample_all
from mdp.domain.timeframe import EPOCH, Timeframe
from mdp.ports import GAP_SIGHTINGS, OHLCV, CandleStore, Slice

_NAMED = 5
"""So many differences of a kind are told one by one."""

_DECIMALS = 8
"""To so many an exchange tells amounts; what a float holds beyond them is not theirs."""


def true_minutes(simulator_url: str, market: Market, window: Interval) -> dict[datetime, tuple[float | None, ...]]:
    """Ask the simulator what was: open time to open, high, low, close, volume, quote volume, trades."""
    query = {"market": str(market), "start": format_time(window.start), "end": format_time(window.end)}
    answer = httpx.get(f"{simulator_url}/control/truth", params=query, timeout=60, trust_env=False)
    answer.raise_for_status()
    rows = answer.json()["rows"]
    return {EPOCH + Timeframe.M1.duration * (open_ms // 60_000): tuple(values) for open_ms, *values in rows}


def minutes_differ(
    store: CandleStore, market: Market, window: Interval, truth: dict[datetime, tuple[float | None, ...]]
) -> Iterator[str]:
    """Compare stored minutes with the truth: none missing, none too many, none twice, every value the same."""
    stored = store.read(OHLCV, Slice(market, (Timeframe.M1,), window))
    if len(stored) != stored["open_time"].n_unique():
        yield f"{market}: {len(stored) - stored['open_time'].n_unique()} minutes are stored twice"
    found = {row[0]: row[1:] for row in stored.select("open_time", *VALUE_COLUMNS).iter_rows()}
    yield from _listed(f"{market}: missing", sorted(truth.keys() - found.keys()))
    yield from _listed(f"{market}: never was", sorted(found.keys() - truth.keys()))
    wrong = [moment for moment in sorted(truth.keys() & found.keys()) if not _is_same(found[moment], truth[moment])]
    yield from _listed(f"{market}: other values", wrong)
    yield from (f"  {moment} stored {found[moment]} true {truth[moment]}" for moment in wrong[:_NAMED])


def _is_same(stored: tuple[float | None, ...], true: tuple[float | None, ...]) -> bool:
    """What an exchange does not tell is null and not compared."""
    return all(one is None or (other is not None and round(one - other, _DECIMALS) == 0)
               for one, other in zip(stored, true, strict=True))  # fmt: skip


def longer_differ(store: CandleStore, market: Market, window: Interval) -> Iterator[str]:
    """Compare stored longer candles whose minutes all lie in the window with those that the stored minutes make."""
    minutes = store.read(OHLCV, Slice(market, (Timeframe.M1,), window))
    compared = ["open_time", *VALUE_COLUMNS, "minutes"]
    for timeframe, all_made in resample_all(minutes, closed_by=window.end).items():
        is_whole = pl.col("open_time").ge(first_whole(window.start, timeframe))
        is_whole &= pl.col("open_time") + timeframe.duration <= window.end
        made = all_made.filter(is_whole)
        stored = store.read(OHLCV, Slice(market, (timeframe,), window)).filter(is_whole)
        if not stored.select(compared).equals(made.select(compared), null_equal=True):
            lost = made.join(stored, on=compared, how="anti", nulls_equal=True)["open_time"].to_list()
            more = stored.join(made, on=compared, how="anti", nulls_equal=True)["open_time"].to_list()
            yield from _listed(f"{market} {timeframe.value}: not as its minutes make it", lost)
            yield from _listed(f"{market} {timeframe.value}: stored and not made by minutes", more)


def first_whole(since: datetime, timeframe: Timeframe) -> datetime:
    """Return the first longer candle of which no minute lies before a time."""
    floor = timeframe.floor(since)
    return floor if floor == since else floor + timeframe.duration


def index_differs(
    buffer: Buffer | None, truth: dict[datetime, tuple[float | None, ...]], market: Market
) -> Iterator[str]:
    """Compare the finished minutes of a volatility index's buffer with the truth."""
    sure = {moment_of(one.open_us): _values(one) for one in buffer.closed} if buffer else {}
    if not sure:
        yield f"{market}: no minute of its buffer is finished"
    yield from _listed(f"{market}: in the buffer, and never was", sorted(sure.keys() - truth.keys()))
    yield from _listed(
        f"{market}: the buffer says something else",
        sorted(at for at in sure.keys() & truth.keys() if not _is_same(truth[at], sure[at])),
    )


def buffer_differs(
    store: CandleStore, buffer: Buffer | None, market: Market, timeframe: Timeframe, since: datetime
) -> Iterator[str]:
    """Compare the closed candles of a buffer, from when live began, with what is stored."""
    if buffer is None:
        yield f"{market} {timeframe.value}: has no buffer"
        return
    closed = {moment_of(one.open_us): one for one in buffer.closed if moment_of(one.open_us) >= since}
    if not closed:
        return
    window = Interval(min(closed), max(closed) + timeframe.duration)
    stored = {
        row[0]: row[1:]
        for row in store.read(OHLCV, Slice(market, (timeframe,), window))
        .select("open_time", *VALUE_COLUMNS)
        .iter_rows()
    }
    yield from _listed(f"{market} {timeframe.value}: in the buffer, not stored", sorted(closed.keys() - stored.keys()))
    yield from _listed(f"{market} {timeframe.value}: stored, not in the buffer", sorted(stored.keys() - closed.keys()))
    wrong = [at for at in sorted(closed.keys() & stored.keys()) if not _is_same(_values(closed[at]), stored[at])]
    yield from _listed(f"{market} {timeframe.value}: the buffer says something else", wrong)


def unexplained(store: CandleStore, market: Market, window: Interval) -> Iterator[str]:
    """Name missing minutes for which nobody wrote down that the exchange was asked and had none."""
    stored = store.read(OHLCV, Slice(market, (Timeframe.M1,), window))
    sightings = store.read(GAP_SIGHTINGS, Slice(market, (Timeframe.M1,), window))
    seen = [Interval(start, end) for start, end in sightings.select("start", "end").iter_rows()]
    for gap in find_gaps(stored["open_time"], Timeframe.M1, window):
        slots = [gap.start + Timeframe.M1.duration * place for place in range(gap.slots(Timeframe.M1))]
        lost = [slot for slot in slots if not any(one.start <= slot < one.end for one in seen)]
        yield from _listed(f"{market}: missing, and no sighting says so", lost)


def not_certain(buffer: Buffer | None) -> int:
    """Count closed candles that REST never confirmed."""
    return sum(one.state is CandleState.CLOSED for one in buffer.closed) if buffer else 0


def _values(candle: LiveCandle) -> tuple[float | None, ...]:
    return (candle.open, candle.high, candle.low, candle.close, candle.volume, candle.quote_volume, candle.trades)


def moment_of(open_us: int) -> datetime:
    """Return the minute that holds a time in microseconds since the epoch."""
    return EPOCH + Timeframe.M1.duration * (open_us // 60_000_000)


def _listed(what: str, moments: list[datetime]) -> Iterator[str]:
    if moments:
        named = ", ".join(format_time(moment) for moment in islice(moments, _NAMED))
        yield f"{what}: {len(moments)} ({named}{' …' if len(moments) > _NAMED else ''})"
