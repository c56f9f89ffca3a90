"""The house as data: who may import whom, how long things may be, what they may not be called.

Every rule is a function from a module to what is wrong with it; it is applied to all of ``mdp`` and, so that it is
known to be able to fail, to a sample that breaks it. Not here: what the code does.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import pytest

HOUSE = Path(__file__).parent.parent / "mdp"

FLOORS = {
    "errors": 0,
    "domain": 1, "config": 1, "counts": 1,
    "ports": 2, "logs": 2,
    "exchanges": 3, "storage": 3, "bus": 3,
    "client": 2,
    "pipeline": 4, "live": 4, "api": 4, "reading": 4, "sources": 4,
    "defs": 5, "cli": 5, "definitions": 5, "hosts": 5,
}  # fmt: skip
"""Every part of the house and its floor. A part imports itself and lower floors; rooms may still be empty."""

ON_ONE_FLOOR = {
    ("config", "domain"), ("definitions", "defs"), ("cli", "defs"), ("cli", "definitions"),
    ("cli", "hosts"), ("hosts", "defs"), ("hosts", "definitions"),
    ("reading", "pipeline"), ("reading", "live"), ("api", "reading"), ("api", "pipeline"), ("api", "live"),
}  # fmt: skip
"""Imports between parts of one floor that are allowed; any other pair knows each other only through ``ports``."""

NEVER = {
    ("defs", "api"), *((room, "client") for room in FLOORS if room != "client"),
    *(("client", room) for room in ("config", "ports")),
}  # fmt: skip
"""Imports that are forbidden though they lead downwards; the client speaks HTTP, and nothing of ours uses it."""

SIMULATOR_KNOWS = {"domain", "errors"}
SIMULATOR_IS_KNOWN_TO = {"cli"}
NOTEBOOKS_NEED = {"config", "storage", "pipeline", "domain", "errors", "reading"}
"""What ``mdp/__init__`` may import."""

USE_DAGSTER = {"defs", "cli", "definitions", "hosts"}
DOMAIN_USES = {"polars", "numpy", *sys.stdlib_module_names}

MAX_LINES, MAX_FUNCTION_LINES = 300, 40
BAD_MODULE_NAMES = {"util", "utils", "helper", "helpers", "common", "misc", "base", "core", "manager"}
BAD_WORDS = {"ts", "tf", "sym", "vol", "cfg", "mgr"}


@dataclass(frozen=True)
class Module:
    """A module of the house, by its dotted name and its text."""

    name: str
    source: str
    is_package: bool = False

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.source)

    @cached_property
    def nodes(self) -> list[ast.AST]:
        return list(ast.walk(self.tree))

    @property
    def part(self) -> str:
        """The room it is in; ``mdp`` for the package itself."""
        return [*self.name.split("."), "mdp"][1]

    @property
    def package(self) -> list[str]:
        parts = self.name.split(".")
        return parts if self.is_package else parts[:-1]


@cache
def modules() -> list[Module]:
    found = []
    for path in sorted(HOUSE.rglob("*.py")):
        parts = ("mdp", *path.relative_to(HOUSE).with_suffix("").parts)
        is_package = parts[-1] == "__init__"
        found.append(Module(".".join(parts[:-1] if is_package else parts), path.read_text("utf-8"), is_package))
    return found


def imported(module: Module) -> Iterator[str]:
    """Dotted names of all that is imported anywhere in a module, in functions and by name too."""
    for node in module.nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = module.package[: len(module.package) - node.level + 1] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{source}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and _last_name(node.func) in ("import_module", "__import__"):
            yield from (str(given.value) for given in node.args[:1] if isinstance(given, ast.Constant))


def _last_name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def is_allowed(importer: str, target: str) -> bool:
    if importer == target:
        return True
    if importer == "mdp":
        return target in NOTEBOOKS_NEED
    if importer == "simulator":
        return target in SIMULATOR_KNOWS
    if target == "simulator":
        return importer in SIMULATOR_IS_KNOWN_TO
    if importer not in FLOORS or target not in FLOORS:
        return False
    return (importer, target) in ON_ONE_FLOOR or (FLOORS[target] < FLOORS[importer] and (importer, target) not in NEVER)


def imports_run_downwards(module: Module) -> Iterator[str]:
    for name in imported(module):
        parts = name.split(".")
        if parts[0] == "mdp":
            target = parts[1] if len(parts) > 1 and parts[1] in {*FLOORS, "simulator"} else "mdp"
            if not is_allowed(module.part, target):
                yield f"{module.part} imports {name}"


def only_the_shell_knows_dagster(module: Module) -> Iterator[str]:
    for name in imported(module):
        if name.split(".")[0].startswith("dagster") and module.part not in USE_DAGSTER:
            yield f"{module.part} imports {name}"


def the_domain_is_pure(module: Module) -> Iterator[str]:
    for name in imported(module) if module.part == "domain" else ():
        if name.split(".")[0] not in DOMAIN_USES and not name.startswith(("mdp.domain.", "mdp.errors.")):
            yield f"domain imports {name}"


def every_room_is_on_the_plan(module: Module) -> Iterator[str]:
    if module.part not in {"mdp", "simulator", *FLOORS}:
        yield f"{module.part} is not in the table of floors"


def every_module_has_a_charter(module: Module) -> Iterator[str]:
    if not ast.get_docstring(module.tree):
        yield "no docstring"


def files_are_short(module: Module) -> Iterator[str]:
    lines = len(module.source.splitlines())
    if lines >= MAX_LINES:
        yield f"{lines} lines"


def functions_are_short(module: Module) -> Iterator[str]:
    for node in module.nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            has_docstring = ast.get_docstring(node) is not None
            docstring = first.end_lineno - first.lineno + 1 if has_docstring else 0
            lines = node.end_lineno - node.lineno + 1 - docstring
            if lines >= MAX_FUNCTION_LINES:
                yield f"{node.name} has {lines} lines"


def modules_are_named_for_what_they_hold(module: Module) -> Iterator[str]:
    yield from (f"called {part}" for part in module.name.split(".") if part in BAD_MODULE_NAMES)


def public_names_are_words(module: Module) -> Iterator[str]:
    for name in [*module.name.split("."), *_public_names(module.tree.body)]:
        words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().split("_")
        if BAD_WORDS.intersection(words):
            yield f"{name} is abbreviated"


def _public_names(body: list[ast.stmt]) -> Iterator[str]:
    """Names that another module can see: functions, their arguments, classes, their members, constants."""
    for node in body:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)]
            yield from (name for name in names if not name.startswith("_"))
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            if node.name.startswith("_") and not node.name.startswith("__"):
                continue
            yield node.name
            if isinstance(node, ast.ClassDef):
                yield from _public_names(node.body)
            else:
                yield from (found.arg for found in ast.walk(node.args) if isinstance(found, ast.arg))


def annotations_are_strings_except_where_dagster_reads_them(module: Module) -> Iterator[str]:
    has_import = any(
        isinstance(node, ast.ImportFrom) and node.module == "__future__" and node.names[0].name == "annotations"
        for node in module.tree.body
    )
    nodes = module.nodes
    definitions = [node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    decorators = [ast.unparse(decorator) for node in definitions for decorator in node.decorator_list]
    if module.part == "defs" and any(re.match(r"(dg|dagster)\.", decorator) for decorator in decorators):
        if has_import:
            yield "Dagster inspects the annotations of what it decorates: no `from __future__ import annotations` here"
    elif not has_import and (definitions or any(isinstance(node, ast.AnnAssign) for node in nodes)):
        yield "no `from __future__ import annotations`"


RULES: list[Callable[[Module], Iterator[str]]] = [
    imports_run_downwards,
    only_the_shell_knows_dagster,
    the_domain_is_pure,
    every_room_is_on_the_plan,
    every_module_has_a_charter,
    files_are_short,
    functions_are_short,
    modules_are_named_for_what_they_hold,
    public_names_are_words,
    annotations_are_strings_except_where_dagster_reads_them,
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_house_obeys(rule):
    assert [f"{module.name}: {problem}" for module in modules() for problem in rule(module)] == []


def test_the_house_was_looked_at():
    names = {module.name for module in modules()}
    assert names >= {"mdp", "mdp.errors", "mdp.domain.rules", "mdp.config.settings", "mdp.ports"}
    assert {module.part for module in modules()} - {"mdp"} >= {"errors", "domain", "config", "ports"}


SAMPLES = [
    (imports_run_downwards, "mdp.storage.delta", "from mdp.exchanges import binance", True),
    (imports_run_downwards, "mdp.exchanges.binance", "import mdp.storage.delta", True),
    (imports_run_downwards, "mdp.bus.ring", "def f():\n    from mdp.storage import delta", True),
    (imports_run_downwards, "mdp.storage.delta", "from mdp.pipeline.judge import x", True),
    (imports_run_downwards, "mdp.domain.gaps", "from mdp.config.settings import x", True),
    (imports_run_downwards, "mdp.config.settings", "from mdp.domain.market import x", False),
    (imports_run_downwards, "mdp.errors", "from mdp.domain import gaps", True),
    (imports_run_downwards, "mdp.ports", "from mdp.domain import gaps", False),
    (imports_run_downwards, "mdp.ports", "from mdp.storage import delta", True),
    (imports_run_downwards, "mdp.live.feed", "from mdp.pipeline import judge", True),
    (imports_run_downwards, "mdp.defs.jobs", "from mdp.api import app", True),
    (imports_run_downwards, "mdp.defs.jobs", "from mdp import api", True),
    (imports_run_downwards, "mdp.defs.jobs", "from mdp.cli import app", True),
    (imports_run_downwards, "mdp.cli.app", "from mdp.defs import jobs\nfrom mdp.simulator import server", False),
    (imports_run_downwards, "mdp.exchanges.okx", "from mdp.simulator import server", True),
    (imports_run_downwards, "mdp.simulator.okx", "from mdp.domain import gaps\nfrom mdp.errors import X", False),
    (imports_run_downwards, "mdp.simulator.okx", "from mdp.config import settings", True),
    (imports_run_downwards, "mdp.simulator.okx", "import mdp.ports", True),
    (imports_run_downwards, "mdp", "from mdp.storage import delta\nfrom mdp.reading import read", False),
    (imports_run_downwards, "mdp", "from mdp.defs import jobs", True),
    (imports_run_downwards, "mdp.pipeline.judge", "from mdp import read", True),
    (imports_run_downwards, "mdp.pipeline.judge", "import mdp", True),
    (imports_run_downwards, "mdp.pipeline.judge", "from ..live import feed", True),
    (imports_run_downwards, "mdp.pipeline.judge", "from . import heal\nfrom .. import domain", False),
    (imports_run_downwards, "mdp.pipeline.judge", "if TYPE_CHECKING:\n    import mdp.defs", True),
    (imports_run_downwards, "mdp.pipeline.judge", "importlib.import_module('mdp.defs.jobs')", True),
    (imports_run_downwards, "mdp.pipeline.judge", "from mdp.attic import thing", True),
    (only_the_shell_knows_dagster, "mdp.pipeline.judge", "def f():\n    import dagster as dg", True),
    (only_the_shell_knows_dagster, "mdp.storage.delta", "from dagster_duckdb import DuckDBResource", True),
    (only_the_shell_knows_dagster, "mdp.defs.jobs", "import dagster as dg", False),
    (the_domain_is_pure, "mdp.domain.gaps", "import pyarrow as pa", True),
    (the_domain_is_pure, "mdp.domain.gaps", "from mdp.ports import Clock", True),
    (the_domain_is_pure, "mdp.domain.gaps", "import numpy.typing\nimport re\nfrom mdp.errors import X", False),
    (every_room_is_on_the_plan, "mdp.attic.trunk", "", True),
    (every_room_is_on_the_plan, "mdp.domain.gaps", "", False),
    (every_module_has_a_charter, "mdp.domain.gaps", "x = 1", True),
    (every_module_has_a_charter, "mdp.domain.gaps", '"""Gaps."""', False),
    (files_are_short, "mdp.domain.gaps", "x = 1\n" * 300, True),
    (files_are_short, "mdp.domain.gaps", "x = 1\n" * 299, False),
    (functions_are_short, "mdp.domain.gaps", "def f():\n" + "    x = 1\n" * 39, True),
    (functions_are_short, "mdp.domain.gaps", "def f():\n" + "    x = 1\n" * 38, False),
    (functions_are_short, "mdp.domain.gaps", 'def f():\n    """A\n\n\n    B"""\n' + "    x = 1\n" * 38, False),
    (functions_are_short, "mdp.domain.gaps", "class A:\n  async def f():\n" + "    x = 1\n" * 39, True),
    (modules_are_named_for_what_they_hold, "mdp.domain.utils", "", True),
    (modules_are_named_for_what_they_hold, "mdp.storage.base", "", True),
    (modules_are_named_for_what_they_hold, "mdp.defs.io_managers", "", False),
    (public_names_are_words, "mdp.domain.tf", "", True),
    (public_names_are_words, "mdp.domain.gaps", "def find(open_ts): ...", True),
    (public_names_are_words, "mdp.domain.gaps", "class A:\n    vol: float", True),
    (public_names_are_words, "mdp.domain.gaps", "class SymTable: ...", True),
    (public_names_are_words, "mdp.domain.gaps", "MAX_TF = 1", True),
    (public_names_are_words, "mdp.domain.gaps", "def _f(ts): ...\ndef g():\n    ts = 1\nvolume = symbols = 1", False),
    (annotations_are_strings_except_where_dagster_reads_them, "mdp.domain.gaps", "def f(): ...", True),
    (annotations_are_strings_except_where_dagster_reads_them, "mdp.domain.gaps", '"""Only words."""', False),
    (annotations_are_strings_except_where_dagster_reads_them, "mdp.defs.assets.raw",
     "from __future__ import annotations\n@dg.asset\ndef f(): ...", True),
    (annotations_are_strings_except_where_dagster_reads_them, "mdp.defs.assets.raw", "@dg.asset\ndef f(): ...", False),
    (annotations_are_strings_except_where_dagster_reads_them, "mdp.defs.metadata", "def f(): ...", True),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "name", "source", "is_broken"), SAMPLES)
def test_a_rule_sees_what_breaks_it_and_nothing_else(rule, name, source, is_broken):
    assert bool(list(rule(Module(name, source)))) is is_broken


def test_every_rule_has_a_sample_that_breaks_it_and_one_that_does_not():
    for is_broken in (True, False):
        assert {rule for rule, _, _, broken in SAMPLES if broken is is_broken} == set(RULES)
