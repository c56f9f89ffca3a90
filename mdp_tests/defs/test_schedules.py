from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import dagster as dg
import pytest

from mdp.defs.jobs import RANGE_END, RANGE_START, daily_candles, daily_dvol


def evaluate(schedule, moment):
    return schedule.evaluate_tick(dg.build_schedule_context(scheduled_execution_time=moment)).run_requests


@pytest.mark.parametrize(
    "moment",
    [datetime(2025, 1, 1, 0, 10, tzinfo=UTC), datetime(2024, 12, 31, 19, 10, tzinfo=timezone(timedelta(hours=-5)))],
)
def test_every_night_yesterday_of_all_markets_is_one_run(moment):
    (request,) = evaluate(daily_candles, moment)
    assert request.run_key == "2024-12-31"
    assert request.tags[RANGE_START] == "2024-12-31|binance:BTC-USDT"
    assert request.tags[RANGE_END] == "2024-12-31|okx:SOL-USDT"


def test_every_night_yesterday_of_both_indices_is_one_run():
    (request,) = evaluate(daily_dvol, datetime(2025, 1, 1, 0, 15, tzinfo=UTC))
    assert (request.tags[RANGE_START], request.tags[RANGE_END]) == ("BTC|2024-12-31", "ETH|2024-12-31")


def test_the_run_of_the_schedule_does_what_it_asks_for(platform):
    (request,) = evaluate(daily_candles, datetime(2025, 1, 1, 0, 10, tzinfo=UTC))
    assert platform.run(request.tags[RANGE_START], request.tags[RANGE_END]).success
    assert len(platform.materialized("ohlcv_resampled")) == 9
