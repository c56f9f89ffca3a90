"""Documents that say what the code does not do fail here."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mdp.cli.app import app
from mdp.config.settings import ENVIRONMENTS, PROJECT_ROOT
from mdp.domain.gaps import Cause
from mdp.domain.rules import RULE_NAMES
from mdp.ports import TABLES

README = (PROJECT_ROOT / "README.md").read_text(encoding="utf-8")
ARCHITECTURE = (PROJECT_ROOT / "docs" / "ARCHITECTURE.md").read_text(encoding="utf-8")
NAMING = (PROJECT_ROOT / "docs" / "NAMING.md").read_text(encoding="utf-8")
DOCUMENTS = [PROJECT_ROOT / "README.md", *sorted((PROJECT_ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("rule", RULE_NAMES)
def test_every_rule_is_named(rule):
    assert f"`{rule}`" in NAMING


@pytest.mark.parametrize("cause", list(Cause))
def test_every_cause_of_a_gap_is_named(cause):
    assert f"`{cause.value}`" in NAMING


@pytest.mark.parametrize("table", [table.name for table in TABLES])
def test_every_table_is_described(table):
    assert f"`{table}`" in ARCHITECTURE
    assert f"`{table}`" in README or table == "ohlcv"


def test_every_environment_has_its_file_and_no_other_is_there():
    files = (PROJECT_ROOT / "mdp" / "config" / "environments").glob("*.toml")
    assert {path.stem for path in files} == set(ENVIRONMENTS)


def test_every_command_of_the_readme_exists():
    commands = {command.name or command.callback.__name__.replace("_", "-") for command in app.registered_commands}
    commands |= {group.name or group.typer_instance.info.name for group in app.registered_groups}
    used = set(re.findall(r"^mdp ([\w-]+)", README, flags=re.MULTILINE))
    assert used
    assert used <= commands


def test_every_task_of_the_readme_exists():
    tasks = set(re.findall(r"^([a-z-]+):", (PROJECT_ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    used = set(re.findall(r"`?make ([a-z-]+)", README))
    assert used
    assert used <= tasks


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(document: Path):
    for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text(encoding="utf-8")):
        assert (document.parent / target).exists(), target
