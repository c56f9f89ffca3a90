"""The weekly job: what it does, what it tells, and that it fails by name."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from mdp.config.settings import load_settings
from mdp.defs.maintenance import maintenance_job, weekly_maintenance
from mdp.domain.candles import FAILED_FETCH_SCHEMA
from mdp.domain.timeframe import Timeframe
from mdp.errors import WriteConflict
from mdp.ports import FAILED_FETCHES, FETCHES, OHLCV, TABLES, Slice
from mdp.storage.memory import MemoryStore
from mdp_tests.support.builders import MARKET, NOW, candle, candles, frame, window

DAY = window("2025-01-01", "2025-01-02")


def stocked(store):
    old = dict.fromkeys(FAILED_FETCH_SCHEMA) | {"exchange": "binance", "symbol": "BTC-USDT", "timeframe": "1m"}
    row = old | {"window_start": DAY.start, "failed_at": NOW - timedelta(days=91)}
    store.append(FAILED_FETCHES, frame([row], FAILED_FETCH_SCHEMA))
    store.replace(OHLCV, Slice(MARKET, (Timeframe.M1,), DAY), candles(candle("2025-01-01T00:00")))
    return store


def execute(store, tmp_path, **config):
    settings = load_settings(data_dir=tmp_path, simulated=True)
    with dg.DagsterInstance.ephemeral() as instance:
        return maintenance_job.execute_in_process(
            instance=instance,
            resources={"store": store, "settings": settings, "clock": lambda: NOW},
            run_config={
                "ops": {"maintain_tables": {"config": config}},
                "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
            },
            raise_on_error=False,
        )


def told(result):
    """Metadata of the output, as plain values."""
    (event,) = [event for event in result.all_events if event.is_successful_output]
    return plain(event.event_specific_data.metadata)


def plain(metadata):
    return {
        key: [record.data for record in value.records] if isinstance(value, dg.TableMetadataValue) else value.value
        for key, value in metadata.items()
    }


def test_a_run_tells_of_each_table_before_and_after(tmp_path):
    store = stocked(MemoryStore())
    result = execute(store, tmp_path)
    assert result.success
    metadata = told(result)
    rows = {record["table"]: record for record in metadata["tables"]}
    assert list(rows) == [table.name for table in TABLES]
    failed = rows["failed_fetches"]
    assert (failed["rows_before"], failed["rows"], failed["rows_dropped"]) == (1, 0, 1)
    assert (metadata["rows dropped"], metadata["dagster/row_count"], metadata["failed"]) == (1, 1, [])
    observed = {event.asset_observation_data.asset_observation.asset_key.to_user_string() for event in result.all_events
                if event.event_type_value == "ASSET_OBSERVATION"}  # fmt: skip
    assert observed == {"raw_ohlcv", "ohlcv", "raw_dvol", "dvol"}


@pytest.mark.slow
def test_a_dry_run_changes_nothing_and_a_run_may_keep_files_for_another_time(tmp_path):
    kept = []

    class Watched(MemoryStore):
        def vacuum(self, table, keep, *, dry_run=False):
            kept.append((keep, dry_run))
            return super().vacuum(table, keep, dry_run=dry_run)

    store = stocked(Watched())
    metadata = told(execute(store, tmp_path, dry_run=True, retention_hours=3))
    assert set(kept) == {(timedelta(hours=3), True)}
    assert (metadata["dry run"], metadata["rows dropped"]) == (True, 1)
    assert len(store.read(FAILED_FETCHES, Slice(MARKET, (Timeframe.M1,), DAY))) == 1


def test_a_table_that_fails_stops_no_other_and_the_run_fails_by_its_name(tmp_path):
    class Troubled(MemoryStore):
        def compact(self, table):
            if table is FETCHES:
                raise WriteConflict("others kept winning")
            return super().compact(table)

    store = stocked(Troubled())
    result = execute(store, tmp_path)
    assert not result.success
    assert store.read(FAILED_FETCHES, Slice(MARKET, (Timeframe.M1,), DAY)).is_empty()
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    data = failure.event_specific_data.user_failure_data
    assert "fetches: compact: others kept winning" in data.description
    assert data.metadata["a retry can help"].value is True
    metadata = plain(data.metadata)
    assert [record["table"] for record in metadata["tables"]] == [table.name for table in TABLES]
    assert [(record["table"], record["step"], record["a_retry_can_help"]) for record in metadata["failed"]] == [
        ("fetches", "compact", True)
    ]


@pytest.mark.slow
def test_a_time_that_no_reader_could_rely_on_is_refused(tmp_path):
    store = stocked(MemoryStore())
    result = execute(store, tmp_path, retention_hours=0)
    assert not result.success
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    assert "retention_hours" in str(failure.event_specific_data.error)
    assert len(store.read(FAILED_FETCHES, Slice(MARKET, (Timeframe.M1,), DAY))) == 1


def test_every_sunday_one_run_is_asked_for_by_whoever_switched_the_schedule_on(definitions):
    moment = datetime(2025, 1, 5, 3, tzinfo=UTC)
    context = dg.build_schedule_context(scheduled_execution_time=moment)
    (request,) = weekly_maintenance.evaluate_tick(context).run_requests
    assert request.run_key == "2025-01-05"
    assert weekly_maintenance.cron_schedule == "0 3 * * 0"
    assert weekly_maintenance.default_status is dg.DefaultScheduleStatus.STOPPED
    assert definitions.resolve_job_def("maintenance_job").name == "maintenance_job"
