"""Counts of all processes come together on the bus, each once, and outlive the process that counted."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading

import pytest

from mdp.bus.counted import Bringer, bring_counts, read_counted
from mdp.config.settings import load_settings
from mdp.counts import COUNTERS, LEVELS, Counts
from mdp.counts.counting import MOST_SERIES

REQUESTS = ("mdp_fetch_requests", "binance", "answered")


@pytest.fixture
def settings(bus_dir, redis):
    redis.delete("mdp:counts:{local-dev}", "mdp:levels:{local-dev}")
    return load_settings(data_dir=bus_dir, simulated=True)


def test_processes_add_up_and_the_newest_level_counts(settings):
    for amount, share in ((2, 0.5), (0.5, 0.75)):
        counts = Counts()
        counts.add(REQUESTS[0], amount, *REQUESTS[1:])
        counts.set("mdp_coverage_ratio", share, "binance:BTC-USDT")
        counts.set("mdp_coverage_reported_timestamp_seconds", 1_763_880_000.25)
        assert Bringer(settings, counts).bring()
    found = read_counted(settings)
    assert found.counters == {REQUESTS: 2.5}
    reported = ("mdp_coverage_reported_timestamp_seconds",)
    assert found.levels == {("mdp_coverage_ratio", "binance:BTC-USDT"): 0.75, reported: 1_763_880_000.25}


def test_what_the_bus_took_without_our_hearing_of_it_is_counted_once(settings):
    counts = Counts()
    bringer = Bringer(settings, counts)
    counts.add(REQUESTS[0], 3, *REQUESTS[1:])
    bringer._pending, bringer._number = counts.take(), 1
    bringer._send(bringer._pending)  # taken, but its answer is lost: it is still pending
    counts.add(REQUESTS[0], 1, *REQUESTS[1:])
    assert bringer.bring()
    assert read_counted(settings).counters == {REQUESTS: 4}


def test_while_the_bus_is_away_nothing_is_lost(settings, tmp_path):
    counts = Counts()
    away = load_settings(data_dir=tmp_path, simulated=True)
    bringer = Bringer(away, counts)
    for _ in range(3):
        counts.add(REQUESTS[0], 1, *REQUESTS[1:])
        assert not bringer.bring()
    assert read_counted(away) is None
    bringer._settings = settings  # it is back
    assert bringer.bring()
    assert read_counted(settings).counters == {REQUESTS: 3}


def test_what_another_version_counted_disturbs_nobody(settings, redis):
    redis.hset("mdp:counts:{local-dev}", mapping={"mdp_of_tomorrow|x": 1, "mdp_fetch_requests|binance": 1})
    assert read_counted(settings).counters == {}


def test_nothing_is_begun_before_something_is_counted_and_all_is_brought_at_the_end(settings):
    counts = Counts()
    before = threading.active_count()
    bringing = bring_counts(settings, counts=counts, every_s=60)
    assert threading.active_count() == before
    counts.add(REQUESTS[0], 1, *REQUESTS[1:])
    assert threading.active_count() == before + 1
    bringing.stop()
    assert read_counted(settings).counters == {REQUESTS: 1}


def test_threads_count_side_by_side_and_nothing_is_lost():
    counts = Counts()
    taken = []

    def count():
        for _ in range(2_000):
            counts.add(REQUESTS[0], 1, *REQUESTS[1:])

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        taken.append(counts.take())
    for thread in threads:
        thread.join()
    taken.append(counts.take())
    assert sum(one.counters.get(REQUESTS, 0) for one in taken) == 8_000


@pytest.mark.parametrize("arguments", [("mdp_fetch_requests", -1, "a", "b"), ("mdp_fetch_requests", 1, "a"),
                                       ("mdp_fetch_requests", math.nan, "a", "b")])  # fmt: skip
def test_a_count_never_goes_backwards_and_has_all_its_labels(arguments):
    with pytest.raises(ValueError, match="mdp_fetch_requests: expected"):
        Counts().add(*arguments)


def test_a_mistake_in_a_label_cannot_fill_the_memory():
    counts = Counts()
    for number in range(MOST_SERIES + 100):
        counts.add("mdp_step_failures", 1, f"e{number}")
    assert len(counts.take().counters) == MOST_SERIES


def test_names_are_as_prometheus_has_them():
    for one in (*COUNTERS.values(), *LEVELS.values()):
        assert one.name.startswith("mdp_")
        assert not one.name.endswith("_total")
        assert one.help.endswith(".")
        assert not {"le", "quantile"} & set(one.labels)


_COUNTING = """
import multiprocessing, sys, time
from pathlib import Path
from mdp.bus.counted import bring_counts
from mdp.config.settings import load_settings
from mdp.counts import COUNTS

def work(folder):
    bring_counts(load_settings(data_dir=Path(folder), simulated=True), every_s=0.2 if "wait" in sys.argv else 60)
    COUNTS.add("mdp_fetch_requests", 1, "binance", "answered")
    if "wait" in sys.argv:
        print("counted", flush=True)
        time.sleep(60)

if __name__ == "__main__":
    if "child" in sys.argv:
        child = multiprocessing.get_context("fork").Process(target=work, args=(sys.argv[1],))
        child.start()
        child.join()
    else:
        work(sys.argv[1])
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["itself", "child"])
def test_a_process_brings_its_counts_at_its_end_also_one_that_was_forked(settings, bus_dir, tmp_path, how):
    script = tmp_path / "counting.py"
    script.write_text(_COUNTING)
    subprocess.run([sys.executable, script, bus_dir, how], check=True, timeout=60)
    assert read_counted(settings).counters == {REQUESTS: 1}


@pytest.mark.slow
def test_of_a_process_that_is_killed_only_the_last_seconds_are_missing(settings, bus_dir, tmp_path):
    script = tmp_path / "counting.py"
    script.write_text(_COUNTING)
    with subprocess.Popen([sys.executable, script, bus_dir, "wait"], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        for _ in range(300):
            if read_counted(settings).counters:
                break
            threading.Event().wait(0.05)
        os.kill(process.pid, signal.SIGKILL)
    assert read_counted(settings).counters == {REQUESTS: 1}
