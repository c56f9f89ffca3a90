"""What was stored at an earlier time is read as it was then, at every timeframe."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from mdp.config.settings import load_settings
from mdp.domain.candles import CANDLE_SCHEMA, DVOL_SCHEMA
from mdp.domain.resample import resample_all
from mdp.domain.revisions import find_revisions, keep_first_received
from mdp.domain.timeframe import RESAMPLED, Timeframe
from mdp.errors import InputError
from mdp.pipeline.batches import keep
from mdp.pipeline.volatility import collect_dvol, judge_dvol
from mdp.ports import DVOL as DVOL_TABLE
from mdp.ports import OHLCV, REVISIONS, Slice
from mdp.reading.view import View, open_view
from mdp.storage.memory import MemoryStore
from mdp_tests.pipeline.test_volatility import NOTHING_KNOWN
from mdp_tests.support.builders import DVOL, MARKET, at, candles, every_minute, window
from mdp_tests.support.scripted_source import ScriptedExchanges

SPAN = window("2024-12-31", "2025-01-02")  # over the end of a year, by which longer candles are made
M1, H1 = Timeframe.M1, Timeframe.H1
MINUTES, LONGER = (Slice(MARKET, timeframes, SPAN) for timeframes in ((M1,), RESAMPLED))
MOMENTS = [at(f"2025-01-{day:02}T06:00") for day in (1, 3, 5, 7)]


def store_as_received(store, new, now):
    """Bring one answer into a store, as judging and resampling do."""
    new = keep_first_received(
        store.read(OHLCV, MINUTES), new.with_columns(ingested_at=pl.lit(now, CANDLE_SCHEMA["open_time"]))
    )
    store.append(REVISIONS, find_revisions(store.read(OHLCV, MINUTES), new, revised_at=now))
    store.replace(OHLCV, MINUTES, new)
    made = resample_all(store.read(OHLCV, MINUTES), closed_by=now)
    store.replace(OHLCV, LONGER, pl.concat(made.values()))


def answers(seed):
    """What an exchange says of two days, each time something else: other values, minutes gone, minutes come."""
    noise = np.random.default_rng(seed)
    first = candles(*every_minute("2024-12-31", "2025-01-02"))
    for now in MOMENTS:
        is_there, is_changed = noise.random(len(first)) > 0.1, noise.random(len(first)) < 0.05
        is_over = pl.col("open_time") < now
        price = pl.Series(np.where(is_changed, noise.integers(50, 200, len(first)), first["close"]).astype(float))
        first = first.with_columns(close=price, high=pl.max_horizontal(pl.lit(300.0), "open"), low=1.0)
        yield now, first.filter(pl.Series(is_there) & is_over)


@pytest.fixture(scope="module")
def history():
    """A store after four answers, and what it held after each."""
    store, held = MemoryStore(), {}
    for now, answer in answers(seed=3):
        store_as_received(store, answer, now)
        held[now] = {part.timeframes: store.read(OHLCV, part) for part in (MINUTES, LONGER)}
    return store, held


@pytest.mark.parametrize("moment", MOMENTS)
def test_every_timeframe_is_read_as_it_was_stored_then(history, moment):
    store, held = history
    for timeframe in (M1, H1, Timeframe.D1):  # a day is made by way of all the others
        stored = held[moment][(M1,) if timeframe is M1 else RESAMPLED].filter(timeframe=timeframe.value)
        assert len(stored) >= 1
        assert View(store, as_of=moment).rows(MARKET, timeframe, SPAN).equals(stored, null_equal=True)


def test_between_two_answers_it_is_what_the_first_one_left(history):
    store, held = history
    found = View(store, as_of=MOMENTS[2] - timedelta.resolution).rows(MARKET, M1, SPAN)
    assert found.equals(held[MOMENTS[1]][(M1,)], null_equal=True)


def test_now_is_what_is_stored_and_before_anything_there_is_nothing(history):
    store, _ = history
    for timeframe in (M1, H1):
        found = View(store, as_of=MOMENTS[-1] + timedelta(days=1)).rows(MARKET, timeframe, SPAN)
        assert found.equals(View(store).rows(MARKET, timeframe, SPAN))
        before = View(store, as_of=MOMENTS[0] - timedelta(minutes=1)).rows(MARKET, timeframe, SPAN)
        assert before.is_empty()
        assert before.schema == CANDLE_SCHEMA


def test_only_buckets_that_open_inside_the_window_are_given_and_they_are_whole(history):
    store, held = history
    odd = window("2024-12-31T00:30", "2024-12-31T03:30")
    found = View(store, as_of=MOMENTS[1]).rows(MARKET, H1, odd)
    whole = held[MOMENTS[1]][RESAMPLED].filter(timeframe="1h")
    assert found.equals(whole.filter(pl.col("open_time").is_between(odd.start, odd.end)))
    assert len(found) == 3


def test_columns_can_be_chosen_of_an_earlier_state(history):
    rows = View(history[0], as_of=MOMENTS[0]).rows(MARKET, H1, SPAN, columns=["open_time", "close"])
    assert rows.columns == ["open_time", "close"]


def test_longer_candles_of_minutes_of_which_nobody_knows_when_they_came_can_be_made():
    store = MemoryStore()
    store.replace(OHLCV, MINUTES, candles(*every_minute("2024-12-31", "2024-12-31T02:00", close=1.0)))
    was = candles(*every_minute("2024-12-31", "2024-12-31T01:00", close=2.0))
    revisions = find_revisions(was, store.read(OHLCV, MINUTES).head(60), revised_at=at("2026-02-01"))
    store.append(REVISIONS, revisions.with_columns(old_ingested_at=pl.lit(None, CANDLE_SCHEMA["open_time"])))
    found = View(store, as_of=at("2026-01-15")).rows(MARKET, H1, SPAN)
    assert found.select("close", "minutes").rows() == [(2.0, 60), (1.0, 60)]
    assert found["ingested_at"].null_count() == 1


@pytest.mark.parametrize(
    ("as_of", "snapshot", "complaint"),
    [
        ("2999-01-01", None, "as_of: expected a time that is over; it is"),
        ("2024-12-30T08:00", None, "as_of: expected a time with its offset"),
        ("soon", None, "as_of: expected a date such as"),
        ("2024-12-30", "paper", "as_of: expected either as_of or snapshot"),
    ],
)
def test_a_time_that_cannot_be_meant_is_refused(tmp_path, as_of, snapshot, complaint):
    with pytest.raises(InputError, match=complaint):
        open_view(load_settings(data_dir=tmp_path), as_of=as_of, snapshot=snapshot)


@pytest.mark.slow
class TestIndex:
    """Each moment says something else of the hour of 10:00; the rest is the same."""

    DAY = window("2024-12-30", "2024-12-31")
    HOUR = Slice(DVOL, (H1,), DAY)

    def ask(self, store, now, *, close=50.0, edit=lambda rows: rows, part=HOUR):
        exchanges = ScriptedExchanges(
            price=lambda market, opened: close if opened == at("2024-12-30T10:00") else 50.0,
            edit=lambda asked, rows: edit(rows).with_columns(fetched_at=pl.lit(now, CANDLE_SCHEMA["open_time"])),
        )
        for batch in collect_dvol([part], exchanges, lambda: now, max_age_minutes=120):
            keep(store, batch)
        for batch in judge_dvol([part], store, NOTHING_KNOWN, lambda: now, max_age_minutes=120):
            keep(store, batch)
        return store.read(DVOL_TABLE, Slice(DVOL, (M1,), self.DAY))

    def read(self, store, moment):
        return View(store, as_of=moment).rows(DVOL, M1, self.DAY)

    def test_each_close_is_the_one_that_was_stored_then(self):
        store, held = MemoryStore(), {}
        for moment, close in zip(MOMENTS, (50.0, 51.0, 52.0, 50.0), strict=True):
            held[moment] = self.ask(store, moment, close=close)
        for moment, stored in held.items():
            found = self.read(store, moment + timedelta(hours=1))
            assert found.drop("ingested_at").equals(stored.drop("ingested_at"))
        assert self.read(store, MOMENTS[1]).filter(pl.col("dvol") == 51.0)["open_time"].to_list() == [
            at("2024-12-30T11:00") + timedelta(minutes=minute) for minute in range(60)
        ]

    def test_asked_again_and_said_the_same_it_is_what_it_was(self):
        store = MemoryStore()
        stored = self.ask(store, MOMENTS[0])
        self.ask(store, MOMENTS[2])
        assert self.read(store, MOMENTS[1]).drop("ingested_at").equals(stored.drop("ingested_at"))

    def test_before_it_was_asked_for_there_is_nothing(self):
        store = MemoryStore()
        self.ask(store, MOMENTS[1])
        found = self.read(store, MOMENTS[0])
        assert found.is_empty()
        assert found.schema == DVOL_SCHEMA

    @pytest.mark.parametrize("order", [1, -1], ids=["an hour that came late", "an hour that went away"])
    def test_what_it_was_before_an_hour_came_or_went_cannot_be_told_and_is_refused(self, order):
        store = MemoryStore()
        edits = [lambda rows: rows.filter(pl.col("open_time") != at("2024-12-30T10:00")), lambda rows: rows][::order]
        for moment, edit in zip((MOMENTS[0], MOMENTS[2]), edits, strict=True):
            self.ask(store, moment, edit=edit)
        with pytest.raises(
            InputError, match=r"as_of: expected 2025-01-05T06:00:00Z or later: what is kept does not tell"
        ):
            self.read(store, MOMENTS[1])
        assert len(self.read(store, MOMENTS[2])) == 1440

    @pytest.mark.parametrize("order", [1, -1], ids=["it became a good one", "it became a bad one"])
    def test_what_it_was_before_an_hour_was_judged_otherwise_cannot_be_told_and_is_refused(self, order):
        store = MemoryStore()
        bad = pl.when(pl.col("open_time") == at("2024-12-30T10:00")).then(0.0).otherwise("low")
        edits = [lambda rows: rows.with_columns(low=bad), lambda rows: rows][::order]
        for moment, edit in zip((MOMENTS[0], MOMENTS[2]), edits, strict=True):
            self.ask(store, moment, edit=edit)
        with pytest.raises(InputError, match=r"as_of: expected 2025-01-05T06:00:00Z or later"):
            self.read(store, MOMENTS[1])

    @pytest.mark.parametrize("lengths", [(H1, M1), (M1, H1)], ids=["hours then", "minutes then"])
    def test_what_it_was_while_it_was_made_of_other_candles_is_refused(self, lengths):
        store = MemoryStore()
        for moment, length in zip((MOMENTS[0], MOMENTS[2]), lengths, strict=True):
            self.ask(store, moment, part=Slice(DVOL, (length,), self.DAY))
        with pytest.raises(InputError, match="as_of: expected 2025-01-05T06:00:00Z or later"):
            self.read(store, MOMENTS[1])
