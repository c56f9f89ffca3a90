"""What ``deploy/Dockerfile`` says, and which files of the checkout its build gets to see.

Not here: carrying it out (``image``).
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from mdp.config.settings import PROJECT_ROOT

DOCKERFILE = PROJECT_ROOT / "deploy" / "Dockerfile"

_VARIABLE = re.compile(r"\$\{(\w+)\}")


@dataclass(frozen=True)
class Step:
    """One instruction: its name, its options such as ``--from=build``, and what follows.

    A command in the form of a list, which no shell reads, is ``words``; everything else is ``text``.
    """

    name: str
    options: Mapping[str, str]
    text: str

    @property
    def words(self) -> list[str] | None:
        return json.loads(self.text) if self.text.startswith("[") else None

    @property
    def parts(self) -> list[str]:
        return self.words or shlex.split(self.text)


@dataclass
class Stage:
    """What follows a FROM: the base, and the steps."""

    base: str
    name: str
    steps: list[Step] = field(default_factory=list)

    def last(self, name: str) -> Step:
        return [step for step in self.steps if step.name == name][-1]

    def environment(self, before: Step | None = None) -> dict[str, str]:
        found: dict[str, str] = {}
        for step in self.steps[: None if before is None else self.steps.index(before)]:
            if step.name == "ENV":
                found |= dict(part.split("=", 1) for part in step.parts)
        return found


def read_dockerfile(text: str) -> list[Stage]:
    """Return the stages of a Dockerfile, arguments that have a default replaced by it."""
    stages: list[Stage] = []
    arguments: dict[str, str] = {}
    for line in _instructions(text):
        step = _step(_VARIABLE.sub(lambda found: arguments.get(found[1], found[0]), line))
        if step.name == "ARG":
            name, _, default = step.text.partition("=")
            arguments[name] = default
        elif step.name == "FROM":
            base, _, name = step.text.partition(" AS ")
            stages.append(Stage(base, name))
        else:
            stages[-1].steps.append(step)
    return stages


def _instructions(text: str) -> Iterator[str]:
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    yield from re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines()


def _step(line: str) -> Step:
    name, _, rest = line.partition(" ")
    options = {}
    while found := re.match(r"\s*--([a-z-]+)=(\S+)\s*", rest):
        options[found[1]] = found[2]
        rest = rest[found.end() :]
    return Step(name, options, rest.strip())


def context_files(root: Path = PROJECT_ROOT) -> Iterator[Path]:
    """Yield the files that a build sees, relative to the checkout: the last line of .dockerignore that fits decides."""
    lines = (root / ".dockerignore").read_text("utf-8").splitlines()
    rules = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    for top in sorted({rule.removeprefix("!").split("/")[0] for rule in rules if rule.startswith("!")}):
        start = root / top
        for path in sorted(start.rglob("*")) if start.is_dir() else [start]:
            relative = path.relative_to(root)
            if path.is_file() and not is_ignored(rules, relative.as_posix()):
                yield relative


def is_ignored(rules: list[str], path: str) -> bool:
    """Tell whether a file is kept from the build. A rule that names a folder means all that is in it."""
    ignored = False
    for rule in rules:
        pattern = rule.removeprefix("!").rstrip("/")
        parents = [path, *("/".join(path.split("/")[:depth]) for depth in range(1, path.count("/") + 1))]
        if any(_fits(pattern, one) for one in parents):
            ignored = not rule.startswith("!")
    return ignored


def _fits(pattern: str, path: str) -> bool:
    if pattern.startswith("**/"):
        return any(fnmatch(part, pattern.removeprefix("**/")) for part in path.split("/"))
    if pattern.endswith("/**"):
        return path.startswith(pattern.removesuffix("**"))
    return pattern.count("/") == path.count("/") and fnmatch(path, pattern)
