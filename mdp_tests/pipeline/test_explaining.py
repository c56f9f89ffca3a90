"""Everything that is known of one candle is found, whether the candle is there or not."""

from __future__ import annotations

from datetime import timedelta

import polars as pl
import pytest

from mdp.cli.explain import _as_answered
from mdp.config.reference import Outage, Reference
from mdp.domain.candles import ARCHIVE_FILE_SCHEMA, CANDLE_SCHEMA, GAP_SCHEMA, TIME
from mdp.domain.market import Exchange, Market
from mdp.domain.rules import RULE_NAMES
from mdp.domain.timeframe import Timeframe
from mdp.errors import InputError
from mdp.pipeline.batches import keep
from mdp.pipeline.collect import collect_candles
from mdp.pipeline.explaining import explain_candle
from mdp.pipeline.explanation import RULE_MEANINGS, State
from mdp.pipeline.judge import judge_candles
from mdp.pipeline.resampling import resample_candles
from mdp.pipeline.snapshots import create_snapshot
from mdp.ports import ARCHIVE_FILES, FAILED_FETCHES, GAPS, OHLCV, Slice
from mdp.ports import DVOL as DVOL_TABLE
from mdp.storage.memory import MemoryStore
from mdp_tests.pipeline.test_failed_days import failed
from mdp_tests.pipeline.test_volatility import through
from mdp_tests.support.builders import DVOL, MARKET, NOW, at, frame, window
from mdp_tests.support.scripted_source import ScriptedExchanges

OKX = Market.parse("okx:BTC-USDT")
MARKETS = tuple(map(str, (MARKET, OKX, DVOL)))
DAY = window("2024-12-30", "2024-12-31")
FIRST, SECOND = NOW, NOW + timedelta(days=1)
DOWN = Outage(Exchange.BINANCE, "", window("2024-12-30T09:50", "2024-12-30T10:10"), "a status page")


def collect(store, market, now, edit=lambda rows: rows):
    """Bring the day into the store, as a run would: the exchange has no 10:00, and 11:00 breaks two rules."""
    exchanges = ScriptedExchanges(edit=lambda _, rows: edit(rows).with_columns(fetched_at=pl.lit(now, TIME)))
    part = Slice(market, (Timeframe.M1,), DAY)
    for step in (
        lambda: collect_candles([part], exchanges, lambda: now),
        lambda: judge_candles([part], store, Reference({}, (DOWN,)), lambda: now),
        lambda: resample_candles([part], store, lambda: now),
    ):
        for batch in step():
            keep(store, batch)


def spoiled(rows):
    is_bad = pl.col("open_time") == at("2024-12-30T11:00")
    return rows.filter(pl.col("open_time") != at("2024-12-30T10:00")).with_columns(
        low=pl.when(is_bad).then(0.0).otherwise("low"), closed=~is_bad
    )


def revised(rows):
    return spoiled(rows).with_columns(
        close=pl.when(pl.col("open_time") == at("2024-12-30T12:00")).then(99.5).otherwise("close")
    )


@pytest.fixture(scope="module")
def store():
    """Collected twice, a snapshot between: 12:00 closed otherwise the second time."""
    store = MemoryStore()
    collect(store, OKX, FIRST)
    collect(store, MARKET, FIRST, spoiled)
    create_snapshot(store, "paper", [MARKET], [Timeframe.M1], window("2024-12-30", "2024-12-31"), lambda: FIRST)
    collect(store, MARKET, SECOND, revised)
    store.append(FAILED_FETCHES, failed("2024-12-30"))
    file = {
        "exchange": "binance", "symbol": "BTC-USDT", "timeframe": "1m", "window_start": at("2024-12-29"),
        "window_end": at("2024-12-31"), "path": "BTCUSDT-1m-2024-12.zip", "sha256": "ab" * 32, "is_verified": True,
        "size": 1, "rows": 2, "fetched_at": FIRST,
    }  # fmt: skip
    store.append(ARCHIVE_FILES, frame([file], ARCHIVE_FILE_SCHEMA))
    return store


def ask(store, moment, timeframe=Timeframe.M1, market=MARKET, reference=Reference({}, (DOWN,))):  # noqa: B008 immutable
    return explain_candle(
        store, market, timeframe, at(moment), markets=MARKETS, reference=reference, now=SECOND + timedelta(days=1)
    )


def test_a_stored_candle_comes_with_its_evidence(store):
    found = ask(store, "2024-12-30T12:30:59")
    assert (found.state, found.slot, found.is_floored) == (
        State.STORED, window("2024-12-30T12:30", "2024-12-30T12:31"), True
    )  # fmt: skip
    assert found.row["source"] == "rest"
    assert found.row["ingested_at"] == FIRST  # given again, it changed nothing
    assert found.evidence.fetches["fetched_at"].to_list() == [FIRST, SECOND]
    assert found.evidence.raw.select("open_time", "fetched_at").rows() == [(at("2024-12-30T12:30"), SECOND)]
    assert found.evidence.files["sha256"].to_list() == ["ab" * 32]
    assert found.evidence.failed["error"].to_list() == ["ExchangeUnavailable"]
    assert (len(found.evidence.revisions), len(found.evidence.rejected), len(found.gaps)) == (0, 0, 0)
    assert found.gap_before["start"] == at("2024-12-30T11:00")
    assert found.gap_after is None
    assert found.outage is None


def test_a_revised_candle_tells_old_and_new_and_a_snapshot_still_holds_the_old_one(store):
    found = ask(store, "2024-12-30T12:00")
    assert found.evidence.revisions.select("new_close", "revised_at").rows() == [(99.5, SECOND)]
    (held,) = found.snapshots
    assert (held.snapshot, held.is_same) == ("paper", False)
    assert held.row["close"] == found.evidence.revisions["old_close"].item()
    assert found.row["close"] == 99.5


def test_the_longer_candles_are_compared_with_their_minutes(store):
    found = ask(store, "2024-12-30T12:00")
    assert [(one.timeframe, one.minutes, one.equals_minutes) for one in found.buckets] == [
        ("5m", 5, True), ("15m", 15, True), ("1h", 60, True), ("4h", 240, True), ("1d", 1438, True)
    ]  # fmt: skip
    spoilt = MemoryStore()
    collect(spoilt, MARKET, FIRST)
    hours = Slice(MARKET, (Timeframe.H1,), DAY)
    spoilt.replace(
        OHLCV, hours, spoilt.read(OHLCV, hours).with_columns(close=1.0).filter(pl.col("open_time") != DAY.start)
    )
    by_hour = {moment: {one.timeframe: one for one in ask(spoilt, moment).buckets}["1h"] for moment in (
        "2024-12-30T00:30", "2024-12-30T12:30")}  # fmt: skip
    assert [(one.row is None, one.equals_minutes) for one in by_hour.values()] == [(True, False), (False, False)]
    assert ask(spoilt, "2024-12-30T00:30", Timeframe.H1).state is State.NOT_MADE


def test_a_gap_is_told_with_its_cause_and_how_often_it_was_seen(store):
    found = ask(store, "2024-12-30T10:00")
    assert (found.state, found.row) == (State.GAP, None)
    assert found.gaps.select("start", "end", "cause").rows() == [
        (at("2024-12-30T10:00"), at("2024-12-30T10:01"), "exchange_outage")
    ]
    assert found.sightings["fetched_at"].to_list() == [FIRST, SECOND]
    assert found.outage == DOWN
    assert found.gap_after["start"] == at("2024-12-30T11:00")
    (held,) = found.snapshots
    assert (held.row, held.is_same) == (None, True)


def test_the_candle_after_a_gap_is_in_no_gap(store):
    found = ask(store, "2024-12-30T10:01")
    assert (len(found.gaps), len(found.sightings)) == (0, 0)
    assert found.gap_before["end"] == found.slot.start


def test_a_row_that_was_rejected_is_shown_with_the_rules_it_broke(store):
    found = ask(store, "2024-12-30T11:00")
    assert found.state is State.GAP
    assert found.evidence.rejected["failed_rules"].to_list() == [["prices_are_positive", "candle_is_closed"]]
    assert len(found.evidence.raw) == 1


def test_every_rule_has_a_meaning():
    assert set(RULE_MEANINGS) == set(RULE_NAMES)


def test_other_exchanges_are_asked_for_the_same_slot(store):
    assert ask(store, "2024-12-30T10:00").others[OKX]["open_time"] == at("2024-12-30T10:00")
    assert ask(store, "2024-12-29T10:00").others == {OKX: None}


@pytest.mark.parametrize(
    ("moment", "state"),
    [("2024-12-29T10:00", State.UNFETCHED), ("2026-01-04T03:04:05", State.FORMING), ("2030-01-01", State.TO_COME)],
)
def test_where_nothing_is_stored_it_is_said_what_that_means(store, moment, state):
    assert ask(store, moment).state is state


@pytest.fixture
def lossy():
    """The whole day came; then 09:00 to 09:10 was lost of the lake, and 13:00 was altered in it."""
    store = MemoryStore()
    collect(store, MARKET, FIRST, spoiled)
    part = Slice(MARKET, (Timeframe.M1,), DAY)
    is_lost = pl.col("open_time").is_between(at("2024-12-30T09:00"), at("2024-12-30T09:10"), closed="left")
    close = pl.when(pl.col("open_time") == at("2024-12-30T13:00")).then(pl.col("close") * (1 + 1e-14))
    store.replace(OHLCV, part, store.read(OHLCV, part).filter(~is_lost).with_columns(close.otherwise("close")))
    return store


def test_a_minute_that_was_received_and_is_not_there_is_lost_and_not_unasked(lossy):
    assert ask(lossy, "2024-12-30T09:05").state is State.LOST
    assert ask(lossy, "2024-12-30T09:05").equals_answer is None
    assert ask(lossy, "2024-12-30T10:00").state is State.GAP
    assert ask(lossy, "2024-12-30T11:00").state is State.GAP  # it was rejected: no good row
    lossy.replace(OHLCV, Slice(MARKET, (Timeframe.M5,), DAY), CANDLE_SCHEMA.to_frame())
    assert ask(lossy, "2024-12-30T09:05", Timeframe.M5).state is State.LOST
    assert ask(lossy, "2024-12-30T10:05", Timeframe.M5).state is State.NOT_MADE


def test_a_gap_that_was_lost_is_told_from_a_minute_that_was_lost(lossy):
    lossy.replace(GAPS, Slice(MARKET, (Timeframe.M1,), DAY), GAP_SCHEMA.to_frame())
    assert [ask(lossy, f"2024-12-30T{time}").state for time in ("10:00", "11:00", "09:00")] == [
        State.UNJUDGED, State.UNJUDGED, State.LOST
    ]  # fmt: skip


def test_a_stored_minute_is_compared_with_the_answer_accepted_last(store, lossy):
    assert ask(store, "2024-12-30T12:00").equals_answer is True
    assert ask(store, "2024-12-30T12:00").answer["close"] == 99.5
    assert ask(lossy, "2024-12-30T12:00").equals_answer is True
    assert ask(lossy, "2024-12-30T13:00").equals_answer is False
    assert _as_answered(ask(lossy, "2024-12-30T13:00")).startswith("NO: it answered close ")
    assert ask(store, "2024-12-30T12:00", Timeframe.H1).equals_answer is None


def test_a_longer_candle_is_explained_by_all_its_minutes(store):
    found = ask(store, "2024-12-30T12:34", Timeframe.H4)
    assert found.slot == window("2024-12-30T12:00", "2024-12-30T16:00")
    assert found.row["minutes"] == 240
    assert len(found.evidence.raw) == 240
    assert [one.timeframe for one in found.buckets] == ["4h", "1d"]


class TestIndex:
    def test_a_minute_comes_with_the_hour_it_carries(self):
        store = MemoryStore()
        through(store, ScriptedExchanges(price=lambda market, moment: 50.0 + moment.hour))
        found = ask(store, "2024-12-30T10:30", market=DVOL)
        assert found.row["dvol"] == 59.0
        assert (found.equals_answer, found.answer["close"]) == (True, 59.0)
        part = Slice(DVOL, (Timeframe.M1,), DAY)
        stored = store.read(DVOL_TABLE, part)
        store.replace(DVOL_TABLE, part, stored.with_columns(dvol=1.0))
        assert ask(store, "2024-12-30T00:00", market=DVOL).equals_answer is False
        store.replace(DVOL_TABLE, part, stored.head(600))
        assert ask(store, "2024-12-30T10:30", market=DVOL).state is State.LOST
        store.replace(DVOL_TABLE, part, stored)
        assert found.evidence.raw["open_time"].to_list() == [at("2024-12-30T09:00")]
        assert found.evidence.fetches["timeframe"].to_list() == ["1h"]
        assert (found.buckets, found.others) == ((), {})

    def test_a_minute_without_a_value_comes_with_the_hours_it_might_have_carried(self):
        store = MemoryStore()
        through(
            store,
            ScriptedExchanges(
                edit=lambda _, rows: rows.filter(
                    ~pl.col("open_time").is_between(at("2024-12-30T08:00"), at("2024-12-30T11:00"), closed="left")
                )
            ),
        )
        found = ask(store, "2024-12-30T10:30", market=DVOL)
        assert found.state is State.GAP
        assert set(found.gaps["timeframe"]) == {"1m", "1h"}
        assert found.evidence.raw.is_empty()
        assert ask(store, "2024-12-30T10:00", market=DVOL).evidence.raw["open_time"].to_list() == [
            at("2024-12-30T07:00")
        ]

    def test_another_timeframe_is_refused(self):
        with pytest.raises(InputError, match="timeframe: expected 1m"):
            ask(MemoryStore(), "2024-12-30", Timeframe.H1, market=DVOL)


def test_a_time_outside_the_calendar_is_refused():
    with pytest.raises(InputError, match="time: expected a time at which there are candles"):
        ask(MemoryStore(), "9999-12-31")


def test_what_is_known_of_the_listing_is_told():
    listed = Reference({MARKET: at("2017-08-17T04:00")}, ())
    found = ask(MemoryStore(), "2017-08-01", reference=listed)
    assert found.listed_at == at("2017-08-17T04:00")
    assert found.state is State.BEFORE_LISTING
    assert ask(MemoryStore(), "2017-08-17T04:00", reference=listed).state is State.UNFETCHED
