"""The image of ``deploy/Dockerfile``, made and run without a container engine: all is found, nothing is written to.

What is proved elsewhere: the services together (``test_topology``), the lock's packages (``support.audit``).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import psutil
import pytest

from mdp.cli.processes import free_port
from mdp.config.settings import PROJECT_ROOT
from mdp_tests.deploy.dockerfile import DOCKERFILE, context_files, is_ignored, read_dockerfile
from mdp_tests.deploy.image import Image, build, may_contain
from mdp_tests.support.audit import DEPLOYED, plain, read_lock

contained = pytest.mark.skipif(not may_contain(), reason="mounts and namespaces of one's own need root on Linux")


def test_a_build_sees_what_the_image_needs_and_nothing_else():
    seen = {path.as_posix() for path in context_files()}
    assert {"mdp/definitions.py", "mdp/config/environments/staging.toml", "data/reference/markets.csv"} <= seen
    assert {"dagster.yaml", "deploy/dagster/celery/dagster.yaml", "deploy/requirements.lock"} <= seen
    tops = {path.split("/")[0] for path in seen}
    assert tops <= {"mdp", "data", "deploy", "dagster.yaml", "workspace.yaml", "pyproject.toml", "LICENSE", "README.md"}
    assert not {path for path in seen if "__pycache__" in path}
    assert {path for path in seen if path.startswith("data/")} == {
        f"data/reference/{path.name}" for path in (PROJECT_ROOT / "data" / "reference").iterdir()
    }


@pytest.mark.parametrize(
    ("path", "ignored"),
    [
        ("deploy/.env", True), ("deploy/settings.env", True), ("deploy/prometheus.key", True), (".git/config", True),
        ("data/api/keys.json", True), ("data/lake/ohlcv/part.parquet", True), ("mdp_tests/conftest.py", True),
        (".venv/bin/python", True), ("mdp/cli/app.py", False), ("mdp/cli/__pycache__/app.pyc", True),
        ("data/reference/markets.csv", False),
    ],
)  # fmt: skip
def test_no_secret_and_nothing_generated_gets_near_a_build(path, ignored):
    lines = (PROJECT_ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert is_ignored([line for line in lines if line and not line.startswith("#")], path) is ignored


def test_the_image_is_pinned_installs_by_hash_and_runs_as_nobody_in_particular():
    first, last = read_dockerfile(DOCKERFILE.read_text("utf-8"))
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert first.base == last.base
    assert first.base.startswith(f"python:{version}.")
    assert first.base.endswith("-slim-bookworm")
    (installs,) = (step.words for step in first.steps if "/app/deploy/requirements.lock" in step.text and step.words)
    assert {"--no-deps", "--require-hashes"} <= set(installs)
    assert last.last("USER").text == "10001:10001"
    assert last.last("CMD").words is not None, "a shell as number 1 would not pass SIGTERM on"
    assert last.environment()["MDP_DATA_DIR"] == "/data"
    assert not any("pip" in step.text or "gcc" in step.text for step in last.steps), "what builds stays behind"


def test_what_the_image_installs_is_what_is_tested_here():
    """The test image borrows these packages: they must be those that the lock names."""
    pins, wrong = read_lock(DEPLOYED.read_text("utf-8"))
    assert not wrong
    here = {plain(one.metadata["Name"]): one.version for one in metadata.distributions()}
    differ = {pin.name: (pin.version, here[pin.name]) for pin in pins if here.get(pin.name, pin.version) != pin.version}
    assert not differ or all(pin.has_marker for pin in pins if pin.name in differ), differ


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    return build(tmp_path_factory.mktemp("image"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    os.chown(folder, 10001, 10001)
    return folder


@pytest.mark.slow
@contained
def test_a_container_finds_everything_and_writes_to_its_volume_alone(image, data):
    done = image.run("mdp", "init", data=data)
    assert done.returncode == 0, done.stderr
    assert (data / "dagster" / "history" / "runs.db").is_file()
    assert {path.stat().st_uid for path in data.rglob("*")} == {10001}
    script = (
        "import mdp, os; from mdp.config.reference import REFERENCE_DIR\n"
        "from mdp.config.settings import load_settings\n"
        "assert mdp.__file__ == '/app/mdp/__init__.py', mdp.__file__\n"
        "assert (REFERENCE_DIR / 'markets.csv').is_file()\n"
        "for own in ('sqlite', 'postgres', 'celery'):\n"
        "    os.environ['MDP_DAGSTER__INSTANCE'] = own\n"
        "    assert (load_settings().dagster_home / 'dagster.yaml').is_file(), own\n"
        "from mdp.definitions import defs\n"
        "assert len(defs().get_repository_def().asset_graph.get_all_asset_keys()) > 5\n"
    )
    done = image.run("python", "-c", script, data=data)
    assert done.returncode == 0, done.stderr
    for place in ("/app/x", "/opt/venv/x", "/etc/x", "/usr/x"):
        done = image.run("touch", place, data=data)
        assert done.returncode == 1, f"{place} can be written"
    done = image.run("sh", "-c", "id -u; grep -E '^Cap(Eff|Bnd|Prm)|^NoNewPrivs' /proc/self/status", data=data)
    user, *capabilities, privileges = done.stdout.split("\n")[:5]
    assert user == "10001"
    assert {line.split()[1] for line in capabilities} == {"0" * 16}
    assert privileges.split()[1] == "1"


@pytest.mark.slow
@contained
def test_a_container_answers_its_health_check_and_ends_when_told(image, data):
    """As number 1 of its process tree, where a signal that nobody handles is not delivered at all."""
    assert image.run("mdp", "init", data=data).returncode == 0
    command = image.stage.last("CMD").words
    port = str(free_port(0))
    running = image.start(*["127.0.0.1" if word == "0.0.0.0" else port if word == "8000" else word for word in command],
                          data=data)  # fmt: skip
    try:
        check = [word.replace("8000", port) for word in image.stage.last("HEALTHCHECK").text.split("CMD ")[1:]]
        words = read_dockerfile(f"FROM x\nCMD {check[0]}")[0].last("CMD").words
        deadline = time.monotonic() + 60
        while (asked := image.run(*words, data=data)).returncode != 0:
            assert running.poll() is None, running.communicate()[0][-2_000:]
            assert time.monotonic() < deadline, asked.stderr
        (own,) = psutil.Process(running.pid).children()
        own.send_signal(signal.SIGTERM)
        said, _ = running.communicate(timeout=30)
        assert running.returncode == 0, said[-2_000:]
    finally:
        _end(running)


def _end(running: subprocess.Popen[str]) -> None:
    if running.poll() is None:
        os.killpg(running.pid, signal.SIGKILL)
    running.wait()
