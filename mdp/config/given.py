"""What variables and the file of an environment give, every fault of it, and where each value comes from.

:func:`mdp.config.settings.load_settings` stops at the first fault; this is for who wants to see them all. Not here:
which settings there are.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsError

from mdp.config.environment_names import environment_file
from mdp.config.isolation import violations
from mdp.config.masking import masked_setting
from mdp.config.needs import needs
from mdp.config.problems import JSON_EXPECTED, Problem, expected_of, variable, wrong
from mdp.config.settings import Settings, unknown_variables
from mdp.errors import ConfigError

Path = tuple[str, ...]

_REMEDY = "docs/reference/settings.md says what it may be"


class _Judged(Settings):
    """Settings of what is handed over, and of nothing else."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 the signature is pydantic's
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What is handed over, over the defaults."""
        return (init_settings,)


@dataclass(frozen=True, slots=True)
class Given:
    """What was given for an environment.

    Attributes:
        environment: Its name.
        variables: By variables, as settings nest.
        file: By its file.
        problems: What is wrong with either.
    """

    environment: str
    variables: Mapping[str, Any]
    file: Mapping[str, Any]
    problems: tuple[Problem, ...]

    def origin_of(self, path: Path) -> str:
        """Say where a setting comes from: the name of a variable, that of the file, or ``default``."""
        if path == ("env",):
            asked = os.environ.get("MDP_ENV", "local-dev") != self.environment
            return "--env" if asked else "MDP_ENV" if "MDP_ENV" in os.environ else "default"
        if _holds(self.variables, path):
            return _variable_of(path)
        return f"{self.environment}.toml" if _holds(self.file, path) else "default"


def read_given(environment: str) -> Given:
    """Read what is given for an environment, without judging its values."""
    file = tomllib.loads(environment_file(environment).read_text(encoding="utf-8"))
    expected = "a name of the list in docs/reference/settings.md"
    problems = [
        wrong(name, got="…", expected=expected, remedy="correct its spelling, or unset it")
        for name in unknown_variables(os.environ)
    ]
    source = EnvSettingsSource(Settings)
    while True:
        try:
            return Given(environment, source(), file, tuple(problems))
        except SettingsError as error:
            # the only trace of the variable in this error is its message: field "markets" from source …
            field = re.search(r'field "(\w+)"', str(error))
            if field is None:
                raise
            name = variable(field[1])
            problems.append(wrong(name, got="…", expected=JSON_EXPECTED, remedy=_REMEDY))
            source.env_vars = {key: value for key, value in source.env_vars.items() if key != name.lower()}


def find_problems(environment: str) -> list[Problem]:
    """Return everything that is wrong with the settings of an environment, and all that is missing; empty: it may run.

    What is wrong is left out before the rest is judged, so that a fault hides no other.
    """
    given = read_given(environment)
    problems = list(given.problems)
    values = _merged(given.file, given.variables) | {"env": environment}
    settings: Settings | None = None
    paths: list[Path] = []
    while settings is None:
        try:
            settings = _Judged(**values)
        except ValidationError as error:
            paths = [tuple(str(part) for part in fault["loc"]) for fault in error.errors()]
            problems += [_fault(given, path, fault) for path, fault in zip(paths, error.errors(), strict=True)]
        except ConfigError as error:
            paths = [_path_of(error.setting)]
            problems.append(wrong(error.setting, got=error.got, expected=error.expected, remedy=_REMEDY))
        if settings is None and not sum(_remove(values, path) for path in paths):
            return problems  # a fault of what nobody gave: the rest cannot be judged
    problems += violations(settings)
    named = {problem.setting for problem in problems}
    is_placed = "data_dir" in values
    return problems + [one for one in needs(settings, is_placed=is_placed) if one.setting not in named]


def _fault(given: Given, path: Path, fault: Any) -> Problem:
    name = variable(*path)
    got = "…" if fault["type"] == "extra_forbidden" else masked_setting(path, fault.get("input"))
    origin = given.origin_of(path)
    remedy = _REMEDY if origin in (name, "default") else f"it is written in {origin}; {_REMEDY}"
    return wrong(name, got=got, expected=expected_of(fault["type"], fault["msg"]), remedy=remedy)


def _holds(values: Any, path: Path) -> bool:
    for part in path:
        if not isinstance(values, Mapping) or part not in values:
            return False
        values = values[part]
    return True


def _variable_of(path: Path) -> str:
    """Name the variable that gives a setting: its own, or the one of a section that is given as JSON."""
    names = {name.upper() for name in os.environ}
    whole = [variable(*path[:length]) for length in range(len(path), 0, -1)]
    return next((name for name in whole if name in names), whole[0])


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = {name: _merged(one, {}) if isinstance(one, Mapping) else one for name, one in below.items()}
    for name, one in above.items():
        beneath = merged.get(name)
        if isinstance(one, Mapping):
            merged[name] = _merged(beneath if isinstance(beneath, Mapping) else {}, one)
        else:
            merged[name] = one
    return merged


def _remove(values: dict[str, Any], path: Path) -> bool:
    """Take out what stands at a path, or the nearest thing above it that is there; tell whether there was anything."""
    for part in path[:-1]:
        if not isinstance(values.get(part), dict):
            return values.pop(part, None) is not None
        values = values[part]
    return bool(path) and values.pop(path[-1], None) is not None


def _path_of(setting: str) -> Path:
    return tuple(setting.removeprefix("MDP_").lower().split("__"))
