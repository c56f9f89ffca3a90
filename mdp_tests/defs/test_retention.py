"""Old runs go, and no partition turns grey by it."""

import subprocess
import sys
import time
import warnings
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest
from dagster._core.events import DagsterEventType
from dagster._core.storage.runs.schema import RunsTable

from mdp.defs import retention
from mdp.defs.retention import removable_runs, remove_run
from mdp_tests.support.postgres import running_postgres
from mdp_tests.support.workplace import Workplace

pytestmark = pytest.mark.slow

DAYS = dg.DailyPartitionsDefinition("2024-12-01", end_date="2024-12-10")


@dg.asset(partitions_def=DAYS)
def daily(context: dg.AssetExecutionContext) -> None:
    pass


with warnings.catch_warnings():  # checks of partitions are still a preview, as those of the product
    warnings.simplefilter("ignore", dg.PreviewWarning)

    @dg.asset_check(asset=daily, partitions_def=DAYS)
    def is_fine() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=True)


@dg.asset
def single() -> None:
    pass


@dg.asset_check(asset=single)
def is_there() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


KEYS = [daily.key, single.key]
CHECKS = [*is_fine.check_keys, *is_there.check_keys]


@pytest.fixture(scope="module")
def postgres(tmp_path_factory):
    with running_postgres(tmp_path_factory.mktemp("postgres")) as server:
        yield server


ON_BOTH = pytest.mark.parametrize("instance", ["sqlite", "postgres"], indirect=True)


@pytest.fixture
def instance(request, tmp_path):
    overrides = {}
    if getattr(request, "param", "sqlite") == "postgres":
        overrides["storage"] = {"postgres": {"postgres_url": request.getfixturevalue("postgres").url}}
    with dg.DagsterInstance.local_temp(str(tmp_path), overrides=overrides) as found:
        found.wipe()  # one server for all
        yield found


def run(instance, day=None, **more):
    chosen = [daily, is_fine] if day else [single]
    return dg.materialize(chosen, instance=instance, partition_key=day, raise_on_error=False, **more).run_id


def later():
    time.sleep(0.01)
    return datetime.now(UTC)


def removable(instance, before=None):
    return removable_runs(instance, KEYS, CHECKS, before=before or later())


def known(instance):
    """What Dagster's pages draw of assets and checks: states and counts."""
    storage = instance.event_log_storage
    attempts = storage.get_latest_asset_partition_materialization_attempts_without_materializations(daily.key)
    observed = storage.get_latest_storage_id_by_partition(daily.key, DagsterEventType.ASSET_OBSERVATION)
    last = {key: instance.get_latest_materialization_event(key) for key in KEYS}
    return {
        "green": instance.get_materialized_partitions(daily.key),
        "red": {day: instance.get_run_by_id(run_id).status for day, (run_id, _) in attempts.items()},
        "observed": observed,
        "last": {key: event and event.run_id for key, event in last.items()},
        "verdicts": {
            info.partition_key: info.latest_execution_status for info in storage.get_asset_check_partition_info(CHECKS)
        },
        "summaries": storage.get_asset_check_summary_records(CHECKS),
    }


@ON_BOTH
def test_all_that_is_known_of_assets_and_checks_is_known_after_it(instance, tmp_path):
    def fails(context):
        raise ValueError(context.partition_key)

    def only_observes(context):
        context.log_event(dg.AssetObservation(daily.key, partition=context.partition_key))
        raise ValueError(context.partition_key)

    red, observed = (dg.asset(key=daily.key, partitions_def=DAYS)(one) for one in (fails, only_observes))
    for day in ("2024-12-02", "2024-12-03", "2024-12-02"):
        run(instance, day)
    for day, asset in (("2024-12-03", red), ("2024-12-04", red), ("2024-12-04", red), ("2024-12-05", observed)):
        dg.materialize([asset], instance=instance, partition_key=day, raise_on_error=False)
    for _ in range(3):
        run(instance)
    before = known(instance)
    assert before["green"] == {"2024-12-02", "2024-12-03"}
    assert before["red"].keys() == {"2024-12-03", "2024-12-04", "2024-12-05"}
    assert before["observed"].keys() == {"2024-12-05"}

    gone = removable(instance)
    assert len(gone) == 4  # the first 12-02, the first of 12-04, two without a partition
    for run_id in gone:
        remove_run(instance, run_id, tmp_path / "storage")
    assert known(instance) == before
    assert removable(instance) == []


def test_runs_that_stay_for_ever_do_not_hide_those_behind_them(instance, monkeypatch):
    monkeypatch.setattr(retention, "_AT_A_TIME", 2)
    monkeypatch.setattr(retention, "MOST_AT_ONCE", 3)
    for number in range(2, 8):
        run(instance, f"2024-12-0{number}")
    singles = [run(instance) for _ in range(5)]
    assert removable(instance) == singles[:3]


def test_files_of_a_run_go_with_it(instance, tmp_path):
    first, _ = run(instance), run(instance)
    logs = tmp_path / "storage" / first / "compute_logs"
    logs.mkdir(parents=True, exist_ok=True)
    instance.event_log_storage.delete_events(first)  # as one that was killed here: the next finds the run again
    with dg.DagsterInstance.local_temp(str(tmp_path)) as after_a_crash:
        assert removable(after_a_crash) == [first]
        remove_run(after_a_crash, first, tmp_path / "storage")
    assert list(tmp_path.rglob(f"*{first}*")) == []
    assert not instance.has_run(first)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("storage", ["sqlite", "postgres"])
def test_the_job_removes_what_is_older_than_the_setting(request, tmp_path, storage, monkeypatch):
    extra = {"MDP_DAGSTER__INSTANCE": storage, "MDP_DATA_DIR": str(tmp_path)}
    if storage == "postgres":
        extra["MDP_DAGSTER__POSTGRES_URL"] = request.getfixturevalue("postgres").url
    for name, value in extra.items():
        monkeypatch.setenv(name, value)
    place = Workplace(tmp_path, extra=extra)
    assert place.run("init").returncode == 0
    for name, value in place.dagster_environment.items():
        monkeypatch.setenv(name, value)
    with dg.DagsterInstance.get() as instance:
        assert storage in type(instance.run_storage).__name__.lower()
        runs = [run(instance) for _ in range(4)]
        make_older(instance, runs[:1] + runs[2:], days=8)
        for days, gone in (("9", []), ("7", [runs[0], runs[2]])):
            done = execute_job({**place.dagster_environment, "MDP_DAGSTER__KEEP_RUNS_DAYS": days})
            assert done.returncode == 0, done.stderr
            assert [one for one in runs if not instance.has_run(one)] == gone


def execute_job(environment):
    """The job as Dagster executes it: in a process of its own, found by its name in the project."""
    command = [sys.executable, "-m", "dagster", "job", "execute", "-m", "mdp.definitions", "-j", "retention_job"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, check=False)


def make_older(instance, runs, *, days):
    """Let runs have ended days ago, as far as the table of runs knows."""
    past = datetime.now(UTC) - timedelta(days=days)
    with instance.run_storage.connect() as connection:
        connection.execute(
            RunsTable.update()
            .where(RunsTable.c.run_id.in_(runs))
            .values(end_time=past.timestamp(), update_timestamp=past.replace(tzinfo=None))
        )


def test_a_run_whose_partition_was_made_again_may_go_and_the_later_one_stays(instance, tmp_path):
    first, other = run(instance, "2024-12-02"), run(instance, "2024-12-03")
    again = run(instance, "2024-12-02")
    assert removable(instance) == [first]
    green = instance.get_materialized_partitions(daily.key)
    remove_run(instance, first, tmp_path / "storage")
    assert instance.get_materialized_partitions(daily.key) == green == {"2024-12-02", "2024-12-03"}
    assert {one.run_id for one in instance.get_runs()} == {other, again}
    assert removable(instance) == []


def test_of_an_asset_without_partitions_the_last_run_stays(instance):
    runs = [run(instance) for _ in range(3)]
    assert removable(instance) == runs[:2]


def test_what_ended_lately_or_not_at_all_stays(instance):
    run(instance)
    run(instance)
    assert removable(instance, datetime.now(UTC) - timedelta(days=1)) == []
    going = instance.create_run_for_job(dg.define_asset_job("job", [single]).resolve(
        asset_graph=dg.Definitions([single]).resolve_asset_graph()))  # fmt: skip
    assert going.run_id not in removable(instance)


def test_a_failed_run_of_which_nothing_is_known_may_go(instance):
    @dg.asset(key="single")
    def fails() -> None:
        raise ValueError

    failed = dg.materialize([fails], instance=instance, raise_on_error=False).run_id
    assert removable(instance) == [failed]


def test_a_check_that_was_asked_alone_keeps_its_run(instance):
    made = run(instance)
    alone = dg.materialize(
        [single, is_there], instance=instance, selection=dg.AssetSelection.checks(is_there)
    ).run_id  # fmt: skip
    run(instance)
    assert removable(instance) == [made]
    assert alone in {one.run_id for one in instance.get_runs()}
