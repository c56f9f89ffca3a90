"""A bulk file that is another one now puts exactly those days in doubt whose stored rows came from the old one."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import polars as pl
import pytest

from mdp.domain.candles import ARCHIVE_FILE_SCHEMA, FETCH_SCHEMA
from mdp.domain.interval import DAY
from mdp.domain.market import Exchange, Market
from mdp.domain.timeframe import Timeframe
from mdp.errors import ExchangeUnavailable
from mdp.pipeline.verify_archives import stored_files, verify_files
from mdp.ports import ARCHIVE_FILES, FETCHES, RAW_OHLCV, Slice
from mdp.storage.memory import MemoryStore
from mdp_tests.support.builders import MARKET, at, raw, raws, window

OLD, NEW = "a" * 64, "b" * 64
MONTH = window("2025-01-01", "2025-02-01")
FIRST = at("2025-02-05")


class Stored:
    """A store in which days were taken from files."""

    def __init__(self):
        self.store = MemoryStore()
        self._now = FIRST

    def take(self, path, sha256, start, end, *, writes=True):
        self._now += timedelta(hours=1)
        days = window(start, end)
        row = ("binance", "BTC-USDT", "1m", days.start, days.end, path, sha256, True, 9, 9, self._now)
        self.store.append(ARCHIVE_FILES, pl.DataFrame([row], schema=ARCHIVE_FILE_SCHEMA, orient="row"))
        if writes:
            self._write(days, "archive")
        return self

    def ask_rest(self, start, end):
        self._now += timedelta(hours=1)
        self._write(window(start, end), "rest")
        return self

    def note(self, source, start, end):
        """Note that days were asked for."""
        self._now += timedelta(minutes=1)
        rows = [
            ("binance", "BTC-USDT", "1m", day.start, day.end, 0, "d", 1, source, self._now)
            for day in window(start, end).days()
        ]
        self.store.append(FETCHES, pl.DataFrame(rows, schema=FETCH_SCHEMA, orient="row"))
        return self

    def _write(self, days, source):
        rows = [raw(day.start, source=source, fetched_at=self._now) for day in days.days()]
        self.store.replace(RAW_OHLCV, Slice(MARKET, (Timeframe.M1,), days), raws(*rows))

    def verify(self, within=MONTH, **published):
        async def ask(path):
            found = published[path]
            if isinstance(found, Exception):
                raise found
            return found

        return asyncio.run(verify_files(stored_files(self.store, MARKET, within), {Exchange.BINANCE: ask}))


def doubt(verdict):
    return [str(day.start.date()) for days in verdict.days().values() for span in days for day in span.days()]


def test_files_that_are_what_they_were_put_nothing_in_doubt():
    verdict = Stored().take("a", OLD, "2025-01-01", "2025-01-03").verify(a=OLD)
    assert (verdict.same, verdict.changed, verdict.unverified, verdict.days()) == (1, (), (), {})


def test_a_file_that_is_another_one_names_its_days():
    stored = Stored().take("a", OLD, "2025-01-01", "2025-01-03").take("b", OLD, "2025-01-07", "2025-01-08")
    verdict = stored.verify(a=NEW, b=OLD)
    (changed,) = verdict.changed
    assert (changed.path, changed.stored, changed.published) == ("a", OLD, NEW)
    assert changed.days == (window("2025-01-01", "2025-01-03"),)
    assert (verdict.same, doubt(verdict)) == (1, ["2025-01-01", "2025-01-02"])


def test_a_file_that_is_gone_puts_its_days_in_doubt():
    (changed,) = Stored().take("a", OLD, "2025-01-01", "2025-01-02").verify(a=None).changed
    assert changed.published is None


def test_a_file_that_could_not_be_asked_for_is_neither_the_same_nor_changed():
    stored = Stored().take("a", OLD, "2025-01-01", "2025-01-02").take("b", OLD, "2025-01-02", "2025-01-03")
    verdict = stored.verify(a=ExchangeUnavailable("binance", "down"), b=OLD)
    assert (verdict.same, verdict.changed) == (1, ())
    assert [(one.path, one.reason) for one in verdict.unverified] == [("a", "binance: down")]


def test_days_taken_again_from_the_new_file_are_not_in_doubt():
    stored = Stored().take("a", OLD, "2025-01-01", "2025-01-05").take("a", NEW, "2025-01-02", "2025-01-04")
    assert doubt(stored.verify(a=NEW)) == ["2025-01-01", "2025-01-04"]
    assert doubt(stored.verify(a="c" * 64)) == ["2025-01-01", "2025-01-02", "2025-01-03", "2025-01-04"]


def test_a_day_whose_rows_did_not_change_when_it_was_taken_again_is_not_in_doubt_for_ever():
    stored = (
        Stored().take("a", OLD, "2025-01-01", "2025-01-02").take("a", NEW, "2025-01-01", "2025-01-02", writes=False)
    )
    assert stored.verify(a=NEW).same == 1


def test_a_file_that_only_confirmed_the_stored_rows_counts_beside_the_one_they_came_from():
    stored = Stored().take("day", OLD, "2025-01-01", "2025-01-02")
    stored.take("month", OLD, "2025-01-01", "2025-01-02", writes=False)
    assert [file.path for file in stored_files(stored.store, MARKET, MONTH)] == ["day", "month"]


def test_days_collected_from_elsewhere_since_do_not_count():
    stored = Stored().take("day", OLD, "2025-01-01", "2025-01-02").take("other", OLD, "2025-01-02", "2025-01-03")
    stored.take("month", OLD, "2025-01-01", "2025-01-02").ask_rest("2025-01-02", "2025-01-03")
    assert [file.path for file in stored_files(stored.store, MARKET, MONTH)] == ["month"]


def test_a_file_without_a_row_on_a_day_counts_until_the_day_is_collected_from_elsewhere():
    stored = Stored().take("a", OLD, "2025-01-01", "2025-01-02", writes=False)
    assert doubt(stored.verify(a=NEW)) == ["2025-01-01"]
    assert stored.ask_rest("2025-01-01", "2025-01-02").verify(a=NEW).changed == ()


def test_a_day_without_any_row_leaves_doubt_when_it_is_asked_for_again_without_the_file():
    day = ("2025-01-01", "2025-01-02")
    # REST was asked to confirm what the file left out: the fetch says rest, though the file was listened to
    stored = Stored().note("rest", *day).take("a", OLD, *day, writes=False).note("rest", *day)
    assert doubt(stored.verify(a=None)) == ["2025-01-01"]
    assert stored.note("rest", *day).verify(a=None).changed == ()
    stored.take("a", NEW, *day, writes=False).note("archive", *day)
    assert (stored.verify(a=NEW).same, doubt(stored.verify(a=None))) == (1, ["2025-01-01"])


@pytest.mark.parametrize(
    ("within", "days"),
    [
        (window("2025-01-30", "2025-01-31"), ["2025-01-30"]),
        (window("2025-01-31", "2025-02-03"), ["2025-01-31"]),
        (window("2025-02-01", "2025-02-03"), []),
    ],
)
def test_only_days_of_the_window_count_wherever_their_file_begins(within, days):
    stored = Stored().take("a", OLD, "2025-01-01", "2025-02-01")
    assert doubt(stored.verify(within, a=NEW)) == days


def test_other_markets_do_not_count():
    stored = Stored().take("a", OLD, "2025-01-01", "2025-01-02")
    assert stored_files(stored.store, Market.parse("binance:ETH-USDT"), MONTH) == []
    assert all(day.duration == DAY for file in stored_files(stored.store, MARKET, MONTH) for day in file.digests)
