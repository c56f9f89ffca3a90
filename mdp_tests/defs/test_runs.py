from __future__ import annotations

import dagster as dg
import polars as pl
import pytest
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionResolvedStatus

from mdp.config.reference import Reference
from mdp.defs.partitions import CURRENCY_DAYS, MARKET_DAYS, slices_of
from mdp.domain.market import Market
from mdp.errors import ExchangeUnavailable, RateLimited, RequestRejected
from mdp.ports import OHLCV
from mdp_tests.support.builders import at

BTC, ETH, SOL = (f"binance:{base}-USDT" for base in ("BTC", "ETH", "SOL"))
LAYERS = ("raw_ohlcv", "ohlcv", "ohlcv_resampled")
OK = AssetCheckExecutionResolvedStatus.SUCCEEDED
FAILED = AssetCheckExecutionResolvedStatus.FAILED


def check_statuses(platform, asset, partitions_def=MARKET_DAYS):
    """Status of the integrity check by partition, as the page shows it: only what judged the latest rows counts."""
    check = dg.AssetCheckKey(dg.AssetKey(asset), "integrity")
    state = platform.instance.event_log_storage.get_asset_check_state([(check, partitions_def)])[check]
    return {
        partition: status
        for status, subset in state.subsets.items()
        for partition in subset.subset_value.get_partition_keys()
    }


def test_one_partition_goes_through_all_layers(platform):
    result = platform.run(f"2024-12-30|{BTC}")
    assert result.success
    for asset in LAYERS:
        assert platform.materialized(asset) == [f"2024-12-30|{BTC}"]
        assert check_statuses(platform, asset) == {f"2024-12-30|{BTC}": OK}


def test_days_of_one_market_are_one_ask_and_one_event_a_partition(platform):
    result = platform.run(f"2024-12-30|{BTC}", f"2025-01-02|{BTC}")
    days = [f"{day}|{BTC}" for day in ("2024-12-30", "2024-12-31", "2025-01-01", "2025-01-02")]
    assert result.success
    assert len(platform.exchanges.asked) == 2, "one for each month"
    for asset in LAYERS:
        assert platform.materialized(asset) == days, f"{asset}: exactly one event for each partition"


def test_one_day_of_all_markets_is_one_run(platform):
    result = platform.run(f"2024-12-30|{BTC}", "2024-12-30|okx:SOL-USDT")
    assert result.success
    for asset in LAYERS:
        assert len(platform.materialized(asset)) == len(set(platform.materialized(asset))) == 9


def test_a_rectangle_of_days_and_markets_is_one_run_too(platform):
    result = platform.run(f"2024-12-30|{BTC}", f"2024-12-31|{SOL}")
    assert result.success
    expected = {f"{day}|{market}" for day in ("2024-12-30", "2024-12-31") for market in (BTC, ETH, SOL)}
    for asset in LAYERS:
        assert set(platform.materialized(asset)) == expected
        assert set(check_statuses(platform, asset)) == expected


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("2025-01-02|binance:BTC-USDT", "2024-12-30|binance:BTC-USDT"),
        ("2024-12-30|okx:BTC-USDT", "2024-12-30|bybit:BTC-USDT"),
    ],
)
def test_a_range_that_holds_no_partition_fails_instead_of_succeeding_with_nothing(platform, start, end):
    result = platform.run(start, end)
    assert not result.success
    assert platform.materialized("raw_ohlcv") == []


def test_keys_may_come_in_any_order_and_become_ordered_slices():
    keys = [f"2024-12-{day}|{market}" for market in (ETH, BTC) for day in (31, 29, 30)]
    assert [(str(part.market), str(part.window)) for part in slices_of(keys)] == [
        (BTC, "[2024-12-29T00:00:00Z, 2025-01-01T00:00:00Z)"),
        (ETH, "[2024-12-29T00:00:00Z, 2025-01-01T00:00:00Z)"),
    ]


def test_after_a_range_run_the_check_of_each_partition_has_its_own_status(platform):
    def hole_on_new_year(asked, rows):
        return rows.filter(
            ~pl.col("open_time").is_between(at("2024-12-31T10:00"), at("2024-12-31T10:05"), closed="left")
        )

    platform.exchanges.edit = hole_on_new_year
    result = platform.run(f"2024-12-30|{BTC}", f"2025-01-01|{BTC}")
    assert result.success, "a gap nobody has explained warns, it does not block"
    assert check_statuses(platform, "ohlcv") == {
        f"2024-12-30|{BTC}": OK,
        f"2024-12-31|{BTC}": FAILED,
        f"2025-01-01|{BTC}": OK,
    }
    assert platform.metadata("ohlcv", f"2024-12-31|{BTC}")["gap_count"] == 5


def test_a_broken_promise_blocks_what_lies_downstream(platform):
    platform.run(f"2024-12-30|{BTC}")

    class Leaky(type(platform.store)):
        def replace(self, table, part, rows):
            super().replace(table, part, rows.slice(1) if table is OHLCV else rows)

    leaky = Leaky()
    platform.store = leaky
    result = platform.run(f"2024-12-30|{BTC}")
    assert not result.success
    assert check_statuses(platform, "ohlcv")[f"2024-12-30|{BTC}"] is FAILED
    assert len(platform.materialized("ohlcv_resampled")) == 1, "only the undisturbed run"


def test_a_partition_before_listing_is_stored_with_no_rows_and_one_explained_gap(platform):
    market = Market.parse(SOL)
    platform.exchanges.listed_at = at("2020-08-11T06:00")
    platform.reference = Reference({market: at("2020-08-11T06:00")}, ())
    result = platform.run(f"2020-08-10|{SOL}", f"2020-08-11|{SOL}")
    assert result.success
    assert platform.metadata("ohlcv", f"2020-08-10|{SOL}")["dagster/partition_row_count"] == 0
    assert platform.metadata("ohlcv", f"2020-08-11|{SOL}")["dagster/partition_row_count"] == 1080
    assert set(check_statuses(platform, "ohlcv").values()) == {OK}


def test_partitions_that_became_durable_before_a_failure_stay_green(platform):
    def dies_in_january(asked, rows):
        if asked[2].start >= at("2025-01-01"):
            raise RequestRejected("binance", "no")
        return rows

    platform.exchanges.edit = dies_in_january
    result = platform.run(f"2024-12-30|{BTC}", f"2025-01-02|{BTC}")
    assert not result.success
    assert platform.materialized("raw_ohlcv") == [f"2024-12-30|{BTC}", f"2024-12-31|{BTC}"]


@pytest.mark.parametrize(
    ("error", "attempts"),
    [
        (ExchangeUnavailable("okx", "503"), 3),
        (RateLimited("okx", "50011", retry_after_s=0), 3),
        (RateLimited("okx", "banned", retry_after_s=600), 1),
        (RequestRejected("okx", "451"), 1),
    ],
    ids=lambda value: str(value)[:12],
)
def test_a_step_is_tried_again_only_where_that_can_help(platform, error, attempts):
    def fail(asked, rows):
        raise error

    platform.exchanges.edit = fail
    result = platform.run("2024-12-30|okx:BTC-USDT")
    (failure,) = [event.event_specific_data for event in result.all_events if event.is_step_failure]
    assert not result.success
    assert len(platform.exchanges.asked) == attempts
    assert failure.user_failure_data.description.startswith("okx: ")
    assert failure.user_failure_data.metadata["a retry can help"].value is error.retryable


def test_a_step_that_is_tried_again_and_succeeds_is_green(platform):
    answers = iter([ExchangeUnavailable("okx", "503")])

    def once(asked, rows):
        for error in answers:
            raise error
        return rows

    platform.exchanges.edit = once
    assert platform.run("2024-12-30|okx:BTC-USDT").success
    assert platform.materialized("ohlcv_resampled") == ["2024-12-30|okx:BTC-USDT"]


def test_a_step_whose_upstream_was_never_collected_says_what_to_do(platform):
    result = platform.run(f"2024-12-30|{BTC}", selection=[dg.AssetKey("ohlcv")])
    (failure,) = [event.event_specific_data for event in result.all_events if event.is_step_failure]
    assert "raw_ohlcv was never collected for 2024-12-30" in failure.user_failure_data.description


def test_metadata_of_a_partition_says_what_people_ask_first(platform):
    platform.run(f"2024-12-30|{BTC}")
    metadata = platform.metadata("ohlcv", f"2024-12-30|{BTC}")
    assert metadata["dagster/partition_row_count"] == 1440
    assert metadata["first_open_time"] == at("2024-12-30").timestamp()
    assert metadata["last_open_time"] == at("2024-12-30T23:59").timestamp()
    assert (metadata["gap_count"], metadata["rejected"], metadata["revised"]) == (0, 0, 0)
    assert len(metadata["digest"]) == 64
    assert platform.metadata("raw_ohlcv", f"2024-12-30|{BTC}")["requests"] == 2


def test_the_index_goes_through_its_own_job(platform):
    result = platform.run("BTC|2024-12-30", "ETH|2024-12-31", job="dvol_job")
    assert result.success
    expected = {f"{currency}|2024-12-{day}" for currency in ("BTC", "ETH") for day in (30, 31)}
    for asset in ("raw_dvol", "dvol"):
        assert set(platform.materialized(asset)) == expected
        assert check_statuses(platform, asset, CURRENCY_DAYS) == dict.fromkeys(expected, OK)
