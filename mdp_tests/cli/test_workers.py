"""Workers that die, at work or idle; what they say; what is done when there is nothing to order."""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import time
from datetime import date

import psutil
import pytest

from mdp.cli.processes import start, stop
from mdp.cli.workers import Durable, Ended, Work, run_workers, settle_dead_runs, work_without_orders
from mdp.config.settings import load_settings
from mdp.domain.interval import Interval
from mdp.domain.market import Market
from mdp.errors import MdpError

TALK = """
import json, os, pathlib, signal, sys, time
data = pathlib.Path(os.environ["MDP_DATA_DIR"])
def say(**message): print(json.dumps(message), flush=True)
def orders():
    say(kind="ready")
    for line in sys.stdin:
        yield json.loads(line)
"""
OBEDIENT = TALK + "for order in orders(): say(kind='ended', run_id=order['run_id'], succeeded=True, error='')"
SILENT_FAILURE = TALK + "for order in orders(): say(kind='ended', run_id=order['run_id'], succeeded=False, error='')"
DEAD_AT_WORK = (
    TALK
    + """
for order in orders():
    say(kind='durable', asset='raw_ohlcv', partition='one')
    if order['first'].endswith('01'):
        sys.exit('out of memory')
    say(kind='ended', run_id=order['run_id'], succeeded=True, error='')
"""
)
REPEATED = (
    TALK
    + """
for order in orders():
    say(kind='ended', run_id=order['run_id'], succeeded=True, error='', retried={'RateLimited': 2})
"""
)
SLOW_TO_INTERRUPT = (
    TALK
    + """
for order in orders():
    try:
        say(kind='durable', asset='raw_ohlcv', partition='one')
        time.sleep(60)
    except KeyboardInterrupt:
        (data / f"heard-{os.getpid()}").write_text(str(time.monotonic()))
        time.sleep(0.7)
        (data / f"ended-{os.getpid()}").write_text(str(time.monotonic()))
"""
)


@pytest.fixture
def settings(tmp_path):
    return load_settings(data_dir=tmp_path, workers=2)


def worker(script):
    return (sys.executable, "-c", script)


def days(*numbers, market="binance:BTC-USDT"):
    return [Work(Market.parse(market), Interval.of_day(date(2025, 1, number))) for number in numbers]


@pytest.fixture(autouse=True)
def others():
    """Processes that tests before this one left running on purpose, such as a server for the whole session."""
    OTHERS.clear()
    OTHERS.update(child.pid for child in psutil.Process().children())


OTHERS: set[int] = set()


def mine():
    return [child for child in psutil.Process().children() if child.pid not in OTHERS]


def test_every_order_ends_with_success(settings):
    work = days(1, 2, 3, 4)
    ended = list(run_workers(settings, work, command=worker(OBEDIENT)))
    assert sorted(ended, key=lambda one: one.work.window.start) == [Ended(one, "") for one in work]
    assert mine() == []


def test_a_run_that_fails_without_a_reason_does_not_pass_for_done(settings):
    (ended,) = run_workers(settings, days(1), command=worker(SILENT_FAILURE))
    assert ended.error


def test_a_worker_that_dies_at_work_fails_its_run_and_not_the_others(settings):
    work = days(1, 2, 3)
    messages = list(run_workers(settings, work, command=worker(DEAD_AT_WORK)))
    errors = {one.work: one.error for one in messages if isinstance(one, Ended)}
    assert "out of memory" in errors[work[0]]
    assert (errors[work[1]], errors[work[2]]) == ("", "")
    assert sum(isinstance(one, Durable) for one in messages) == 3


def test_when_the_only_worker_dies_idle_what_waits_ends_with_an_error(settings):
    one_worker = settings.model_copy(update={"workers": 1})
    work = days(1, 2, 3)
    messages = run_workers(one_worker, work, command=worker(OBEDIENT))
    assert next(messages) == Ended(work[0], "")
    kill(mine())
    errors = {one.work: one.error for one in messages}
    assert set(errors) == set(work[1:])
    assert all("no worker was left" in error for error in errors.values())


def test_when_one_worker_dies_idle_another_does_its_work(settings):
    work = days(*range(1, 9))
    messages = run_workers(settings, work, command=worker(OBEDIENT))
    first = next(messages)
    # Whoever said so waits for an order now; the other may be at work, so this kills one that is idle half the time.
    kill(mine()[:1])
    ended = [first, *messages]
    assert {one.work for one in ended} == set(work)
    assert sum(bool(one.error) for one in ended) <= 1, "at most the run it was at"


def kill(processes):
    for process in processes:
        os.kill(process.pid, signal.SIGKILL)
        while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)


def test_what_a_run_says_that_it_repeated_is_heard(settings):
    (ended,) = run_workers(settings, days(1), command=worker(REPEATED))
    assert (ended.error, ended.retried) == ("", {"RateLimited": 2})


def test_when_the_caller_stops_listening_all_workers_are_interrupted_at_once(settings, capfd):
    messages = run_workers(settings, days(1, 2), command=worker(SLOW_TO_INTERRUPT))
    for _ in range(min(2, os.cpu_count())):
        assert isinstance(next(messages), Durable)
    messages.close()
    heard, ended = (
        [float(file.read_text()) for file in settings.data_dir.glob(f"{what}-*")] for what in ("heard", "ended")
    )
    assert len(heard) == len(ended) == min(2, os.cpu_count())
    assert max(heard) < min(ended), "none waits for the end of another"
    assert mine() == []
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("interrupted: ")


def test_a_process_that_ignores_an_interrupt_may_end_itself_when_terminated(tmp_path):
    said = tmp_path / "said"
    stubborn = (
        "import pathlib, signal, sys, time\n"
        "def end(*_): time.sleep(0.3); out.write_text('ended'); sys.exit()\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "out = pathlib.Path(sys.argv[1]); out.write_text('ready'); time.sleep(60)"
    )
    process = start([sys.executable, "-c", stubborn, str(said)])
    while not said.exists() or said.read_text() != "ready":
        time.sleep(0.01)
    stop(process, patience_s=0.1)
    assert said.read_text() == "ended"


def test_nothing_is_started_where_no_process_died(settings):
    folder = settings.run_dir / "runs"
    folder.mkdir(parents=True)
    with (folder / "alive.lock").open("w") as alive:
        fcntl.flock(alive, fcntl.LOCK_EX)
        settle_dead_runs(settings)
    assert not settings.dagster_dir.exists()


@pytest.mark.slow
def test_the_run_of_a_dead_process_is_settled_without_any_work(settings):
    lock = settings.run_dir / "runs" / "dead.lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    settle_dead_runs(settings)
    assert not lock.exists()


def test_what_a_worker_without_orders_says_goes_to_a_file(settings, capfd):
    work_without_orders(settings, command=worker(OBEDIENT))
    assert capfd.readouterr() == ("", "")
    assert "ready" in (settings.data_dir / "log" / "storage.log").read_text()


def test_a_worker_without_orders_that_fails_is_an_error_with_its_last_line(settings):
    with pytest.raises(MdpError, match="disk full"):
        work_without_orders(settings, command=worker("raise SystemExit('disk full')"))
