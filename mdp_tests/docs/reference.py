"""The pages of ``docs/reference`` that are written by what they describe: commands, errors, tables, assets.

Not here: whether the pages that lie there are these (``test_reference``); settings and metrics, which have makers of
their own.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path

import dagster as dg
import typer

from mdp import errors
from mdp.cli.app import app
from mdp.definitions import defs
from mdp.domain import candles
from mdp.ports import TABLES

_MADE = "<!-- Written by its subject: `make golden` makes it anew. -->"


def cli_page() -> str:
    """Every command of ``mdp``: what it does, its arguments and options."""
    lines = ["# Commands", _MADE, "", str(app.info.help), "", str(app.info.epilog), ""]
    root = typer.main.get_command(app)
    for path, command in sorted(_commands(root, "mdp")):
        given = [one for one in command.params if one.name != "help"]
        lines += [f"## `{path}`", "", _plain(command.help or ""), ""]
        if given:
            lines += ["| argument | meaning | default |", "|---|---|---|"]
            lines += [
                f"| {_spelled(one)} | {_cell(getattr(one, 'help', None) or '')} | {_default(one)} |" for one in given
            ]
            lines.append("")
    return _page(lines)


def errors_page() -> str:
    """Every error that is raised on purpose: its parent, what it means, whether a retry can help."""
    lines = ["# Errors", _MADE, "",
             "Each says in `retryable` whether the same call may succeed a little later. Where that depends on the "
             "case, the class says no and an instance may say yes.", "",
             "| error | is a | meaning | a retry can help |", "|---|---|---|---|"]  # fmt: skip
    for name, cls in inspect.getmembers(errors, inspect.isclass):
        if issubclass(cls, errors.MdpError):
            parent = cls.__bases__[0].__name__
            lines.append(f"| `{name}` | `{parent}` | {_cell(_first(cls.__doc__))} | {_retry(cls)} |")
    return _page(lines)


def tables_page() -> str:
    """Every stored table: its columns with their types, its order, what a row is."""
    said = _docstrings_of_constants(Path(inspect.getfile(candles)))
    lines = ["# Tables", _MADE, "",
             "The types are those of polars. Rows are kept by market and timeframe.", ""]  # fmt: skip
    for table in TABLES:
        constant = next(name for name, value in vars(candles).items() if value is table.schema and name.isupper())
        lines += [f"## `{table.name}`", "", _plain(said[constant]), "",
                  f"Cut by `{table.time_column}`, sorted by {_list(table.sort_by)}; schema version {table.version}.",
                  "", "| column | type |", "|---|---|"]  # fmt: skip
        younger = {name: number for number, names in enumerate(table.added, start=2) for name in names}
        for name, dtype in table.schema.items():
            since = f" (since version {younger[name]})" if name in younger else ""
            lines.append(f"| `{name}` | {_cell(str(dtype))}{since} |")
        lines.append("")
    return _page(lines)


def assets_page() -> str:
    """What Dagster shows: assets with their checks, jobs, schedules, sensors."""
    definitions = defs()
    graph, repository = definitions.resolve_asset_graph(), definitions.get_repository_def()
    lines = [
        "# Assets, checks, jobs",
        _MADE,
        "",
        "| asset | group | partitions | made from | what it is |",
        "|---|---|---|---|---|",
    ]
    for key in sorted(graph.get_all_asset_keys(), key=lambda key: key.to_user_string()):
        node = graph.get(key)
        parts = node.partitions_def.partition_dimension_names if node.partitions_def else []
        parents = sorted(parent.to_user_string() for parent in node.parent_keys)
        lines.append(f"| `{key.to_user_string()}` | {node.group_name} | {', '.join(sorted(parts))} | {_list(parents)} "
                     f"| {_cell(node.description or '')} |")  # fmt: skip
    lines += ["", "| check | of asset | what it promises |", "|---|---|---|"]
    for check in sorted(graph.asset_check_keys, key=str):
        spec = graph.get_check_spec(check)
        lines.append(f"| `{check.name}` | `{check.asset_key.to_user_string()}` | {_cell(spec.description or '')} |")
    lines += ["", "| job | what it does |", "|---|---|"]
    jobs = [job for job in repository.get_all_jobs() if not job.name.startswith("__")]
    lines += [f"| `{job.name}` | {_cell(job.description or '')} |" for job in sorted(jobs, key=lambda job: job.name)]
    lines += ["", "| schedule | when (UTC) | job | at first |", "|---|---|---|---|"]
    for schedule in sorted(repository.schedule_defs, key=lambda one: one.name):
        lines.append(
            f"| `{schedule.name}` | `{schedule.cron_schedule}` | `{schedule.job_name}` | {_status(schedule)} |"
        )
    lines += ["", "| sensor | what it does | at first |", "|---|---|---|"]
    for sensor in sorted(repository.sensor_defs, key=lambda one: one.name):
        lines.append(f"| `{sensor.name}` | {_cell(sensor.description or '')} | {_status(sensor)} |")
    return _page(lines)


PAGES: Mapping[str, Callable[[], str]] = {
    "cli.md": cli_page,
    "errors.md": errors_page,
    "tables.md": tables_page,
    "assets.md": assets_page,
}
"""The maker of each page by the page's name."""


def _commands(
    command: typer.core.TyperCommand | typer.core.TyperGroup, path: str
) -> Iterator[tuple[str, typer.core.TyperCommand]]:
    for name, one in getattr(command, "commands", {}).items():
        if hasattr(one, "commands"):
            yield from _commands(one, f"{path} {name}")
        else:
            yield f"{path} {name}", one


def _spelled(parameter: object) -> str:
    names = (
        [*parameter.opts, *parameter.secondary_opts]
        if parameter.param_type_name == "option"
        else [str(parameter.name).upper()]
    )
    return ", ".join(f"`{name}`" for name in names)


def _default(parameter: object) -> str:
    if parameter.required:
        return "required"
    value = parameter.default
    return "" if value is None or value is False or value == [] or callable(value) else f"`{value}`"


def _retry(cls: type) -> str:
    value = cls.retryable
    return ("yes" if value else "no") if isinstance(value, bool) else "depends"


def _status(automation: dg.ScheduleDefinition | dg.SensorDefinition) -> str:
    return "on" if automation.default_status.value == "RUNNING" else "off"


def _docstrings_of_constants(path: Path) -> dict[str, str]:
    body = ast.parse(path.read_text("utf-8")).body
    return {
        before.targets[0].id: inspect.cleandoc(after.value.value)
        for before, after in pairwise(body)
        if isinstance(before, ast.Assign) and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
    }


def _first(text: str | None) -> str:
    return inspect.cleandoc(text or "").split("\n\n")[0]


def _plain(text: str) -> str:
    """Markup of docstrings as that of Markdown, a paragraph a line."""
    paragraphs = inspect.cleandoc(text).replace("``", "`").split("\n\n")
    return "\n\n".join(" ".join(one.split()) for one in paragraphs)


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("``", "`").replace("|", "\\|").strip()


def _list(names: object) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _page(lines: list[str]) -> str:
    return "\n".join(lines).rstrip() + "\n"
