"""Days that no market makes, and recorded days, which markets did make."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from mdp.domain import plausibility
from mdp.domain.plausibility import PLAUSIBILITY, Minutes, find_doubts, find_unfinished
from mdp.simulator.candles import to_domain
from mdp.simulator.history import History
from mdp.simulator.markets import SIMULATED_MARKETS
from mdp.simulator.recorded_days import CARRIED, load_recorded_days
from mdp_tests.golden.binance_native.test_resampling_equals_binance import MINUTES, minutes_of
from mdp_tests.support.builders import at, candles, every_minute

DAY = "2024-12-30"


def names(frame, lead=0):
    return {doubt.what for doubt in find_doubts(Minutes.of(frame).of_day(at(DAY), at("2024-12-31")) if lead else
                                                Minutes.of(frame))}  # fmt: skip


def rows(first, last=None):
    return pl.int_range(pl.len()).is_between(first, last or first + 1, closed="left")


def changed(frame, where, **values):
    return frame.with_columns(pl.when(where).then(value).otherwise(name).alias(name) for name, value in values.items())


def traded_at(volume):
    """The same minutes with another volume, at the prices of the minute."""
    return {"volume": volume, "quote_volume": volume * pl.col("close")}


def stands(frame, where):
    price = frame["close"][100]
    prices = dict.fromkeys(("open", "high", "low", "close"), pl.lit(price))
    return changed(frame, where, **prices, quote_volume=pl.col("volume") * price)


def on_a_line(frame):
    closes = frame["close"].to_numpy().copy()
    closes[101:118] = closes[100] + 5.0 * np.arange(1, 18)
    opens = np.r_[closes[0], closes[:-1]]
    whole = frame.with_columns(close=pl.Series(closes), open=pl.Series(opens)).with_columns(
        high=pl.max_horizontal("open", "close"), low=pl.min_horizontal("open", "close")
    )
    return changed(frame, rows(101, 118), **{
        name: whole[name] for name in ("open", "high", "low", "close")
    }, quote_volume=pl.col("volume") * whole["close"])  # fmt: skip


def spliced(frame, factor=1.05):
    columns = ("open", "high", "low", "close", "quote_volume")
    return changed(frame, rows(700, 1440), **{name: pl.col(name) * factor for name in columns})


SPOILED = {
    "volume_is_mostly_one_value": lambda day: changed(day, pl.int_range(pl.len()) % 7 == 0, **traded_at(pl.lit(1.0))),
    "volume_has_few_values": lambda day: changed(
        day, pl.lit(value=True), **traded_at(1.0 + pl.int_range(pl.len()) % 12)
    ),
    "price_stands_still_while_traded": lambda day: stands(day, rows(101, 180)),
    "nothing_trades_for_hours": lambda day: changed(day, rows(300, 500), **traded_at(pl.lit(0.0))),
    "closes_lie_on_a_line": on_a_line,
    "price_jumps_between_minutes": spliced,
    "price_leaves_both_neighbours": lambda day: changed(day, rows(700), high=pl.col("high") * 1.07),
    "quote_volume_does_not_fit_the_prices": lambda day: changed(day, rows(700), quote_volume=pl.col("volume")),
    "received_before_it_opened": lambda day: changed(day, rows(700), ingested_at=pl.lit(at("2024-12-29"))),
}
"""Of each rule a day that it alone doubts, made of a recorded one."""


def test_every_rule_has_a_day_that_it_alone_doubts():
    assert SPOILED.keys() == PLAUSIBILITY.keys()


@pytest.mark.parametrize("rule", SPOILED)
def test_a_spoiled_day_is_doubted_by_the_rule_it_breaks_and_by_no_other(rule):
    day = minutes_of(DAY)
    spoiled = SPOILED[rule](day)
    assert names(day) == set()
    assert names(spoiled) == {rule}
    (doubt,) = find_doubts(Minutes.of(spoiled))
    assert doubt.minutes > 0
    assert all(one.found and one.expected for one in doubt.odd)


@pytest.mark.parametrize(("factor", "is_odd"), [(0.98, True), (1.0, False), (1.02, True), (1000.0, True)])
def test_an_average_price_is_odd_below_the_low_as_above_the_high(factor, is_odd):
    flat = {name: pl.col("close") for name in ("open", "high", "low")}
    day = changed(minutes_of(DAY), rows(700), **flat, quote_volume=pl.col("volume") * pl.col("close") * factor)
    assert names(day) == ({"quote_volume_does_not_fit_the_prices"} if is_odd else set())


def margins(frame):
    """How near a day comes to each bound: the value seen, as a share of what is allowed."""
    day = Minutes.of(frame)
    values, counts = day.volumes
    traded = counts.sum()
    follows = day.follows[1:]
    jumps = np.abs(np.log(day.open[1:] / day.close[:-1]))[follows]
    idle = max((end - start for start, end in runs(day.volume == 0)), default=0)
    wide = max(plausibility.JUMP, plausibility.USUAL_MOVES * day.usual_move)
    prices = (day.quote_volume / np.where(day.volume > 0, day.volume, np.nan))[day.volume > 0]
    outside = np.maximum(prices / day.high[day.volume > 0], day.low[day.volume > 0] / prices) - 1
    return {
        "one volume": counts.max() / traded / plausibility.MOST_COMMON_VOLUME if traded >= 60 else 0,
        "few volumes": plausibility.DISTINCT_VOLUMES / (len(values) / traded) if traded >= 60 else 0,
        "idle": idle / plausibility.IDLE_MINUTES,
        "jump": jumps.max() / wide,
        "quote volume": outside.max() / plausibility.QUOTE_SLACK,
    }


def runs(flags):
    edges = np.flatnonzero(np.diff(np.r_[False, flags, False].astype(int))).tolist()
    return zip(edges[::2], edges[1::2], strict=True)


def test_no_recorded_day_is_doubted_and_none_comes_near_a_bound():
    worst = {}
    for day in MINUTES:
        assert names(minutes_of(day)) == set(), day
        worst = {name: max(worst.get(name, 0), value) for name, value in margins(minutes_of(day)).items()}
    print({name: f"{value:.3f} of the bound" for name, value in worst.items()})
    assert max(worst.values()) < 0.6


@pytest.mark.slow
def test_no_generated_day_of_any_market_is_doubted():
    history = History(20170801, load_recorded_days(CARRIED))
    for market in SIMULATED_MARKETS:
        for number in range(market.first_candle_ms // 86_400_000 + 1, 20_600, 61):
            (day,) = history.days(market, plausibility.Timeframe.M1, number, number)
            frame = to_domain(day.candles, market.market, plausibility.Timeframe.M1)
            received = frame.with_columns(ingested_at=pl.col("open_time") + timedelta(hours=30))
            assert names(received) == set(), (str(market.market), number)


def test_prices_of_another_origin_are_seen_at_midnight_too():
    day = minutes_of(DAY)
    before = day.head(1).with_columns(
        pl.col("open_time") - timedelta(minutes=1),
        *(pl.col(name) * 1.1 for name in ("open", "high", "low", "close")),
    )
    joined = pl.concat([before, day])
    assert names(joined, lead=1) == {"price_jumps_between_minutes"}
    (doubt,) = find_doubts(Minutes.of(joined).of_day(at(DAY), at("2024-12-31")))
    assert [one.row for one in doubt.odd] == [1], "the first minute of the day, not the one before it"
    (apart,) = [before.with_columns(pl.col("open_time") - timedelta(minutes=1))]
    assert names(pl.concat([apart, day]), lead=1) == set(), "across a gap a price may jump"


def test_a_day_that_stands_still_from_end_to_end_is_doubted():
    still = candles(*every_minute(DAY, "2024-12-31", close=100.0))
    assert names(still) >= {"price_stands_still_while_traded", "volume_is_mostly_one_value", "volume_has_few_values"}


@pytest.mark.parametrize(
    ("seconds", "is_unfinished"), [(-1, False), (0, True), (30, True), (54, True), (55, False), (60, False)]
)
def test_a_candle_received_while_it_formed_is_unfinished(seconds, is_unfinished):
    day = minutes_of(DAY).head(10).with_columns(ingested_at=pl.col("open_time") + timedelta(seconds=seconds))
    assert len(find_unfinished(Minutes.of(day))) == (10 if is_unfinished else 0)


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_days_of_a_few_minutes_are_judged_without_a_complaint(count):
    assert names(minutes_of(DAY).head(count)) == set()
    assert find_unfinished(Minutes.of(minutes_of(DAY).head(count))) == ()


def test_values_that_break_a_rule_of_a_row_do_no_harm():
    broken = changed(minutes_of(DAY), rows(5, 8), close=None, low=-1.0, volume=float("nan"), quote_volume=None)
    assert names(broken) <= PLAUSIBILITY.keys()
