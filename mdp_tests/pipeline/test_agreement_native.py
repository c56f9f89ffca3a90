"""Our longer candles compared with those an exchange makes itself; made of recorded days."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta

import polars as pl
import pytest

from mdp.domain.candles import RAW_SCHEMA
from mdp.domain.interval import DAY, Interval
from mdp.domain.market import Exchange, Market
from mdp.domain.resample import resample, resample_all
from mdp.domain.timeframe import RESAMPLED, Timeframe
from mdp.errors import ExchangeUnavailable, RequestRejected
from mdp.pipeline.checking.native import (
    COMPARED,
    NOT_KNOWN,
    OWN_MINUTES,
    RESTATED,
    NotJudged,
    compare_with_native,
    earlier_day,
)
from mdp.ports import GAPS, OHLCV, Fetched, Slice
from mdp.storage.memory import MemoryStore
from mdp_tests.golden.binance_native.test_resampling_equals_binance import minutes_of
from mdp_tests.support.builders import MARKET, NOW, at, candle, candles, frame, window

TODAY = window("2024-12-30", "2024-12-31")
OKX = Market(Exchange.OKX, "BTC", "USDT")
NOON = at("2024-12-30T12:02")


@dataclass
class OwnCandles:
    """Exchanges that have the recorded minutes and make their own longer candles of them.

    ``edit`` may change an answer, or raise.
    """

    edit: object = staticmethod(lambda market, timeframe, rows: rows)
    asked: list = field(default_factory=list)

    def __call__(self, exchange):
        return self

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        pass

    async def fetch(self, market, timeframe, asked):
        self.asked.append((market, timeframe, asked))
        days = [minutes_of(str(one.start.date())) for one in Interval(asked.start, asked.end).days()]
        rows = pl.concat(days).filter(pl.col("open_time").is_between(asked.start, asked.end, closed="left"))
        made = rows if timeframe is Timeframe.M1 else resample(rows, timeframe)
        answer = made.with_columns(closed=pl.lit(value=True), fetched_at=pl.lit(NOW).cast(RAW_SCHEMA["fetched_at"]))
        names = [name for name in RAW_SCHEMA if name != "window_start"]
        return Fetched(self.edit(market, timeframe, answer.select(names)), requests=1)


def stored(*markets, days=("2024-12-30",), minutes=lambda rows: rows):
    store = MemoryStore()
    for market in markets:
        key = {"exchange": pl.lit(market.exchange.value), "symbol": pl.lit(market.symbol_key)}
        rows = minutes(pl.concat(map(minutes_of, days))).with_columns(**key)
        whole = window(days[0], "2024-12-31")
        store.replace(OHLCV, Slice(market, (Timeframe.M1,), whole), rows)
        store.replace(OHLCV, Slice(market, RESAMPLED, whole), pl.concat(resample_all(rows).values()))
    return store


def at_noon(**values):
    is_it = pl.col("open_time") == NOON
    return lambda rows: rows.with_columns(
        pl.when(is_it).then(value).otherwise(name).alias(name) for name, value in values.items()
    )


def compare(store, exchanges, *markets):
    return compare_with_native(store, markets or (MARKET,), exchanges, TODAY)


def test_our_candles_of_a_recorded_day_are_the_exchanges_own():
    exchanges = OwnCandles()
    (found,) = compare(stored(MARKET), exchanges).compared
    assert (found.compared, found.differing, found.examples, found.cause) == (288 + 24 + 1, 0, (), "")
    assert [asked[1] for asked in exchanges.asked] == list(COMPARED), "one request a timeframe"


def test_a_minute_that_was_stored_unfinished_is_seen_in_every_longer_candle():
    store = stored(MARKET, minutes=at_noon(volume=pl.col("volume") / 2, trades=pl.col("trades") // 2))
    (found,) = compare(store, OwnCandles()).compared
    assert (found.differing, found.cause) == (3, RESTATED)
    shown = {one.timeframe: one for one in found.examples}
    assert shown.keys() == {"5m", "1h", "1d"}
    assert shown["5m"].open_time == at("2024-12-30T12:00")
    assert shown["5m"].found.startswith("volume=")
    assert shown["5m"].found != shown["5m"].expected


@pytest.mark.parametrize(
    ("column", "change", "is_seen"),
    [("volume", 1e-8, True), ("volume", 1e-9, False), ("close", 0.01, True), ("trades", 1, True),
     ("quote_volume", 100.0, True), ("quote_volume", 1e-7, False)],
)  # fmt: skip
def test_prices_and_trades_are_compared_exactly_and_amounts_to_their_digits(column, change, is_seen):

    def edit(market, timeframe, rows):
        return rows.with_columns(pl.col(column) + change) if timeframe is Timeframe.M5 else rows

    (found,) = compare(stored(MARKET), OwnCandles(edit)).compared
    assert found.differing == (288 if is_seen else 0)
    assert found.cause == (OWN_MINUTES if is_seen else "")
    assert len(found.examples) == (20 if is_seen else 0)


def test_an_amount_that_an_exchange_does_not_give_is_not_compared():
    def edit(market, timeframe, rows):
        return rows.with_columns(quote_volume=pl.lit(None, pl.Float64), trades=pl.lit(None, pl.Int64))

    (found,) = compare(stored(MARKET), OwnCandles(edit)).compared
    assert found.differing == 0


def test_a_candle_without_a_volume_is_not_ours():
    def edit(market, timeframe, rows):
        return rows.with_columns(volume=pl.lit(None, pl.Float64)) if timeframe is Timeframe.H1 else rows

    (found,) = compare(stored(MARKET), OwnCandles(edit)).compared
    assert found.differing == 24


@pytest.mark.parametrize(
    ("cause", "until", "traded", "differing"),
    [("no_trades", 10, 0.0, 0), ("exchange_outage", 10, 0.0, 0), ("unknown", 10, 0.0, 1), ("no_trades", 9, 0.0, 1),
     ("no_trades", 10, 1.0, 1)],
)  # fmt: skip
def test_a_candle_without_trades_is_missed_unless_its_minutes_are_an_explained_gap(cause, until, traded, differing):
    hole = window("2024-12-30T12:05", "2024-12-30T12:10")

    def edit(market, timeframe, rows):
        is_hole = pl.col("open_time").is_between(hole.start, hole.end, closed="left")
        if timeframe is Timeframe.M5:
            return rows.with_columns(volume=pl.when(is_hole).then(traded).otherwise("volume"))
        own = stored(MARKET, minutes=lambda all_: all_.filter(~is_hole)).read(OHLCV, Slice(MARKET, (timeframe,), TODAY))
        return rows.select(pl.exclude(own.columns), "timeframe", "open_time").join(
            own, on=["timeframe", "open_time"], how="left"
        ).select(rows.columns)  # fmt: skip

    store = stored(MARKET, minutes=lambda rows: rows.filter(
        ~pl.col("open_time").is_between(hole.start, hole.end, closed="left")))  # fmt: skip
    half = hole.start + timedelta(minutes=2)
    for start, end in ((hole.start, half), (half, at(f"2024-12-30T12:{until:02}"))):
        row = dict.fromkeys(GAPS.schema) | {"exchange": "binance", "symbol": "BTC-USDT", "timeframe": "1m",
            "start": start, "end": end, "slots": (end - start) // timedelta(minutes=1), "cause": cause}  # fmt: skip
        store.replace(GAPS, Slice(MARKET, (Timeframe.M1,), Interval(start, end)), frame([row], GAPS.schema))
    (found,) = compare(store, OwnCandles(edit)).compared
    assert found.differing == differing, found.examples


@pytest.mark.parametrize("gives", [0, 287])
def test_a_candle_that_only_one_side_has_differs(gives):
    def edit(market, timeframe, rows):
        return rows.head(gives) if timeframe is Timeframe.M5 else rows

    (found,) = compare(stored(MARKET), OwnCandles(edit)).compared
    assert (found.compared, found.differing) == (313, 288 - gives)
    assert {one.expected for one in found.examples} == {"no candle"}


def test_a_candle_that_is_still_forming_is_no_witness():
    def edit(market, timeframe, rows):
        forming = rows.tail(1).with_columns(closed=pl.lit(value=False), close=1.0)
        return pl.concat([rows, forming])

    assert compare(stored(MARKET), OwnCandles(edit)).compared[0].differing == 0


def test_an_exchange_that_is_away_keeps_no_other_from_being_judged():
    def away(market, timeframe, rows):
        if market.exchange is Exchange.OKX:
            raise ExchangeUnavailable("okx", "503")
        return rows

    eth = Market(Exchange.OKX, "ETH", "USDT")
    exchanges = OwnCandles(away)
    found = compare(stored(MARKET, OKX, eth), exchanges, MARKET, OKX, eth)
    assert [one.market for one in found.compared] == [MARKET]
    assert found.not_judged.keys() == {OKX, eth}
    assert Counter(asked[0] for asked in exchanges.asked)[eth] == 0, "who is away is not asked again and again"
    error = NotJudged(found.not_judged)
    assert error.retryable
    assert str(error) == ("could not be judged: okx:BTC-USDT: okx: 503; okx:ETH-USDT: okx: 503; the other markets were")


def test_a_symbol_that_is_refused_keeps_no_other_of_its_exchange_from_being_judged():
    def refused(market, timeframe, rows):
        if market == OKX:
            raise RequestRejected("okx", "unknown instrument")
        return rows

    eth = Market(Exchange.OKX, "ETH", "USDT")
    found = compare(stored(OKX, eth), OwnCandles(refused), OKX, eth)
    assert [one.market for one in found.compared] == [eth]
    assert found.not_judged.keys() == {OKX}
    assert not NotJudged(found.not_judged).retryable


def test_that_the_minutes_cannot_be_asked_again_leaves_the_difference_standing():
    def edit(market, timeframe, rows):
        if timeframe is Timeframe.M1:
            raise ExchangeUnavailable("binance", "503")
        return rows

    report = compare(stored(MARKET, minutes=at_noon(volume=1.0)), OwnCandles(edit))
    assert [(one.differing, one.cause) for one in report.compared] == [(3, NOT_KNOWN)]
    assert not report.not_judged


def test_a_market_without_candles_is_left_out():
    assert compare(MemoryStore(), OwnCandles()).compared == ()


def test_one_earlier_stored_day_is_compared_too():
    store = stored(MARKET, days=("2024-12-28", "2024-12-29", "2024-12-30"))
    today, earlier = compare(store, OwnCandles()).compared
    assert today.window == TODAY
    assert earlier.window in (window("2024-12-28", "2024-12-29"), window("2024-12-29", "2024-12-30"))
    assert (earlier.compared, earlier.differing) == (313, 0)


def test_the_earlier_day_is_the_same_for_a_night_and_all_of_history_in_time():
    store, days = MemoryStore(), 50
    rows = [candle(at("2024-01-01") + DAY * number, timeframe="1d") for number in range(days)]
    store.replace(OHLCV, Slice(MARKET, (Timeframe.D1,), window("2024-01-01", "2024-12-31")), candles(*rows))
    nights = [Interval(TODAY.start + DAY * number, TODAY.end + DAY * number) for number in range(27 * days // 10)]
    seen = Counter(earlier_day(store, MARKET, night) for night in nights)
    assert len(seen) == days
    assert max(seen.values()) <= 5
    assert earlier_day(store, MARKET, nights[0]) == earlier_day(store, MARKET, nights[0])
    assert earlier_day(MemoryStore(), MARKET, TODAY) is None
    assert all(one.end <= TODAY.start and one.duration == timedelta(days=1) for one in seen)
