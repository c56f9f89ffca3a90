from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import dagster as dg
import polars as pl
import pytest
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionResolvedStatus

from mdp.bus.report import BudgetReport, ExchangeUse, QuotaUse
from mdp.config.reference import Reference
from mdp.defs.partitions import CURRENCY_DAYS, MARKET_DAYS, slices_of
from mdp.domain.market import Market
from mdp.errors import ExchangeUnavailable, RateLimited, RequestRejected, WriteConflict
from mdp.pipeline.collect import Collecting
from mdp.ports import OHLCV, Fetched
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


@pytest.mark.slow
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
    for asset in LAYERS:
        assert platform.materialized(asset) == [f"2024-12-30|{BTC}", f"2024-12-31|{BTC}"], asset


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
def test_an_exchange_is_asked_again_only_where_that_can_help(platform, error, attempts):
    platform.exchanges.edit = failing_for("okx", error)
    result = platform.run("2024-12-30|okx:BTC-USDT")
    failure = the_failure(result)
    assert not result.success
    assert failure.step == "raw_ohlcv", "nothing was collected: the later layers have nothing to do"
    assert len(platform.exchanges.asked) == attempts
    assert str(error) in failure.description
    assert failure.metadata["a retry can help"].value is error.retryable
    assert failure.metadata["error"].value == "NotCollected"


def test_an_exchange_that_comes_back_within_the_step_leaves_the_run_green(platform):
    answers = iter([ExchangeUnavailable("okx", "503")])

    def once(asked, rows):
        for error in answers:
            raise error
        return rows

    platform.exchanges.edit = once
    assert platform.run("2024-12-30|okx:BTC-USDT").success
    assert platform.materialized("ohlcv_resampled") == ["2024-12-30|okx:BTC-USDT"]


@pytest.mark.slow
def test_a_store_that_refuses_ends_the_step_and_the_asking_with_it(platform):
    open_when_refused = []

    class Refusing(type(platform.store)):
        def replace(self, table, part, rows):
            open_when_refused.append(list(platform.exchanges.closed))
            raise WriteConflict("others kept winning")

    platform.store = Refusing()
    # Three slices, and room for two: whoever does not end it waits with an open connection to fetch the third.
    platform.collecting = Collecting(memory_mb=1)
    days = (f"2024-12-31|{BTC}", f"2025-02-01|{BTC}")
    result = platform.run(*days, selection=[dg.AssetKey("raw_ohlcv")])
    assert the_failure(result).description == "others kept winning"
    assert len(open_when_refused) == 3, "a conflict is what the whole step is tried again for"
    assert [len(closed) for closed in open_when_refused] == [0, 1, 2], "each attempt had ended before the next began"
    assert len(platform.exchanges.closed) == len(platform.exchanges.opened) == 3


@dataclass
class Failed:
    step: str
    description: str
    metadata: dict


def the_failure(result):
    """The one step of a run that failed, and what it said."""
    (event,) = [event for event in result.all_events if event.is_step_failure]
    said = event.event_specific_data.user_failure_data
    return Failed(event.step_key, said.description, said.metadata)


def failing_for(exchange, error):
    def edit(asked, rows):
        if asked[0].exchange == exchange:
            raise error
        return rows

    return edit


def output_metadata(result, asset):
    (event,) = [e for e in result.all_events if e.event_type_value == "HANDLED_OUTPUT" and e.step_key == asset]
    return event.event_specific_data.metadata


UP, DOWN = "2024-12-30|bybit:SOL-USDT", "2024-12-30|okx:BTC-USDT"
NOT_JUDGED = AssetCheckExecutionResolvedStatus.EXECUTION_FAILED


def test_one_exchange_that_is_down_fails_no_partition_of_another_and_the_run_ends_failed_at_its_last_layer(platform):
    platform.exchanges.edit = failing_for("okx", ExchangeUnavailable("okx", "503"))
    result = platform.run(UP, DOWN)
    for asset in LAYERS:
        assert platform.materialized(asset) == [UP], asset
        assert check_statuses(platform, asset) == {UP: OK, DOWN: NOT_JUDGED}, asset
    failure = the_failure(result)
    assert not result.success
    assert failure.step == "ohlcv_resampled"
    assert "okx:BTC-USDT [2024-12-30T00:00:00Z, 2024-12-31T00:00:00Z): okx: 503 (tried 3 times)" in failure.description
    assert "mdp backfill --missing" in failure.description
    assert [record.data for record in failure.metadata["not collected"].records] == [
        {"exchange": "okx", "market": "okx:BTC-USDT", "first_day": "2024-12-30", "days": 1,
         "error": "ExchangeUnavailable", "message": "okx: 503", "retryable": True, "attempts": 3}
    ]  # fmt: skip
    for asset in ("raw_ohlcv", "ohlcv"):
        told = output_metadata(result, asset)["not collected"].records
        assert [record.data["market"] for record in told] == ["okx:BTC-USDT"], f"{asset} says so and goes on"


@pytest.mark.parametrize("layers", [("raw_ohlcv",), ("raw_ohlcv", "ohlcv")])
def test_the_last_layer_that_was_selected_is_the_one_that_fails(platform, layers):
    platform.exchanges.edit = failing_for("okx", RequestRejected("okx", "451"))
    failure = the_failure(platform.run(UP, DOWN, selection=[dg.AssetKey(layer) for layer in layers]))
    assert failure.step == layers[-1]
    assert "asking again will not help" in failure.description
    assert all(platform.materialized(layer) == [UP] for layer in layers)


@pytest.mark.slow
def test_a_day_that_could_not_be_asked_again_is_left_out_until_it_could(platform):
    platform.run(UP, DOWN)
    platform.now += timedelta(minutes=5)
    platform.exchanges.edit = failing_for("okx", ExchangeUnavailable("okx", "503"))
    assert not platform.run(UP, DOWN).success
    for asset in LAYERS:
        assert platform.materialized(asset).count(DOWN) == 1, asset
        assert check_statuses(platform, asset) == {UP: OK, DOWN: NOT_JUDGED}, asset
    platform.now += timedelta(minutes=5)
    later = [dg.AssetKey("ohlcv"), dg.AssetKey("ohlcv_resampled")]
    assert the_failure(platform.run(UP, DOWN, selection=later)).step == "ohlcv_resampled", "launched alone, it knows"
    platform.exchanges.edit = lambda asked, rows: rows
    assert platform.run(UP, DOWN).success


def test_the_index_of_one_currency_does_not_fail_that_of_the_other(platform):
    def eth_is_refused(asked, rows):
        if asked[0].base == "ETH":
            raise RequestRejected("deribit", "11050 bad request")
        return rows

    platform.exchanges.edit = eth_is_refused
    result = platform.run("BTC|2024-12-30", "ETH|2024-12-30", job="dvol_job")
    assert the_failure(result).step == "dvol"
    for asset in ("raw_dvol", "dvol"):
        assert platform.materialized(asset) == ["BTC|2024-12-30"]
        assert check_statuses(platform, asset, CURRENCY_DAYS) == {"BTC|2024-12-30": OK, "ETH|2024-12-30": NOT_JUDGED}


def test_a_step_says_what_it_asked_of_each_exchange(platform):
    def answer(asked, rows):
        retried = {"RateLimited": 2} if asked[0].exchange == "okx" else {}
        return Fetched(rows, requests=4, retried=retried, waited_s=1.25)

    use = QuotaUse("market/candles", 40, 2, "local-dev", 32, 12, 12, {}, 0, 0)
    platform.budget_report = BudgetReport(
        "embedded", is_running=True, problem="",
        exchanges=[ExchangeUse(name, "default", 99, 5, 1.5, 1, 0, "", [use], []) for name in ("okx", "deribit")],
    )  # fmt: skip
    platform.exchanges.answer = answer
    metadata = output_metadata(platform.run(UP, DOWN, selection=[dg.AssetKey("raw_ohlcv")]), "raw_ohlcv")
    assert metadata["requests"].value == 2 * 4
    assert metadata["retried"].data == {"RateLimited": 2}
    assert metadata["waited_s"].value == pytest.approx(2.5)
    rows = {record.data["exchange"]: record.data for record in metadata["by_exchange"].records}
    assert (rows["okx"]["slices"], rows["okx"]["requests"], rows["okx"]["retried"]) == (1, 4, 2)
    assert rows["bybit"]["retried"] == 0
    (budget,) = [record.data for record in metadata["budget"].records]
    assert (budget["exchange"], budget["quota"], budget["used"], budget["of_our"], budget["waits"]) == (
        "okx", "market/candles", 12, 32, 5,
    )  # fmt: skip
    partition = platform.metadata("raw_ohlcv", DOWN)
    assert (partition["requests"], partition["source"], partition["waited_s"]) == (4, "rest", 1.2)
    assert [record.data for record in partition["retried"].records] == [{"error": "RateLimited", "requests": 2}]


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
