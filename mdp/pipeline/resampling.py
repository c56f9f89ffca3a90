"""Make the longer timeframes of what was judged: 1m candles in, 5m to 1d candles out.

Not here: the arithmetic (``domain.resample``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import polars as pl

from mdp.domain.gaps import find_gaps, tile
from mdp.domain.interval import Interval
from mdp.domain.resample import resample_all
from mdp.domain.timeframe import RESAMPLED, Timeframe
from mdp.errors import SliceMissing
from mdp.pipeline.batches import Batch, Write, days_of, report_days, rows_by_day
from mdp.pipeline.failed_days import LeftOut
from mdp.ports import GAPS, OHLCV, CandleStore, Clock, Slice


def resample_candles(parts: Iterable[Slice], store: CandleStore, clock: Clock, *, run_id: str = "") -> Iterator[Batch]:
    """Make the closed candles of every longer timeframe.

    Args:
        parts: Whole UTC days of spot markets at 1m, all of them judged.
        store: Where the minutes are.
        clock: Tells which buckets are closed.
        run_id: The run on whose behalf; see :class:`LeftOut`.

    Yields:
        One batch for each slice, with all timeframes.

    Raises:
        SliceMissing: a day was never judged.
        NotCollected: after everything else was yielded, the latest attempt at some days had failed.
    """
    left_out = LeftOut(store, run_id)
    for part in left_out.without(parts):
        minutes = store.read(OHLCV, part)
        _require_judged(store, part, minutes)
        made = pl.concat(resample_all(minutes, closed_by=clock()).values())
        target = Slice(part.market, RESAMPLED, part.window)
        yield Batch(
            part=target,
            writes=(Write(OHLCV, target, made),),
            days=report_days(made, "open_time", part),
        )
    left_out.require_none()


def _require_judged(store: CandleStore, part: Slice, minutes: pl.DataFrame) -> None:
    """Present minutes and gaps tile a day that was judged; anything less means that it was not."""
    gaps = store.read(GAPS, part)
    present, recorded = dict(rows_by_day(minutes, "open_time", part)), dict(rows_by_day(gaps, "start", part))
    unjudged = [
        str(day)
        for day, window in days_of(part)
        if not tile(
            find_gaps(present[day]["open_time"], Timeframe.M1, window),
            [Interval(start, end) for start, end in recorded[day].select("start", "end").iter_rows()],
            Timeframe.M1,
        ).is_exact
    ]
    if unjudged:
        raise SliceMissing(
            f"{part.market}: ohlcv was never materialized for {', '.join(unjudged)}; materialize it first"
        )
