"""What the checks say to Dagster: passed or not, how severely, with which rows."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import dagster as dg
import numpy as np
import polars as pl
import pytest

from mdp.config.sections import MaintenanceSettings
from mdp.config.settings import load_settings
from mdp.defs.agreement import exchanges_agree, is_fresh, matches_native_timeframe, nothing_is_left_failed
from mdp.defs.evaluations import findings, passed, severity
from mdp.domain.market import SPOT_MARKETS, VOLATILITY_MARKETS, Exchange
from mdp.domain.plausibility import PLAUSIBILITY
from mdp.domain.timeframe import Timeframe
from mdp.errors import ExchangeUnavailable
from mdp.pipeline.batches import keep, parts_of
from mdp.pipeline.checking.verdicts import Example, Sample, Verdict
from mdp.pipeline.integrity import _RULES_OF_A_ROW
from mdp.pipeline.resampling import resample_candles
from mdp.ports import DVOL, FAILED_FETCHES, GAPS, OHLCV, Slice
from mdp.storage.memory import MemoryStore
from mdp_tests.pipeline.test_failed_days import failed
from mdp_tests.support.builders import MARKET, NOW, at, candles, every_minute, frame, window
from mdp_tests.support.scripted_source import ScriptedExchanges

DAY = window("2024-12-30", "2024-12-31")
CHECKS_EXPLAINED = (Path(__file__).parents[2] / "docs" / "checks.md").read_text("utf-8")
OK = Verdict(1440, {}, {})


def hundred(asked, rows):
    """What an exchange says of its candles that trades 1.0 for 100.0 each minute."""
    minutes = asked[1].minutes
    return rows.with_columns(
        volume=1.0 * minutes, quote_volume=100.0 * minutes, trades=pl.lit(7 * minutes, dtype=pl.Int64),
        high=pl.lit(100.0), low=pl.lit(100.0),
    )  # fmt: skip


class Night:
    """The night after 2024-12-30, with what is stored of it."""

    def __init__(self):
        self.store = MemoryStore()
        self.exchanges = ScriptedExchanges(price=lambda market, moment: 100.0, edit=hundred)
        self.now = at("2024-12-31T00:40")

    def check(self, check, **more):
        # the function itself: Dagster's own way of calling it makes an instance, which takes a fifth of a second
        function = check.op.compute_fn.decorated_fn
        return function(store=self.store, settings=load_settings(), clock=lambda: self.now, **more)

    def native(self):
        return self.check(matches_native_timeframe, native_sources=self.exchanges)

    def put(self, market, rows):
        named = rows.with_columns(exchange=pl.lit(market.exchange.value), symbol=pl.lit(market.symbol_key))
        self.store.replace(OHLCV, Slice(market, (Timeframe.M1,), DAY), named)

    def change(self, market, **values):
        part = Slice(market, (Timeframe.M1,), DAY)
        self.store.replace(OHLCV, part, self.store.read(OHLCV, part).with_columns(**values))


@pytest.fixture(scope="module")
def minutes():
    return candles(*every_minute("2024-12-30", "2024-12-31", close=100.0, volume=1.0, quote_volume=100.0))


@pytest.fixture(scope="module")
def tables(minutes):
    """What a good night leaves behind: all markets at one price, and the last minute of both indices."""
    one = Night()
    for market in SPOT_MARKETS:
        one.put(market, minutes)
    parts = parts_of([(market, at("2024-12-30").date()) for market in SPOT_MARKETS])
    for batch in resample_candles(parts, one.store, lambda: one.now):
        keep(one.store, batch)
    for index in VOLATILITY_MARKETS:
        key = {"exchange": "deribit", "symbol": index.symbol_key, "timeframe": "1m"}
        row = {**key, "open_time": at("2024-12-30T23:59"), "dvol": 50.0, "hour_open_time": at("2024-12-30T22:00"),
               "age_minutes": 59, "source": "rest", "ingested_at": NOW}  # fmt: skip
        one.store.replace(DVOL, Slice(index, (Timeframe.M1,), DAY), frame([row], DVOL.schema))
    return one.store._tables


@pytest.fixture
def night(tables):
    one = Night()
    one.store._tables = dict(tables)
    return one


def table(result, name):
    return [record.data for record in result.metadata[name].records]


def test_a_good_night_passes_every_check_of_all_markets(night):
    for check in (is_fresh, exchanges_agree, nothing_is_left_failed):
        assert night.check(check).passed, check
    (native,) = night.native()
    assert native.passed
    assert [row["compared"] for row in table(native, "candles")] == [313] * 9
    assert night.check(exchanges_agree).metadata["markets compared"].value == 9


@pytest.mark.parametrize(
    ("now", "passes"),
    [("2024-12-31T00:40", True), ("2024-12-31T23:59", True), ("2025-01-01T00:39:59", True),
     ("2025-01-01T00:40", False), ("2025-01-01T03:00", False)],
)  # fmt: skip
def test_fresh_is_whose_last_day_is_there_to_its_end_from_forty_minutes_after_it(night, now, passes):
    night.now = at(now)
    assert night.check(is_fresh).passed == passes


@pytest.mark.parametrize("hour", [1, 12, 23])
def test_a_day_that_was_not_collected_is_seen_at_any_hour_of_the_next(night, minutes, hour):
    night.put(MARKET, minutes.clear())
    night.store.replace(OHLCV, Slice(MARKET, (Timeframe.M1,), window("2024-12-29", "2024-12-30")), candles(
        *every_minute("2024-12-29T23:00", "2024-12-30")))  # fmt: skip
    night.now = at("2024-12-31") + timedelta(hours=hour)
    result = night.check(is_fresh)
    assert result.metadata["stale"].value == "binance:BTC-USDT"
    assert result.metadata["last minute"].value == "2024-12-30T23:59:00Z"


@pytest.mark.parametrize(
    ("cause", "is_permanent", "passes"),
    [("exchange_outage", False, True), ("no_trades", False, True), ("unknown", True, True), ("unknown", False, False)],
)
def test_a_day_that_ends_in_a_gap_is_fresh_where_the_gap_is_settled(night, minutes, cause, is_permanent, passes):
    night.put(MARKET, minutes.head(1430))
    row = dict.fromkeys(GAPS.schema) | {
        "exchange": "binance", "symbol": "BTC-USDT", "timeframe": "1m", "start": at("2024-12-30T23:50"),
        "end": DAY.end, "slots": 10, "cause": cause, "is_permanent": is_permanent,
    }  # fmt: skip
    night.store.replace(GAPS, Slice(MARKET, (Timeframe.M1,), DAY), frame([row], GAPS.schema))
    assert night.check(is_fresh).passed == passes


def test_one_dead_index_is_not_hidden_by_all_that_live(night):
    index = VOLATILITY_MARKETS[1]
    night.store.replace(DVOL, Slice(index, (Timeframe.M1,), DAY), DVOL.schema.to_frame())
    result = night.check(is_fresh)
    assert not result.passed
    assert result.metadata["stale"].value == "deribit:ETH-DVOL"


def test_an_exchange_whose_prices_leave_the_others_is_named_with_minutes_that_show_it(night):
    night.change(SPOT_MARKETS[6], close=150.0)
    result = night.check(exchanges_agree)
    assert not result.passed
    assert result.severity is dg.AssetCheckSeverity.WARN
    assert {row["market"] for row in table(result, "disagreeing")} == {"okx:BTC-USDT"}
    assert len(table(result, "samples")) == 20
    assert "okx=150.0" in table(result, "samples")[0]["closes"]


def test_two_that_disagree_fail_the_check_although_none_of_the_three_is_named(night):
    for market, level in zip(SPOT_MARKETS[::3], (99.83, 100.0, 100.17), strict=True):
        night.change(market, close=level)
    result = night.check(exchanges_agree)
    assert not result.passed
    shown = [(row["market"], row["named"], row["why"].split(":")[0]) for row in table(result, "disagreeing")]
    assert shown == [("binance:BTC-USDT", "no", "against okx"), ("okx:BTC-USDT", "no", "against binance")]


def test_a_shift_is_named_in_hours(night):
    moves = 100 * np.exp(np.cumsum(np.random.default_rng(0).standard_normal(1440 + 480) * 1e-4))
    for market in SPOT_MARKETS[::3]:
        night.change(market, close=pl.Series(moves[480:]))
    night.change(SPOT_MARKETS[3], close=pl.Series(moves[:1440]))
    (one, other) = table(night.check(exchanges_agree), "disagreeing")
    assert one["market"] == other["market"] == "bybit:BTC-USDT"
    assert "shifted by +8 h" in one["why"]


def test_with_one_exchange_stored_nothing_is_passed(night, minutes):
    night.store = MemoryStore()
    night.put(MARKET, minutes)
    result = night.check(exchanges_agree)
    assert not result.passed
    assert {row["what"] for row in table(result, "not judged")} == {"BTC-USDT", "ETH-USDT", "SOL-USDT"}


def test_symbols_that_agree_do_not_pass_the_check_for_one_that_has_a_single_exchange(night, minutes):
    for market in (SPOT_MARKETS[5], SPOT_MARKETS[8]):
        night.put(market, minutes.clear())
    result = night.check(exchanges_agree)
    assert result.metadata["markets compared"].value == 6
    assert not table(result, "disagreeing")
    assert not result.passed


def test_candles_that_are_not_the_exchange_s_own_are_shown_beside_them(night):
    night.exchanges.edit = lambda asked, rows: hundred(asked, rows).with_columns(
        high=pl.lit(100.5 if asked[0].exchange is Exchange.BYBIT and asked[1] is not Timeframe.M1 else 100.0)
    )
    (result,) = night.native()
    assert not result.passed
    differing = {row["market"]: row["differing"] for row in table(result, "candles") if row["differing"]}
    assert differing == {f"bybit:{base}-USDT": 313 for base in ("BTC", "ETH", "SOL")}
    shown = table(result, "samples")
    assert len(shown) == 20
    assert (shown[0]["ours"], shown[0]["theirs"]) == ("high=100.0", "high=100.5")


def test_where_nothing_is_stored_nothing_is_passed_but_that_nothing_failed():
    night = Night()
    (native,) = night.native()
    assert not native.passed
    assert not night.check(is_fresh).passed
    assert not night.check(exchanges_agree).passed
    assert night.check(nothing_is_left_failed).passed


def test_a_day_that_was_given_up_is_seen_every_night_until_it_is_there(night):
    night.store.append(FAILED_FETCHES, failed("2024-12-30", failed_at=night.now))
    for _ in range(2):
        result = night.check(nothing_is_left_failed)
        assert not result.passed
        assert (result.severity, result.metadata["days"].value) == (dg.AssetCheckSeverity.WARN, 1)
        (row,) = table(result, "failed")
        assert (row["market"], row["first_day"]) == ("binance:BTC-USDT", "2024-12-30")
        night.now += timedelta(days=1)


def test_an_exchange_that_is_away_is_an_error_after_the_others_have_been_reported(night):
    def away(asked, rows):
        if asked[0].exchange is Exchange.OKX:
            raise ExchangeUnavailable("okx", "503")
        return hundred(asked, rows)

    night.exchanges.edit = away
    results = night.native()
    judged = next(results)
    assert judged.passed
    assert {row["market"].partition(":")[0] for row in table(judged, "candles")} == {"binance", "bybit"}
    assert judged.metadata["not judged"].value == "okx:BTC-USDT, okx:ETH-USDT, okx:SOL-USDT"
    with pytest.raises(dg.Failure, match="could not be judged: okx:BTC-USDT: okx: 503"):
        next(results)


def test_where_no_exchange_answers_there_is_no_verdict_at_all(night):
    def away(asked, rows):
        raise ExchangeUnavailable(asked[0].exchange.value, "503")

    night.exchanges.edit = away
    with pytest.raises(dg.Failure):
        next(night.native())


@pytest.mark.parametrize(("keep_days", "since"), [({}, None), ({"rejected_ohlcv": 10}, NOW - timedelta(days=10))])
def test_rejected_rows_are_missed_as_far_back_as_they_are_kept(keep_days, since):
    assert MaintenanceSettings(keep_days=keep_days).kept_since("rejected_ohlcv", NOW) == since


def verdict(**what):
    samples = tuple(
        Sample(name, Example(at(f"2024-12-30T00:{number:02}"), "1m", f"found {number}", "expected"))
        for name in {**what.get("broken", {}), **what.get("doubts", {})}
        for number in range(20)
    )
    return Verdict(1440, what.get("broken", {}), what.get("doubts", {}), samples)


@pytest.mark.parametrize(
    ("found", "passes", "worst"),
    [
        (OK, True, dg.AssetCheckSeverity.WARN),
        (verdict(doubts={"odd": 1}), False, dg.AssetCheckSeverity.WARN),
        (verdict(broken={"wrong": 1}, doubts={"odd": 1}), False, dg.AssetCheckSeverity.ERROR),
    ],
    ids=["good", "doubtful", "broken"],
)
def test_a_doubt_warns_and_a_broken_promise_is_an_error(found, passes, worst):
    verdicts = {(Slice(MARKET, (Timeframe.M1,), DAY), DAY.start.date()): found}
    assert (passed(verdicts), severity(verdicts)) == (passes, worst)


def test_the_rows_shown_are_first_one_of_every_finding_of_every_day():
    part = Slice(MARKET, (Timeframe.M1,), window("2024-12-29", "2024-12-31"))
    verdicts = {
        (part, at("2024-12-29").date()): verdict(broken={"wrong": 30}),
        (part, at("2024-12-30").date()): verdict(doubts={"odd": 30, "strange": 40}),
    }
    metadata = findings(verdicts)
    rows = [record.data for record in metadata["samples"].records]
    assert len(rows) == 20
    assert [row["what"] for row in rows[:4]] == ["wrong", "odd", "strange", "wrong"]
    assert rows[0] == {
        "market": "binance:BTC-USDT", "what": "wrong", "timeframe": "1m", "open_time": "2024-12-30T00:00:00Z",
        "found": "found 0", "expected": "expected",
    }  # fmt: skip
    assert "samples" not in findings({(part, at("2024-12-29").date()): OK})


@pytest.mark.parametrize("name", [*PLAUSIBILITY, *_RULES_OF_A_ROW, "is_fresh", "exchanges_agree",
                                  "matches_native_timeframe", "nothing_is_left_failed"])  # fmt: skip
def test_every_check_is_explained_to_who_reads_its_name(name):
    assert f"`{name}`" in CHECKS_EXPLAINED
