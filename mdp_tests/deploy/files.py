"""The files of ``deploy/`` as data: compose, manifests, Helm values, Dagster's own settings; and what is asked of all.

Not here: the Dockerfile (``dockerfile``), running anything (``image``, ``topology``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import typer
import yaml
from pydantic import BaseModel

from mdp.cli.app import app
from mdp.config.settings import PROJECT_ROOT, Settings

DEPLOY = PROJECT_ROOT / "deploy"
COMPOSE = DEPLOY / "compose.yaml"
WORKERS = DEPLOY / "compose.workers.yaml"
MONITORING = DEPLOY / "compose.monitoring.yaml"
KUBERNETES = DEPLOY / "kubernetes"
HELM_VALUES = DEPLOY / "helm" / "values.yaml"

_LITERAL_SECRET = re.compile(r"(?i)://[^/\s:@]*:(?!\$[{(])[^/\s@]+@|BEGIN [A-Z ]*PRIVATE KEY|hooks\.slack\.com/\S+/\S+")
_SECRET_NAME = re.compile(r"(?i)password|secret|token|api_?key|webhook")

Json = Mapping[str, Any]


@cache
def documents(path: Path) -> list[dict[str, Any]]:
    """Return the documents of a YAML file."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return [one for one in yaml.load_all(path.read_text("utf-8"), loader) if one is not None]


def services(path: Path = COMPOSE) -> dict[str, dict[str, Any]]:
    return documents(path)[0]["services"]


def ours() -> dict[str, dict[str, Any]]:
    """Return the services of our own image."""
    return {name: one for name, one in services().items() if "mdp" in str(one.get("image", ""))}


@cache
def manifests() -> tuple[dict[str, Any], ...]:
    files = sorted((KUBERNETES / "base").glob("*.yaml"))
    return tuple(one for file in files if file.name != "kustomization.yaml" for one in documents(file))


def of_kind(*kinds: str) -> list[dict[str, Any]]:
    return [one for one in manifests() if one["kind"] in kinds]


def pod_of(manifest: Json) -> dict[str, Any] | None:
    """Return the pod that a Deployment, StatefulSet, Job or CronJob makes."""
    spec = manifest.get("spec", {})
    spec = spec.get("jobTemplate", {}).get("spec", spec)
    return spec["template"]["spec"] if "template" in spec else None


def containers() -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Yield every container of every manifest: whose it is, its pod, itself."""
    for manifest in manifests():
        pod = pod_of(manifest)
        for one in [*(pod or {}).get("initContainers", []), *(pod or {}).get("containers", [])]:
            yield f"{manifest['kind']}/{manifest['metadata']['name']}/{one['name']}", pod or {}, one


def unknown_settings(names: Iterator[str] | list[str]) -> list[str]:
    """Return those names that begin with MDP_ and are no setting."""
    return [name for name in names if name.startswith("MDP_") and not _is_setting(name)]


def _is_setting(name: str) -> bool:
    model: Any = Settings
    for part in name.removeprefix("MDP_").lower().split("__"):
        fields = model.model_fields if isinstance(model, type) and issubclass(model, BaseModel) else {}
        if part not in fields:
            return False
        model = fields[part].annotation
    return True


def literal_secrets(text: str) -> list[str]:
    """Return what looks like a secret written down, line by line; a variable in its place does not."""
    return [line.strip() for line in text.splitlines() if _LITERAL_SECRET.search(line) or _is_given(line)]


def _is_given(line: str) -> bool:
    """Tell whether a line gives a name that sounds secret a value of its own."""
    code = line.split(" #")[0].strip()
    name, separator, value = re.split(r"\s*([:=])\s*", code.lstrip("- "), maxsplit=1) if re.search(
        r"^[-\s]*\w+\s*[:=]", code) else ("", "", "")  # fmt: skip
    if not separator or code.startswith("#") or not _SECRET_NAME.search(name) or name.isidentifier() is False:
        return False
    value = value.strip().strip("\"'")
    is_number = re.fullmatch(r"\d+|true|false", value) is not None
    return bool(value) and not is_number and not re.match(r"\$|\{|\[|&|\*|\|", value) and "Secret" not in name


@cache
def _commands() -> Any:
    return typer.main.get_command(app)


def is_command(words: list[str], programs: set[str]) -> bool:
    """Tell whether a container's command exists: a program of the image, of ours with its subcommand and options."""
    if words[:2] == ["python", "-m"]:
        return (PROJECT_ROOT / f"{words[2].replace('.', '/')}.py").is_file()
    if words[0] != "mdp":
        return words[0] in programs
    group = _commands()
    rest = words[1:]
    while rest and hasattr(group, "commands"):
        if rest[0] not in group.commands:
            return False
        group, rest = group.commands[rest[0]], rest[1:]
    known = {option for parameter in group.params for option in [*parameter.opts, *parameter.secondary_opts]}
    return not hasattr(group, "commands") and all(word in known for word in rest if word.startswith("-"))
