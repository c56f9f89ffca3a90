"""Scenario files: faults and lines to begin with, as TOML; a few come with the package.

Not here: the faults (``faults``), how they are read one by one (``fault_reading``).
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from msgspec.structs import replace

from mdp.domain.market import Exchange
from mdp.errors import InputError
from mdp.simulator.clock import from_ms
from mdp.simulator.control import read_lines
from mdp.simulator.fault_kinds import Fault
from mdp.simulator.fault_reading import read_fault
from mdp.simulator.lines import Line
from mdp.simulator.simulation import Simulation

CARRIED_SCENARIOS = Path(__file__).parent / "scenarios"
"""The files that come with the package."""

_PARTS = {"description", "begins", "lines", "faults"}
_TIMES = ("from_time", "until_time", "start", "end")


@dataclass(frozen=True, slots=True)
class Scenario:
    """What a scenario file says.

    Attributes:
        description: For the person who reads it.
        faults: In the order of the file.
        lines: Of the exchanges that it names.
        begins: The time in the file that stands for the simulated time at which it is begun; None: its times are what
            they are.
    """

    description: str
    faults: tuple[Fault, ...]
    lines: dict[Exchange, Line]
    begins: datetime | None = None

    def begin(self, simulation: Simulation) -> None:
        """Script its faults and set its lines; its seconds count from now."""
        for fault in self.faults_at(from_ms(simulation.clock())):
            simulation.faults.add(fault)
        for exchange, line in self.lines.items():
            simulation.lines.set(exchange, line)

    def faults_at(self, now: datetime) -> tuple[Fault, ...]:
        """Return its faults as they are when it begins in the minute of a simulated time."""
        if self.begins is None:
            return self.faults
        later = now.replace(second=0, microsecond=0) - self.begins
        return tuple(_shifted(fault, later) for fault in self.faults)


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
    begins = content.get("begins")
    if begins is not None and (not isinstance(begins, datetime) or begins.tzinfo is None):
        raise InputError(f"{path.name}: begins", got=begins, expected="a time with its offset")
    lines = read_lines(content.get("lines", {}), f"{path.name}: lines.")
    return Scenario(str(content.get("description", "")), faults, lines, begins)


def _shifted(fault: Fault, later: timedelta) -> Fault:
    moments = {name: getattr(fault, name, None) for name in _TIMES}
    return replace(fault, **{name: moment + later for name, moment in moments.items() if moment is not None})


def _find(name: str) -> Path:
    carried = CARRIED_SCENARIOS / f"{name.removesuffix('.toml')}.toml"
    for path in (Path(name), carried):
        if path.is_file():
            return path
    known = ", ".join(sorted(path.stem for path in CARRIED_SCENARIOS.glob("*.toml")))
    raise InputError("--scenario", got=name, expected=f"a file, or one of {known}")
