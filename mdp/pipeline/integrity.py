"""Judge what is stored, day by day: does each table still keep its promise?

Not here: judging what comes in (``judge``), telling Dagster (``defs.checks``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date

import polars as pl

from mdp.domain import dvol
from mdp.domain.candles import VALUE_COLUMNS
from mdp.domain.digests import digest
from mdp.domain.gaps import Cause, find_gaps, tile
from mdp.domain.interval import Interval
from mdp.domain.resample import resample_all
from mdp.domain.rules import PRICES, RULES, Asked, split_by_rules
from mdp.domain.timeframe import RESAMPLED, Timeframe
from mdp.pipeline.batches import days_of
from mdp.ports import DVOL, FETCHES, GAPS, OHLCV, RAW_DVOL, RAW_OHLCV, CandleStore, Slice, Table

_RULES_OF_A_ROW = ("prices_are_finite", "prices_are_positive", "high_is_highest", "low_is_lowest",
                   "volume_is_not_negative", "quote_volume_is_not_negative", "trades_are_not_negative",
                   "open_time_is_on_grid", "open_time_is_inside_window")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found on one day of one market.

    Attributes:
        rows: Rows looked at.
        broken: Promise that does not hold and the number of rows or slots that break it. The store is wrong.
        doubts: What a person should know although no promise is broken: gaps nobody has explained, rejected rows.
    """

    rows: int
    broken: dict[str, int]
    doubts: dict[str, int]

    @property
    def holds(self) -> bool:
        """Tell whether every promise holds."""
        return not self.broken


Inspect = Callable[[CandleStore, Slice], dict[date, Verdict]]


def inspect_raw_candles(store: CandleStore, part: Slice) -> dict[date, Verdict]:
    """Each day was asked for, and holds as many rows as the latest asking brought."""
    return _inspect_raw(store, RAW_OHLCV, part)


def inspect_raw_dvol(store: CandleStore, part: Slice) -> dict[date, Verdict]:
    """Each day was asked for, and holds as many candles of the slice's length as the latest asking brought."""
    return _inspect_raw(store, RAW_DVOL, part)


def inspect_candles(store: CandleStore, part: Slice) -> dict[date, Verdict]:
    """Minutes obey every rule, one row a key; minutes and gaps together tile the day."""
    rows, gaps = store.read(OHLCV, part), store.read(GAPS, part)
    verdicts = {}
    for day, window in days_of(part):
        asked = Asked(window, Timeframe.M1)
        mine = _inside(rows, "open_time", window.start, window.end)
        holes = _inside(gaps, "start", window.start, window.end)
        broken: dict[str, int] = {
            name: mine.select((~RULES[name](asked).fill_null(value=False)).sum()).item() for name in _RULES_OF_A_ROW
        }
        broken["key_is_unique"] = len(mine) - mine["open_time"].n_unique()
        broken |= _untiled(mine, holes, window)
        verdicts[day] = Verdict(len(mine), _positive(broken), _unexplained(holes))
    return verdicts


def inspect_resampled(store: CandleStore, part: Slice) -> dict[date, Verdict]:
    """Each candle equals what its minutes make, each bucket with a minute has its candle."""
    minutes = store.read(OHLCV, Slice(part.market, (Timeframe.M1,), part.window))
    stored = store.read(OHLCV, Slice(part.market, RESAMPLED, part.window))
    made = pl.concat(resample_all(minutes).values())
    verdicts = {}
    for day, window in days_of(part):
        mine = _inside(stored, "open_time", window.start, window.end)
        expected = _inside(made, "open_time", window.start, window.end)
        key = ["timeframe", "open_time"]
        both = mine.join(expected, on=key, how="full", suffix="_made", coalesce=True)
        broken = {
            "candles_are_those_of_the_minutes": both.select(pl.any_horizontal(_differ(name) for name in (
                *VALUE_COLUMNS, "minutes"
            )).sum()).item(),
            "key_is_unique": len(mine) - mine.select(key).n_unique(),
        }  # fmt: skip
        verdicts[day] = Verdict(len(mine), _positive(broken), {})
    return verdicts


def inspect_dvol(store: CandleStore, part: Slice) -> dict[date, Verdict]:
    """Each minute carries the close of its candle, none is missing or too many, none is older than its age says.

    The candle is as long as the minute itself tells, whatever length the slice has: what is stored was not wrong
    because the resolution was changed since. All minutes of a day are made of candles of one length.
    """
    by_minute = Slice(part.market, (Timeframe.M1,), part.window)
    rows, gaps = store.read(DVOL, by_minute), store.read(GAPS, by_minute)
    closes = pl.concat(_accepted_closes(store, part, length) for length in dvol.LENGTHS)
    verdicts = {}
    for day, window in days_of(part):
        mine = _inside(rows, "open_time", window.start, window.end).with_columns(length=dvol.candle_minutes())
        holes = _inside(gaps, "start", window.start, window.end)
        joined = mine.join(closes.filter(window_start=window.start), on=["length", "hour_open_time"], how="left")
        is_of_a_candle = pl.col("length").is_in([length.minutes for length in dvol.LENGTHS])
        broken = {
            "value_is_close_of_its_candle": joined.filter(pl.col("dvol").ne_missing(pl.col("candle_close"))).height,
            "age_is_since_that_close": mine.filter(~is_of_a_candle | (pl.col("age_minutes") < 0)).height,
            "candles_are_of_one_length": max(0, mine["length"].n_unique() - 1),
            "key_is_unique": len(mine) - mine["open_time"].n_unique(),
            **_untiled(mine, holes, window),
        }
        verdicts[day] = Verdict(len(mine), _positive(broken), _unexplained(holes))
    return verdicts


def _accepted_closes(store: CandleStore, part: Slice, length: Timeframe) -> pl.DataFrame:
    """The closes of the good raw candles of one length that each day of a slice of an index needs."""
    raw = store.read(RAW_DVOL, Slice(part.market, (length,), part.window))
    accepted = [
        split_by_rules(
            raw.filter(window_start=window.start), Asked(dvol.candles_needed(window, length, 24 * 60), length)
        )
        for _, window in days_of(part)
    ]
    return pl.concat(day.accepted for day in accepted).select(
        "window_start",
        pl.lit(length.minutes, dtype=pl.Int64).alias("length"),
        pl.col("open_time").alias("hour_open_time"),
        pl.col("close").alias("candle_close"),
    )


def _inspect_raw(store: CandleStore, table: Table, part: Slice) -> dict[date, Verdict]:
    rows, asked = store.read(table, part), store.read(FETCHES, part)
    verdicts = {}
    for day, window in days_of(part):
        mine = rows.filter(pl.col("window_start") == window.start)
        evidence = asked.filter(pl.col("window_start") == window.start)
        # Which asking was the last is not for a clock to say, which may be set back: any may have brought these.
        is_received = evidence.is_empty() or digest(mine) in evidence["digest"]
        broken = {"day_was_asked": int(evidence.is_empty()), "rows_are_those_received": int(not is_received)}
        no_price = mine.filter(~pl.all_horizontal(pl.col(name).is_finite() for name in PRICES).fill_null(value=False))
        doubts = {"rows_without_a_price": no_price.height, "rows_not_closed": mine.filter(~pl.col("closed")).height}
        verdicts[day] = Verdict(len(mine), _positive(broken), _positive(doubts))
    return verdicts


def _untiled(minutes: pl.DataFrame, gaps: pl.DataFrame, window: Interval) -> dict[str, int]:
    """Minutes that are neither stored nor in a gap, and minutes that are both."""
    recorded = [Interval(start, end) for start, end in gaps.select("start", "end").iter_rows()]
    found = tile(find_gaps(minutes["open_time"], Timeframe.M1, window), recorded, Timeframe.M1)
    return {"every_minute_is_stored_or_in_a_gap": found.unrecorded, "no_gap_holds_a_minute": found.overlapping}


def _inside(frame: pl.DataFrame, column: str, start: object, end: object) -> pl.DataFrame:
    return frame.filter(pl.col(column).is_between(pl.lit(start), pl.lit(end), closed="left"))


def _differ(name: str) -> pl.Expr:
    """Whether a stored value is not the made one; amounts are compared to 8 decimals, for they are sums."""
    ours, made = pl.col(name), pl.col(f"{name}_made")
    if name in ("volume", "quote_volume"):
        close = (ours - made).abs() <= 5e-9 + 1e-12 * made.abs()
        return ~(close | (ours.is_null() & made.is_null())).fill_null(value=False)
    return ours.ne_missing(made)


def _unexplained(holes: pl.DataFrame) -> dict[str, int]:
    counts: dict[str, int] = {
        f"slots_without_candle: {cause}": slots
        for cause, slots in holes.group_by("cause").agg(pl.col("slots").sum()).iter_rows()
        if not Cause(cause).is_explained
    }
    return _positive(counts)


def _positive(counts: dict[str, int]) -> dict[str, int]:
    return {name: count for name, count in counts.items() if count}


def total_findings(verdicts: Iterable[Verdict]) -> dict[str, int]:
    """Add up what is broken or doubtful over many days, by name."""
    summed: dict[str, int] = {}
    for verdict in verdicts:
        for name, count in {**verdict.broken, **verdict.doubts}.items():
            summed[name] = summed.get(name, 0) + count
    return summed
