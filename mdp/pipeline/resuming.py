"""What a run that was broken off had collected already, and need not be asked again.

Not here: pages of a slice that was not complete (``storage.spool``), which days are left to do (``coverage``).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

import polars as pl

from mdp.domain.timeframe import Timeframe
from mdp.pipeline.batches import days_of, parts_of
from mdp.pipeline.coverage import may_be_filled
from mdp.pipeline.failed_days import days_failed
from mdp.ports import FETCHES, GAPS, CandleStore, Clock, Slice

BELIEVED = timedelta(days=1)
"""How long raw rows pass for what the exchange would answer now: as long as a spooled page does."""


def left_to_ask(parts: Iterable[Slice], store: CandleStore, clock: Clock) -> list[Slice]:
    """Leave out the days that were collected within a day and that nothing speaks against.

    Against a day speaks an attempt that failed since, and a gap that is neither explained nor permanent: it may be
    filled by asking again. A day that was collected, and not judged because the run died, is left to the layers that
    judge.

    Args:
        parts: Whole UTC days, at the timeframe at which they are asked.
        store: Where raw rows, evidence and gaps are.
        clock: Our time.
    """
    asked = [
        (part.market, day, part.timeframes[0])
        for part in parts
        for known in [_collected(store, part, clock())]
        for day, window in days_of(part)
        if window.start not in known
    ]
    return [
        one
        for timeframe in dict.fromkeys(timeframe for *_, timeframe in asked)
        for one in parts_of(((market, day) for market, day, own in asked if own is timeframe), timeframe)
    ]


def _collected(store: CandleStore, part: Slice, now: datetime) -> set[datetime]:
    """The first instants of the days of a slice that were collected and are not in doubt."""
    fetched = store.read(FETCHES, part, columns=["window_start", "fetched_at"])
    recent = fetched.filter(pl.col("fetched_at").is_between(now - BELIEVED, now))
    known = set(recent["window_start"].to_list())
    if not known:
        return known
    gaps = store.read(GAPS, Slice(part.market, tuple({Timeframe.M1, *part.timeframes}), part.window))
    doubtful = gaps.filter(may_be_filled())["start"].dt.truncate("1d").to_list()
    failed = [day.start for one in days_failed(store, part) for day in one.window.days()]
    return known - {*doubtful, *failed}
