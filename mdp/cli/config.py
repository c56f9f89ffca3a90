"""``mdp config``: what the settings are and where they come from, and what is wrong with them or missing.

Not here: finding it (``mdp.config``).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import msgspec
from rich.table import Table
from rich.text import Text

from mdp.cli.output import print_table, shown
from mdp.config.effective import DEFAULT, Effective, effective_settings
from mdp.config.environment_names import ENVIRONMENTS
from mdp.config.given import find_problems
from mdp.config.problems import Problem
from mdp.config.settings import environment_name, load_settings, require_environment
from mdp.errors import ConfigError

NOT_READY = 2


def show_settings(environment: str | None, *, only_changed: bool, as_json: bool) -> None:
    """Write the settings of an environment with their origins; secrets are masked.

    Raises:
        ConfigError: there is no such environment, or its settings cannot be loaded.
    """
    name = require_environment(environment or environment_name())
    try:
        rows = effective_settings(load_settings(env=name))
    except ConfigError as error:
        error.add_note(f"`mdp config check --env {name}` names everything that is wrong")
        raise
    rows = [row for row in rows if not only_changed or row.origin != DEFAULT]
    if as_json:
        _write_json([{"setting": row.setting, "value": row.value, "origin": row.origin} for row in rows])
        return
    print_table(_settings_table(rows))


def check_settings(environment: str | None, *, checks_all: bool, as_json: bool) -> int:
    """Write what is wrong or missing, of one environment or of all, and return the exit code: 0, or 2.

    Raises:
        ConfigError: there is no such environment.
    """
    names = ENVIRONMENTS if checks_all else [require_environment(environment or environment_name())]
    found = {name: find_problems(name) for name in names}
    if as_json:
        _write_json([_as_json(name, problems) for name, problems in found.items()])
    else:
        for name, problems in found.items():
            _write_verdict(name, problems)
    return NOT_READY if any(found.values()) else 0


def _settings_table(rows: Sequence[Effective]) -> Table:
    table = Table("setting", "value", "origin", box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(row.setting, Text(shown(_spelled(row.value))), row.origin)
    return table


def _spelled(value: object) -> str:
    """Spell a value as a variable would give it; what is not given is a dash."""
    if value is None:
        return "-"
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _write_verdict(name: str, problems: Sequence[Problem]) -> None:
    if not problems:
        sys.stdout.write(f"{name}: ready\n")
        return
    missing = sum(problem.is_missing for problem in problems)
    sys.stdout.write(f"{name}: {missing} missing, {len(problems) - missing} wrong\n")
    for problem in problems:
        kind = "missing" if problem.is_missing else "wrong"
        sys.stdout.write(f"  {kind:7}  {problem.setting}: {shown(problem.said)}\n")
        sys.stdout.write(f"           {problem.remedy}\n")


def _as_json(name: str, problems: Sequence[Problem]) -> dict[str, object]:
    return {
        "environment": name,
        "ready": not problems,
        "problems": [
            {
                "setting": problem.setting,
                "kind": "missing" if problem.is_missing else "wrong",
                "said": problem.said,
                "remedy": problem.remedy,
            }
            for problem in problems
        ],
    }


def _write_json(value: object) -> None:
    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")
    sys.stdout.flush()
