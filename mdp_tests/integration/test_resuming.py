"""Killed in the middle of a slice, a fetch goes on where it was: only the pages that were under way are asked again."""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.request
from datetime import date

import pytest

from mdp.config.exchange_sections import ExchangeSettings
from mdp.domain.interval import Interval
from mdp_tests.integration.test_interruption import kill_all
from mdp_tests.support.simulator_process import running_simulator
from mdp_tests.support.workplace import Workplace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

MARKET = "okx:BTC-USDT"
ARGUMENTS = ("backfill", "-m", MARKET, "--start", "2024-12-01", "--end", "2024-12-22")
WINDOW = Interval.of_days(date(2024, 12, 1), date(2024, 12, 21))


@pytest.fixture
def simulator():
    with running_simulator() as running:  # its own, for another test's requests would count as ours
        yield running.url


def pages(simulator, since=0):
    """The pages that were answered after a request of some number, and the number of the last request."""
    with urllib.request.urlopen(f"{simulator}/control/requests?since={since}") as answer:
        log = json.load(answer)
    asked = [f"{one['path']}?{one['query']}" for one in log["requests"] if one["status"] == 200]
    return [page for page in asked if "candles" in page], log["last"]


def test_killed_in_the_middle_of_a_slice_only_the_pages_under_way_are_asked_again(tmp_path, simulator):
    killed, undisturbed = (Workplace(tmp_path / name, simulator) for name in ("killed", "undisturbed"))
    for workplace in (killed, undisturbed):
        workplace.data_dir.mkdir()
    process = killed.start(*ARGUMENTS)
    while len(pages(simulator)[0]) < 40:
        assert process.poll() is None, (killed.data_dir / "backfill.out").read_text()
        time.sleep(0.05)
    kill_all(killed, process)
    before, last = pages(simulator)

    assert killed.run(*ARGUMENTS).returncode == 0
    after, last = pages(simulator, last)
    print(f"{len(before)} pages before the end, {len(after)} after it, {len({*before} & {*after})} asked twice")
    assert len({*before} & {*after}) <= ExchangeSettings().pages_in_flight
    assert undisturbed.run(*ARGUMENTS).returncode == 0
    whole, _ = pages(simulator, last)
    assert {*before} | {*after} == {*whole}
    assert len(before) < len(whole)
    assert killed.digests(MARKET, WINDOW) == undisturbed.digests(MARKET, WINDOW)
    assert not list((killed.data_dir / "spool").rglob("*.page")), "what is stored is not kept twice"


def test_interrupted_in_the_middle_of_a_slice_it_ends_in_seconds_and_goes_on_later(tmp_path, simulator):
    workplace = Workplace(tmp_path, simulator)
    process = workplace.start(*ARGUMENTS)
    while len(pages(simulator)[0]) < 20:
        assert process.poll() is None, (tmp_path / "backfill.out").read_text()
        time.sleep(0.05)
    started = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(60) == 130
    print(f"Ctrl-C took {time.monotonic() - started:.1f} s")
    before, last = pages(simulator)
    assert len(before) < 80, "it ended in the middle of the slice, which has a hundred pages"
    assert workplace.run(*ARGUMENTS, "--missing").returncode == 0
    after, _ = pages(simulator, last)
    assert len({*before} & {*after}) <= ExchangeSettings().pages_in_flight


def test_killed_after_slices_were_collected_and_before_they_were_judged_these_are_not_asked_again(tmp_path, simulator):
    killed, undisturbed = (Workplace(tmp_path / name, simulator) for name in ("killed", "undisturbed"))
    for workplace in (killed, undisturbed):
        workplace.data_dir.mkdir()
    arguments = ("backfill", "-m", "bybit:BTC-USDT", "--start", "2024-11-01", "--end", "2025-01-01")
    process = killed.start(*arguments)
    while len(bybit_pages(simulator)[0]) < 60:  # November has 44
        assert process.poll() is None, (killed.data_dir / "backfill.out").read_text()
        time.sleep(0.02)
    kill_all(killed, process)
    before, last = bybit_pages(simulator)
    assert killed.run(*arguments, "--missing").returncode == 0
    after, _ = bybit_pages(simulator, last)
    print(f"{len(before)} pages before the end, {len(after)} after it, {len({*before} & {*after})} asked twice")
    assert len({*before} & {*after}) <= ExchangeSettings().pages_in_flight
    assert undisturbed.run(*arguments).returncode == 0
    window = Interval.of_days(date(2024, 11, 1), date(2024, 12, 31))
    assert killed.digests("bybit:BTC-USDT", window) == undisturbed.digests("bybit:BTC-USDT", window)


def bybit_pages(simulator, since=0):
    with urllib.request.urlopen(f"{simulator}/control/requests?since={since}") as answer:
        log = json.load(answer)
    return [one["query"] for one in log["requests"] if one["status"] == 200 and "kline" in one["path"]], log["last"]
