"""Judge what is stored, day by day: does each table still keep its promise?

Not here: judging what comes in (``judge``), how findings are written down (``checking``), telling Dagster
(``defs.checks``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date, datetime

import polars as pl

from mdp.domain import dvol
from mdp.domain.amounts import slack
from mdp.domain.candles import VALUE_COLUMNS
from mdp.domain.gaps import Cause, find_gaps, tile
from mdp.domain.interval import Interval, subtract
from mdp.domain.plausibility import Minutes, find_doubts, find_unfinished
from mdp.domain.resample import resample_all
from mdp.domain.rules import PRICES, RULES, Asked, split_by_rules
from mdp.domain.timeframe import RESAMPLED, Timeframe
from mdp.pipeline.batches import days_of, report_days, rows_by_day
from mdp.pipeline.checking import examples
from mdp.pipeline.checking.verdicts import Example, Findings, Verdict
from mdp.pipeline.raw_comparison import Unlike, compare_with_raw
from mdp.ports import DVOL, FETCHES, GAPS, OHLCV, RAW_DVOL, RAW_OHLCV, CandleStore, Slice, Table

_RULES_OF_A_ROW = ("prices_are_finite", "prices_are_positive", "high_is_highest", "low_is_lowest",
                   "volume_is_not_negative", "quote_volume_is_not_negative", "trades_are_not_negative",
                   "open_time_is_on_grid", "open_time_is_inside_window")  # fmt: skip

_OF_A_BUCKET = (*VALUE_COLUMNS, "minutes")

Inspect = Callable[[CandleStore, Slice], dict[date, Verdict]]


def inspect_raw_candles(store: CandleStore, part: Slice) -> dict[date, Verdict]:
    """Each day was asked for, and holds as many rows as the latest asking brought."""
    return _inspect_raw(store, RAW_OHLCV, part)


def inspect_raw_dvol(store: CandleStore, part: Slice) -> dict[date, Verdict]:
    """Each day was asked for, and holds as many candles of the slice's length as the latest asking brought."""
    return _inspect_raw(store, RAW_DVOL, part)


def inspect_candles(store: CandleStore, part: Slice, *, rejected_since: datetime | None = None) -> dict[date, Verdict]:
    """Minutes are those of the raw rows, obey every rule, one row a key; gaps hold the rest; it looks like a market.

    So are the rejected rows, but those received before ``rejected_since``, which may have been dropped for their age.
    """
    # with the minute before: days are where prices of another origin would be spliced in
    lead = Interval(part.window.start - Timeframe.M1.duration, part.window.end)
    stored = store.read(OHLCV, Slice(part.market, (Timeframe.M1,), lead))
    minutes, judged = Minutes.of(stored), _with_broken_rules(stored, Asked(part.window, Timeframe.M1))
    gaps = dict(rows_by_day(store.read(GAPS, part), "start", part))
    unlike = _unlike_raw_by_day(store, part, stored, rejected_since)
    verdicts = {}
    for (day, mine), (_, window) in zip(rows_by_day(judged, "open_time", part), days_of(part), strict=True):
        found = Findings()
        for rule in judged.columns[stored.width :]:
            bad = mine.filter(rule)
            found.add_broken(rule, len(bad), examples.rows_as_they_are(bad, rule.replace("_", " ")))
        found.add_broken("key_is_unique", len(mine) - mine["open_time"].n_unique(), examples.repeated_keys(mine))
        if (other := unlike.get(day)) is not None:
            found.add_broken(
                "candles_are_those_of_the_raw_rows",
                len(other.minutes),
                examples.differing_rows(other.minutes, VALUE_COLUMNS),
            )
            found.add_broken(
                "rejected_rows_are_those_of_the_raw_rows", len(other.rejected), examples.rejected_rows(other.rejected)
            )
        _judge_tiling(found, mine, gaps[day], window)
        _judge_plausibility(found, minutes.of_day(window.start, window.end))
        _judge_gaps(found, gaps[day])
        verdicts[day] = found.verdict(len(mine))
    return verdicts


def inspect_resampled(store: CandleStore, part: Slice) -> dict[date, Verdict]:
    """Each candle equals what its minutes make, each bucket with a minute has its candle."""
    minutes = store.read(OHLCV, Slice(part.market, (Timeframe.M1,), part.window))
    stored = store.read(OHLCV, Slice(part.market, RESAMPLED, part.window))
    key = ["timeframe", "open_time"]
    made = pl.concat(resample_all(minutes).values()).select(*key, *_OF_A_BUCKET)
    both = stored.select(*key, *_OF_A_BUCKET).join(made, on=key, how="full", suffix="_made", coalesce=True)
    wrong = dict(rows_by_day(both.filter(pl.any_horizontal(map(_differ, _OF_A_BUCKET))), "open_time", part))
    is_unique = stored.select(pl.struct(key).n_unique()).item() == len(stored)
    verdicts = {}
    for day, mine in rows_by_day(stored.select(key), "open_time", part):
        found = Findings()
        bad = wrong[day]
        found.add_broken("candles_are_those_of_the_minutes", len(bad), examples.differing_rows(bad, _OF_A_BUCKET))
        repeated = 0 if is_unique else len(mine) - mine.n_unique()
        found.add_broken("key_is_unique", repeated, examples.repeated_keys(mine))
        verdicts[day] = found.verdict(len(mine))
    return verdicts


def inspect_dvol(store: CandleStore, part: Slice) -> dict[date, Verdict]:
    """Each minute carries the close of its candle, none is missing or too many, none is older than its age says.

    The candle is as long as the minute itself tells, whatever length the slice has: what is stored was not wrong
    because the resolution was changed since. All minutes of a day are made of candles of one length.
    """
    by_minute = Slice(part.market, (Timeframe.M1,), part.window)
    rows = store.read(DVOL, by_minute).with_columns(length=dvol.candle_minutes())
    gaps = dict(rows_by_day(store.read(GAPS, by_minute), "start", by_minute))
    closes = pl.concat(_accepted_closes(store, part, length) for length in dvol.LENGTHS)
    is_of_a_candle = pl.col("length").is_in([length.minutes for length in dvol.LENGTHS])
    verdicts = {}
    for (day, mine), (_, window) in zip(rows_by_day(rows, "open_time", by_minute), days_of(part), strict=True):
        found = Findings()
        joined = mine.join(closes.filter(window_start=window.start), on=["length", "hour_open_time"], how="left")
        other = joined.filter(pl.col("dvol").ne_missing(pl.col("candle_close")))
        found.add_broken("value_is_close_of_its_candle", len(other), _index_values(other))
        aged = mine.filter(~is_of_a_candle | (pl.col("age_minutes") < 0))
        since = examples.rows_as_they_are(aged, "minutes since that candle closed", ("hour_open_time", "age_minutes"))
        found.add_broken("age_is_since_that_close", len(aged), since)
        lengths = max(0, mine["length"].n_unique() - 1)
        first = mine.unique("length", keep="first", maintain_order=True) if lengths else mine
        shown = examples.rows_as_they_are(first, "candles of one length", ("length", "hour_open_time"))
        found.add_broken("candles_are_of_one_length", lengths, shown)
        found.add_broken("key_is_unique", len(mine) - mine["open_time"].n_unique(), examples.repeated_keys(mine))
        _judge_tiling(found, mine, gaps[day], window)
        _judge_gaps(found, gaps[day])
        verdicts[day] = found.verdict(len(mine))
    return verdicts


def _inspect_raw(store: CandleStore, table: Table, part: Slice) -> dict[date, Verdict]:
    rows, asked = store.read(table, part), store.read(FETCHES, part)
    received, digests = dict(rows_by_day(rows, "window_start", part)), report_days(rows, "window_start", part)
    evidence = dict(rows_by_day(asked, "window_start", part))
    has_price = pl.all_horizontal(pl.col(name).is_finite() for name in PRICES).fill_null(value=False)
    is_good = rows.select((has_price & pl.col("closed")).all()).item()
    verdicts = {}
    for day, window in days_of(part):
        found, mine, of_day = Findings(), received[day], evidence[day]
        found.add_broken("day_was_asked", int(of_day.is_empty()))
        # Which asking was the last is not for a clock to say, which may be set back: any may have brought these.
        is_received = of_day.is_empty() or digests[day].digest in of_day["digest"]
        found.add_broken("rows_are_those_received", int(not is_received), _receipts(window.start, mine, of_day, part))
        if not is_good:
            no_price, forming = mine.filter(~has_price), mine.filter(~pl.col("closed"))
            priced = examples.rows_as_they_are(no_price, "four finite prices", PRICES)
            found.add_doubt("rows_without_a_price", len(no_price), priced)
            closed = examples.rows_as_they_are(forming, "closed", ("close", "fetched_at", "source"))
            found.add_doubt("rows_not_closed", len(forming), closed)
        verdicts[day] = found.verdict(len(mine))
    return verdicts


def _with_broken_rules(rows: pl.DataFrame, asked: Asked) -> pl.DataFrame:
    """Add a column for each rule that any row of the window breaks: whether it does. One look for all days."""
    is_bad = {name: ~RULES[name](asked).fill_null(value=False) for name in _RULES_OF_A_ROW}
    own = rows.filter(pl.col("open_time") >= asked.window.start)
    counts = own.select(bad.sum().alias(name) for name, bad in is_bad.items()).row(0, named=True)
    return rows.with_columns(bad.alias(name) for name, bad in is_bad.items() if counts[name])


def _unlike_raw_by_day(
    store: CandleStore, part: Slice, stored: pl.DataFrame, rejected_since: datetime | None
) -> dict[date, Unlike]:
    """What is not of the raw rows, on the days that were asked for; ``stored`` begins a minute early."""
    asked = set(store.read(FETCHES, part, columns=["window_start"])["window_start"].dt.date().to_list())
    if not asked:
        return {}
    own = stored.filter(pl.col("open_time") >= part.window.start)
    unlike = compare_with_raw(store, part, own, rejected_since=rejected_since)
    rejected = dict(rows_by_day(unlike.rejected, "window_start", part))
    return {
        day: Unlike(rows, rejected[day]) for day, rows in rows_by_day(unlike.minutes, "open_time", part) if day in asked
    }


def _judge_tiling(found: Findings, minutes: pl.DataFrame, gaps: pl.DataFrame, window: Interval) -> None:
    """Minutes that are neither stored nor in a gap, and minutes that are both."""
    recorded = [Interval(start, end) for start, end in gaps.select("start", "end").iter_rows()]
    missing = find_gaps(minutes["open_time"], Timeframe.M1, window)
    if not missing and not recorded:
        return
    tiling = tile(missing, recorded, Timeframe.M1)
    unknown = (rest for hole in missing for rest in subtract(hole, recorded))
    needless = (rest for gap in recorded for rest in subtract(gap, missing))
    found.add_broken("every_minute_is_stored_or_in_a_gap", tiling.unrecorded,
                     examples.stretches(unknown, "neither", "candles or a gap"))  # fmt: skip
    found.add_broken("no_gap_holds_a_minute", tiling.overlapping,
                     examples.stretches(needless, "both", "candles or a gap"))  # fmt: skip


def _judge_plausibility(found: Findings, minutes: Minutes) -> None:
    unfinished = find_unfinished(minutes)
    found.add_broken("candle_had_closed_when_received", len(unfinished), examples.odd_minutes(minutes, unfinished))
    for doubt in find_doubts(minutes):
        found.add_doubt(doubt.what, doubt.minutes, examples.odd_minutes(minutes, doubt.odd))


def _judge_gaps(found: Findings, gaps: pl.DataFrame) -> None:
    """Gaps that nobody has explained, by cause."""
    for (cause,), of_cause in gaps.group_by("cause", maintain_order=True):
        if not Cause(cause).is_explained:
            holes = (Interval(start, end) for start, end in of_cause.select("start", "end").iter_rows())
            shown = examples.stretches(holes, "no candle", "candles, or a known cause")
            found.add_doubt(f"slots_without_candle: {cause}", int(of_cause["slots"].sum()), shown)


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


def _index_values(rows: pl.DataFrame) -> Iterator[Example]:
    names = ("open_time", "timeframe", "dvol", "candle_close", "hour_open_time")
    for open_time, timeframe, value, close, candle in rows.select(names).iter_rows():
        yield Example(open_time, timeframe, f"dvol={value}", f"dvol={close}, the close of the candle of {candle}")


def _receipts(start: datetime, rows: pl.DataFrame, asked: pl.DataFrame, part: Slice) -> Iterator[Example]:
    counts = ", ".join(str(count) for count in asked["rows"].to_list())
    yield Example(start, part.timeframes[0].value, f"{len(rows)} rows", f"those received: {counts} rows")


def _differ(name: str) -> pl.Expr:
    """Whether a stored value is not the made one; amounts are compared to 8 decimals, for they are sums."""
    ours, made = pl.col(name), pl.col(f"{name}_made")
    if name in ("volume", "quote_volume"):
        close = (ours - made).abs() <= slack(made)
        return ~(close | (ours.is_null() & made.is_null())).fill_null(value=False)
    return ours.ne_missing(made)
