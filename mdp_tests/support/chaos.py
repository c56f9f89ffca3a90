"""Processes that work on one store, are killed at random and replaced, and what they said they wrote.

Not here: what each of them does (the tests of a store).
"""

from __future__ import annotations

import multiprocessing as mp
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from multiprocessing.process import BaseProcess
from pathlib import Path

import polars as pl
import stamina

from mdp.domain.market import Market
from mdp.ports import OHLCV, REVISIONS, CandleStore, Slice
from mdp_tests.contracts.rows import part, rows_at
from mdp_tests.support.builders import at

SPAWN = mp.get_context("spawn")
MARKETS = [Market.parse(f"{exchange}:BTC-USDT") for exchange in ("binance", "okx")]
DAYS = range(1, 6)
MINUTES = 600


def day_of(market: Market, day: int) -> Slice:
    return part(f"2024-12-{day:02d}", f"2024-12-{day + 1:02d}", market=market)


@cache
def minutes_of(market: Market, day: int) -> pl.DataFrame:
    moments = [at(f"2024-12-{day:02d}") + timedelta(minutes=minute) for minute in range(MINUTES)]
    return rows_at(OHLCV, moments, market=market, has_holes=False).with_columns(volume=pl.lit(float(day)))


def generation(market: Market, day: int, number: int) -> pl.DataFrame:
    """A day as its writer wrote it for the ``number``-th time; every third has half of the rows."""
    rows = minutes_of(market, day).head(MINUTES // (2 if number % 3 == 0 else 1))
    return rows.with_columns(close=pl.lit(float(number)))


def number_of(market: Market, day: int, rows: pl.DataFrame) -> int:
    """Check that a day is what one writer wrote, all of it and once; return which time that was, 0 when empty."""
    if rows.is_empty():
        return 0
    number = int(rows["close"][0])
    if not rows.equals(generation(market, day, number)):
        raise AssertionError(f"{market} day {day}: {rows.height} rows are not what write {number} wrote")
    return number


def work(target: Callable[..., None], *arguments) -> None:
    stamina.instrumentation.set_on_retry_hooks([])  # thousands of lines of writers that had to wait
    target(*arguments)


@dataclass
class Crew:
    """Processes that are killed at random and replaced by new ones."""

    lake: Path
    notes: Path
    kills: int = 0
    working: list[tuple[tuple, BaseProcess]] = field(default_factory=list)
    begun: int = 0

    def begin(self, job) -> None:
        target, worker = job
        self.begun += 1
        notes = self.notes / f"{target.__name__}-{worker}-{self.begun}"
        process = SPAWN.Process(
            target=work, args=(target, self.lake, worker, self.begun * 1_000_000, notes), daemon=True
        )
        process.start()
        self.working.append((job, process))

    def wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while len(list(self.notes.iterdir())) < len(self.working) and time.monotonic() < until:
            time.sleep(0.1)

    def kill_one(self, chance: random.Random) -> None:
        at_ = chance.randrange(len(self.working))
        job, process = self.working.pop(at_)
        process.kill()
        process.join(10)
        self.kills += 1
        self.begin(job)

    def end(self) -> None:
        for _, process in self.working:
            process.kill()
        for _, process in self.working:
            process.join(10)

    def said(self, kind: str) -> list[str]:
        return [line for path in sorted(self.notes.glob(f"{kind}-*")) for line in path.read_text().splitlines()]


def lost_replacements(store: CandleStore, said: list[str]) -> list[str]:
    """Days that hold neither their last acknowledged write nor one that was begun after it."""
    lost = []
    for index, market in enumerate(MARKETS):
        for day in DAYS:
            mine = [line.split() for line in said if line.split()[1:4] == ["replace", str(index), str(day)]]
            done = max((int(line[4]) for line in mine if line[0] == "done"), default=0)
            allowed = {done} | {int(line[4]) for line in mine if line[0] == "begin" and int(line[4]) > done}
            found = number_of(market, day, store.read(OHLCV, day_of(market, day)))
            if found not in allowed:
                lost.append(f"{market} day {day}: found {found}, acknowledged {done}")
    return lost


def lost_appends(store: CandleStore, said: list[str]) -> list[str]:
    """Rows that were acknowledged and are not there once, and rows that are there twice or were never written."""
    wrong = []
    for index, market in enumerate(MARKETS):
        for day in DAYS:
            mine = [line.split() for line in said if line.split()[1:4] == ["append", str(index), str(day)]]
            found = Counter(int(number) for number in store.read(REVISIONS, day_of(market, day))["new_close"])
            begun = {int(line[4]) for line in mine if line[0] == "begin"}
            wrong += [f"{line[4]} is missing" for line in mine if line[0] == "done" and found[int(line[4])] != 1]
            wrong += [f"{number} {times} times" for number, times in found.items() if times != 1 or number not in begun]
    return wrong
