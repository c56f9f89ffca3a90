"""Who gets a place: as Dagster's own daemon decides by our limits, and as the workers of a backfill are counted."""

from __future__ import annotations

import json
import sys
from datetime import date

import dagster as dg
import pytest
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.storage.dagster_run import IN_PROGRESS_RUN_STATUSES
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon

from mdp.cli.workers import Work, run_workers
from mdp.config.settings import load_settings
from mdp.defs.jobs import RANGE_END, RANGE_START
from mdp.defs.queue import EXCHANGE_TAG, LIVE, PLACE_TAG, WORK
from mdp.domain.interval import Interval
from mdp.domain.market import Market
from mdp_tests.support.workplace import Workplace

pytestmark = pytest.mark.slow

WORKERS = 3

ORIGIN = RemoteJobOrigin(
    RemoteRepositoryOrigin(GrpcServerCodeLocationOrigin(host="localhost", port=1), "nobody asks it"), "nothing"
)

OBEDIENT = """
import json, os, pathlib, sys, time
log = pathlib.Path(os.environ["MDP_DATA_DIR"]) / "at-work"
def note(**said):
    with log.open("a") as file:
        file.write(json.dumps({"pid": os.getpid(), **said}) + "\\n")
print(json.dumps({"kind": "ready"}), flush=True)
for line in sys.stdin:
    run = json.loads(line)["run_id"]
    note(begins=True)
    time.sleep(0.05)
    note(begins=False)
    print(json.dumps({"kind": "ended", "run_id": run, "succeeded": True, "error": ""}), flush=True)
"""


@dg.job
def nothing():
    pass


class Queue:
    """Dagster's storage, our queue, and what its daemon would launch now; nothing is executed."""

    def __init__(self, instance):
        self.instance = instance
        self.daemon = QueuedRunCoordinatorDaemon(interval_seconds=1)

    def put(self, market, tags=None):
        day = f"2024-12-30|{market}"
        ranges = {RANGE_START: day, RANGE_END: day} if market else {}
        tags = {**ranges, **(tags or {})}
        run = self.instance.create_run_for_job(
            nothing, tags=tags, status=dg.DagsterRunStatus.QUEUED, remote_job_origin=ORIGIN
        )
        self.instance.run_coordinator.tag(run)
        return run.run_id

    def launch(self):
        """Start what the daemon would, and return the exchanges of these runs, or their place."""
        found = self.daemon._get_runs_to_dequeue(self.instance, self.instance.get_concurrency_config(), None)
        for run in found:
            self.instance.report_dagster_event(
                dg.DagsterEvent(event_type_value="PIPELINE_START", job_name=run.job_name), run.run_id
            )
        return [run.tags.get(EXCHANGE_TAG, run.tags[PLACE_TAG]) for run in found]

    def at_work(self):
        return self.instance.get_runs(dg.RunsFilter(statuses=IN_PROGRESS_RUN_STATUSES))

    def end(self, exchange):
        ended = next(run for run in self.at_work() if run.tags.get(EXCHANGE_TAG) == exchange)
        self.instance.report_run_failed(ended, "it ends")


@pytest.fixture
def queue(tmp_path, monkeypatch):
    for name, value in Workplace(tmp_path).dagster_environment.items():
        if name.startswith(("DAGSTER_", "MDP_")):
            monkeypatch.setenv(name, value)
    monkeypatch.setenv("MDP_WORKERS", str(WORKERS))
    with dg.DagsterInstance.get() as instance:
        yield Queue(instance)


def test_places_are_never_exceeded_nor_taken_by_one_exchange_and_live_always_has_its_own(queue):
    for _ in range(10):
        queue.put("binance:BTC-USDT")
    assert queue.launch() == ["binance"] * (WORKERS - 1), "one exchange leaves a place to the others"
    assert queue.launch() == []
    queue.put("okx:BTC-USDT")
    queue.put("okx:ETH-USDT")
    assert queue.launch() == ["okx"], "which the others get at once, though the first exchange waited before them"
    assert len(queue.at_work()) == WORKERS
    assert queue.launch() == [], "all places are taken"

    live = queue.put(None, {PLACE_TAG: LIVE})
    assert queue.launch() == [LIVE], "live has its own"
    assert {run.run_id for run in queue.at_work()} >= {live}
    queue.put(None, {PLACE_TAG: LIVE})
    assert queue.launch() == [], "one of it"

    queue.end("binance")
    assert len(queue.launch()) == 1, "a place that is free is given away"
    assert sum(run.tags[PLACE_TAG] == WORK for run in queue.at_work()) == WORKERS


def test_a_run_that_passed_no_queue_takes_a_place_and_none_of_live(queue):
    started = {PLACE_TAG: WORK, EXCHANGE_TAG: "bybit"}
    for _ in range(WORKERS):
        queue.instance.create_run_for_job(nothing, tags=started, status=dg.DagsterRunStatus.STARTED)
    queue.put("okx:BTC-USDT")
    queue.put(None, {PLACE_TAG: LIVE})
    assert queue.launch() == [LIVE]


def test_a_backfill_never_has_more_runs_at_work_than_workers(tmp_path, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 16)  # few cores would be a limit as well
    settings = load_settings(data_dir=tmp_path, workers=WORKERS)
    market = Market.parse("okx:BTC-USDT")
    work = [Work(market, Interval.of_day(date(2025, 1, day))) for day in range(1, 13)]
    assert len(list(run_workers(settings, work, command=(sys.executable, "-c", OBEDIENT)))) == len(work)
    notes = [json.loads(line) for line in (tmp_path / "at-work").read_text().splitlines()]
    at_once = [sum(1 if note["begins"] else -1 for note in notes[: end + 1]) for end in range(len(notes))]
    assert len({note["pid"] for note in notes}) == WORKERS
    assert max(at_once) == WORKERS
