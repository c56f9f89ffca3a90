"""Dagster's own commands load the project, and have nothing to complain about."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mdp.config.settings import PROJECT_ROOT
from mdp_tests.support.workplace import Workplace

pytestmark = pytest.mark.slow

BIN = Path(sys.executable).parent


@pytest.mark.parametrize(
    "command", [("dg", "check", "defs"), ("dagster", "definitions", "validate", "-w", "workspace.yaml")], ids=" ".join
)
def test_it_finds_the_definitions_without_a_warning(tmp_path, command):
    environment = {**Workplace(tmp_path).dagster_environment, "VIRTUAL_ENV": str(BIN.parent)}
    (tmp_path / "dagster").mkdir()
    result = subprocess.run(
        [BIN / command[0], *command[1:]], cwd=PROJECT_ROOT, env=environment, capture_output=True, text=True, check=False
    )
    said = result.stdout + result.stderr
    assert result.returncode == 0, said
    complaints = [line for line in said.splitlines() if "warning" in line.lower() and "Supersession" not in line]
    assert complaints == []
