"""Which state of the store is read: the present one, that of an earlier time, or a snapshot.

Not here: what people may write (``arguments``), how a candle is taken back (``domain.revisions``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from mdp.config.settings import Settings
from mdp.domain.aligned import whole_slots
from mdp.domain.candles import CANDLE_SCHEMA
from mdp.domain.interval import Interval, format_time
from mdp.domain.market import Market
from mdp.domain.resample import resample
from mdp.domain.revisions import rows_as_of
from mdp.domain.timeframe import EPOCH, RESAMPLED, Timeframe
from mdp.errors import InputError
from mdp.pipeline.snapshots import read_snapshot
from mdp.ports import DVOL, OHLCV, REVISIONS, CandleStore, Slice
from mdp.reading.arguments import Moment, parse_moment
from mdp.reading.index_as_of import index_as_of
from mdp.storage import open_store


@dataclass(frozen=True, slots=True)
class View:
    """A store as it is seen by one reader.

    Attributes:
        store: What is read.
        as_of: Its state at that time; None: the present one.
        snapshot: What the snapshot of that name holds instead; None: the tables themselves.
    """

    store: CandleStore
    as_of: datetime | None = None
    snapshot: str | None = None

    def rows(
        self, market: Market, timeframe: Timeframe, window: Interval, *, columns: Collection[str] | None = None
    ) -> pl.DataFrame:
        """Return the candles of a market that open inside a window, or the minutes of an index.

        Args:
            market: Whose.
            timeframe: ``1m`` for an index.
            window: Any bounds.
            columns: Those that are wanted; None: all.

        Raises:
            InputError: the snapshot does not hold the window, or what an index was cannot be told.
        """
        table, part = DVOL if market.is_volatility_index else OHLCV, Slice(market, (timeframe,), window)
        if self.snapshot is not None:
            return _chosen(read_snapshot(self.store, self.snapshot, table, part), columns)
        if self.as_of is None:
            return self.store.read(table, part, columns=columns)
        if market.is_volatility_index:
            return _chosen(index_as_of(self.store, market, window, self.as_of), columns)
        return _chosen(_candles_as_of(self.store, part, self.as_of), columns)


def open_view(settings: Settings, *, as_of: Moment | None = None, snapshot: str | None = None) -> View:
    """Open the store of an environment for one reader.

    Raises:
        InputError: as for :func:`view_of`.
    """
    return view_of(open_store(settings), as_of=as_of, snapshot=snapshot)


def view_of(store: CandleStore, *, as_of: Moment | None = None, snapshot: str | None = None) -> View:
    """Return a store as one reader sees it.

    Raises:
        InputError: an earlier time and a snapshot are asked for at once, or the time is none or lies in the future:
            what will be stored by then is not known, and the same question would be answered differently tomorrow.
    """
    moment = None if as_of is None else parse_moment("as_of", as_of)
    if moment is not None and snapshot is not None:
        expected = "either as_of or snapshot: a snapshot is of one time already"
        raise InputError("as_of", got=format_time(moment), expected=expected)
    now = datetime.now(UTC)
    if moment is not None and moment > now:
        expected = f"a time that is over; it is {format_time(now.replace(microsecond=0))} now"
        raise InputError("as_of", got=format_time(moment), expected=expected)
    return View(store, moment, snapshot)


def _candles_as_of(store: CandleStore, part: Slice, moment: datetime) -> pl.DataFrame:
    """The candles of one timeframe as they were: longer ones are made of the minutes as they were."""
    (timeframe,), market = part.timeframes, part.market
    if timeframe is Timeframe.M1:
        return _minutes_as_of(store, market, part.window, moment)
    made = [CANDLE_SCHEMA.to_frame()]
    # By the year, so that what is held does not grow with the window; no bucket crosses the end of a year.
    for window in _years(whole_slots(part.window, timeframe)):
        # Of what was revised before times of receipt were kept, it is not known when it came.
        rows = _minutes_as_of(store, market, window, moment).with_columns(pl.col("ingested_at").fill_null(EPOCH))
        for longer in RESAMPLED[: RESAMPLED.index(timeframe) + 1]:  # step by step, as the stored ones are made
            rows = resample(rows, longer)
        made.append(rows.filter(pl.col("open_time") <= moment - timeframe.duration))
    return pl.concat(made).with_columns(pl.col("ingested_at").replace(EPOCH, None))


def _minutes_as_of(store: CandleStore, market: Market, window: Interval, moment: datetime) -> pl.DataFrame:
    part = Slice(market, (Timeframe.M1,), window)
    # In this order: a writer records a revision before it stores the candle, so that no candle is seen without its own.
    stored = store.read(OHLCV, part)
    return rows_as_of(stored, store.read(REVISIONS, part), moment)


def _years(window: Interval) -> Iterator[Interval]:
    start = window.start
    while start < window.end:
        end = min(datetime(start.year + 1, 1, 1, tzinfo=UTC), window.end)
        yield Interval(start, end)
        start = end


def _chosen(rows: pl.DataFrame, columns: Collection[str] | None) -> pl.DataFrame:
    return rows if columns is None else rows.select(name for name in rows.columns if name in set(columns))
