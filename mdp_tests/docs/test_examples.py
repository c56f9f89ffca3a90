"""The examples run as they are printed, against a real service, and say what is so."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mdp.config.settings import load_settings
from mdp_tests.client.feeding import Feed
from mdp_tests.client.serving import Service, build_lake

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    folder = tmp_path_factory.mktemp("examples")
    build_lake(folder)
    with Service(folder) as found:
        yield found


def run(name, service, **more):
    environment = {**os.environ, "MDP_EXAMPLE_URL": service.url, "MPLCONFIGDIR": str(service.folder), **more}
    return subprocess.run(
        [sys.executable, EXAMPLES / name], env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def test_a_backtest_says_what_it_was_run_on(service):
    done = run("backtest_load.py", service)
    assert done.returncode == 0, done.stderr
    assert "snapshot q1, identity " in done.stdout
    assert "72 of 72 hours" in done.stdout
    assert "strategy +" in done.stdout


def test_a_gap_report_lists_what_is_missing_and_draws_it(service, tmp_path):
    picture = tmp_path / "gaps.png"
    done = run("gap_report.py", service, MDP_EXAMPLE_PICTURE=str(picture))
    assert done.returncode == 0, done.stderr
    assert "40 exchange_outage" in done.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_live_loop_decides_at_each_close(service):
    feed = Feed(load_settings(data_dir=service.folder))
    try:
        feed.close_minutes(3)
        stop = threading.Event()
        closing = threading.Thread(target=lambda: [feed.close_minutes(1) for _ in range(300) if not stop.wait(0.05)])
        closing.start()
        done = run("live_loop.py", service, MDP_EXAMPLE_UPDATES="12")
        stop.set()
        closing.join()
    finally:
        feed.close()
    assert done.returncode == 0, done.stderr
    assert "trusted: True" in done.stdout
    acted = [line for line in done.stdout.splitlines() if "at the close: long" in line]
    assert acted
    assert len(acted) == len(set(acted)), "each close is another price: none is acted on twice"


def test_every_example_is_a_short_story_in_cells():
    found = sorted(EXAMPLES.glob("*.py"))
    assert [path.name for path in found] == ["backtest_load.py", "gap_report.py", "live_loop.py"]
    for path in found:
        text = path.read_text("utf-8")
        assert len(text.splitlines()) < 80, path
        assert text.count("\n# %%") >= 3, path
