"""The pytest plugin as another project uses it: the example of the documentation, run as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

PAGE = Path(__file__).parents[2] / "docs" / "simulator.md"


def example(name):
    """The block of Python that begins with this file's name."""
    return re.search(rf"```python\n(# {name}\n.*?)```", PAGE.read_text("utf-8"), re.DOTALL)[1]


def run_pytest(folder, *arguments):
    command = [sys.executable, "-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments, str(folder)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100)


def test_the_documented_example_passes(tmp_path):
    for name in ("conftest.py", "test_my_bot.py"):
        (tmp_path / name).write_text(example(name))
    done = run_pytest(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout


def test_the_plugin_can_be_named_on_the_command_line_and_a_world_of_one_s_own_be_served(tmp_path):
    (tmp_path / "test_world.py").write_text(
        "import httpx, pytest, threading\n"
        "from mdp.simulator.simulation import build_simulation\n"
        "@pytest.fixture(scope='session')\n"
        "def exchange_world():\n"
        "    return build_simulation(seed=99)\n"
        "def test_seed(exchange_simulator):\n"
        "    health = httpx.get(exchange_simulator.url + '/healthz', trust_env=False).json()\n"
        "    assert (health['seed'], health['now'][:10]) == (99, '2025-01-08')\n"
        "def test_nothing_is_left_running():\n"
        "    assert [thread.name for thread in threading.enumerate()] == ['MainThread']\n"
    )
    done = run_pytest(tmp_path, "-p", "mdp.simulator.pytest")
    assert done.returncode == 0, done.stdout + done.stderr
