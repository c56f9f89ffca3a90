"""Scenario files: faults and lines to begin with, as TOML; a few come with the package.

Not here: the faults (``faults``), how they are read one by one (``fault_reading``).
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from mdp.domain.market import Exchange
from mdp.errors import InputError
from mdp.simulator.control import read_lines
from mdp.simulator.fault_reading import read_fault
from mdp.simulator.faults import Fault
from mdp.simulator.lines import Line
from mdp.simulator.simulation import Simulation

CARRIED_SCENARIOS = Path(__file__).parent / "scenarios"
"""The files that come with the package."""

_PARTS = {"description", "lines", "faults"}


@dataclass(frozen=True, slots=True)
class Scenario:
    """What a scenario file says.

    Attributes:
        description: For the person who reads it.
        faults: In the order of the file.
        lines: Of the exchanges that it names.
    """

    description: str
    faults: tuple[Fault, ...]
    lines: dict[Exchange, Line]

    def begin(self, simulation: Simulation) -> None:
        """Script its faults and set its lines; its seconds count from now."""
        for fault in self.faults:
            simulation.faults.add(fault)
        for exchange, line in self.lines.items():
            simulation.lines.set(exchange, line)


def load_scenario(name: str) -> Scenario:
    """Read a scenario.

    Args:
        name: Path of a TOML file, or the name of one that comes with the package, with or without ``.toml``.

    Raises:
        InputError: there is no such file, or it names the part of it that is wrong.
    """
    path = _find(name)
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError("--scenario", got=str(path), expected=f"a readable TOML file ({error})") from error
    unknown = content.keys() - _PARTS
    if unknown:
        raise InputError(f"{path.name}: {min(unknown)}", got=min(unknown), expected=f"one of {', '.join(_PARTS)}")
    listed = content.get("faults", [])
    if not isinstance(listed, list):
        raise InputError(f"{path.name}: faults", got=listed, expected="a list of tables, [[faults]]")
    faults = tuple(read_fault(fields, f"{path.name}: faults[{index}].") for index, fields in enumerate(listed))
    return Scenario(
        str(content.get("description", "")), faults, read_lines(content.get("lines", {}), f"{path.name}: lines.")
    )


def _find(name: str) -> Path:
    carried = CARRIED_SCENARIOS / f"{name.removesuffix('.toml')}.toml"
    for path in (Path(name), carried):
        if path.is_file():
            return path
    known = ", ".join(sorted(path.stem for path in CARRIED_SCENARIOS.glob("*.toml")))
    raise InputError("--scenario", got=name, expected=f"a file, or one of {known}")
