from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import dagster as dg
import pytest

from mdp.defs.jobs import RANGE_END, RANGE_START, daily_candles, daily_dvol
from mdp.domain.market import Exchange
from mdp.errors import RequestRejected


def evaluate(schedule, moment):
    return schedule.evaluate_tick(dg.build_schedule_context(scheduled_execution_time=moment)).run_requests


@pytest.mark.parametrize(
    "moment",
    [datetime(2025, 1, 1, 0, 10, tzinfo=UTC), datetime(2024, 12, 31, 19, 10, tzinfo=timezone(timedelta(hours=-5)))],
)
def test_every_night_yesterday_is_one_run_for_each_exchange(moment):
    requests = evaluate(daily_candles, moment)
    assert [(request.run_key, request.tags[RANGE_START], request.tags[RANGE_END]) for request in requests] == [
        (f"{name}-2024-12-31", f"2024-12-31|{name}:BTC-USDT", f"2024-12-31|{name}:SOL-USDT")
        for name in ("binance", "bybit", "okx")
    ]


def test_every_night_yesterday_of_both_indices_is_one_run():
    (request,) = evaluate(daily_dvol, datetime(2025, 1, 1, 0, 15, tzinfo=UTC))
    assert (request.tags[RANGE_START], request.tags[RANGE_END]) == ("BTC|2024-12-31", "ETH|2024-12-31")


def test_the_runs_of_the_schedule_do_what_they_ask_for_and_none_waits_for_another(platform):
    def okx_is_down(asked, rows):
        if asked[0].exchange is Exchange.OKX:
            raise RequestRejected("okx", "451")
        return rows

    platform.exchanges.edit = okx_is_down
    requests = evaluate(daily_candles, datetime(2025, 1, 1, 0, 10, tzinfo=UTC))
    ended = [platform.run(one.tags[RANGE_START], one.tags[RANGE_END]).success for one in requests]
    assert ended == [True, True, False]
    assert len(platform.materialized("ohlcv_resampled")) == 6
