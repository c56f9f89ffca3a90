"""What ``deploy/compose.yaml`` says of its services, told for a machine without containers.

One table replaces what only a container network has: names and ports by free ports of 127.0.0.1, ``/app`` and ``/data``
by folders. Everything else is as the file has it. Not here: starting the services (``topology``).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from mdp.cli.processes import free_port
from mdp.config.settings import PROJECT_ROOT

COMPOSE = PROJECT_ROOT / "deploy" / "compose.yaml"
WORKSPACE = PROJECT_ROOT / "deploy" / "dagster" / "workspace.yaml"

PORTS = {"postgres": 5432, "valkey": 6379, "simulator": 8790, "code": 4000, "webserver": 3000, "api": 8000}
"""Where services listen inside the network."""

_EVERYWHERE = "0.0.0.0"
_GRACE = "10s"
"""Docker's, for whoever asks for no other."""

_VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?::(?P<kind>[-?])(?P<text>[^}]*))?\}")
_ADDRESS = re.compile(r"(?P<before>^|[@/ ])(?P<name>[a-z][a-z0-9-]*):(?P<port>\d{4})\b")


@dataclass(frozen=True)
class Service:
    """One service, as it is started here.

    Attributes:
        name: As the file names it.
        command: None where the image has its own.
        environment: All of it.
        restarts: Whether it is started again whenever it ends.
        grace_s: So long it may take to end once it is asked to.
    """

    name: str
    command: list[str] | None
    environment: dict[str, str]
    restarts: bool
    grace_s: float


@dataclass
class Place:
    """What stands here for the containers' network and volumes.

    Attributes:
        folder: For all that is written.
        ports: Where each service listens on 127.0.0.1.
    """

    folder: Path
    ports: dict[str, int] = field(default_factory=lambda: {name: free_port(0) for name in PORTS})

    @property
    def data_dir(self) -> Path:
        """The volume that services share."""
        return self.folder / "data"

    def services(self, variables: Mapping[str, str], more: Mapping[str, str]) -> dict[str, Service]:
        """Read the services of the file.

        Args:
            variables: As ``deploy/.env`` gives them.
            more: What every service of ours finds in its environment besides, as an override file would say it.
        """
        said = yaml.safe_load(COMPOSE.read_text("utf-8"))["services"]
        return {name: self._service(name, one, variables, more) for name, one in said.items()}

    def _service(
        self, name: str, said: Mapping[str, Any], variables: Mapping[str, str], more: Mapping[str, str]
    ) -> Service:
        environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(self.folder)}
        for key, value in said.get("environment", {}).items():
            environment[key] = self._here(interpolated(str(value), variables))
        if "MDP_ENV" in environment:
            environment |= more
        words = said.get("command")
        command = None if words is None else [self._here(interpolated(word, variables), of=name) for word in words]
        grace_s = float(said.get("stop_grace_period", _GRACE).removesuffix("s"))
        return Service(name, command, environment, said.get("restart") == "unless-stopped", grace_s)

    def _here(self, text: str, *, of: str | None = None) -> str:
        if text == _EVERYWHERE:
            return "127.0.0.1"
        if of in PORTS and text == str(PORTS[of]):
            return str(self.ports[of])
        if text == f"/app/{WORKSPACE.relative_to(PROJECT_ROOT)}":
            return str(self._write_workspace())
        for inside, here in (("/app", PROJECT_ROOT), ("/data", self.data_dir)):
            if text == inside or text.startswith(f"{inside}/"):
                return f"{here}{text.removeprefix(inside)}"
        return _ADDRESS.sub(self._address_here, text)

    def _address_here(self, found: re.Match[str]) -> str:
        name, port = found["name"], int(found["port"])
        assert PORTS.get(name) == port, f"{found[0]}: services listen on {PORTS}"
        return f"{found['before']}127.0.0.1:{self.ports[name]}"

    def _write_workspace(self) -> Path:
        path = self.folder / WORKSPACE.name
        said = yaml.safe_load(WORKSPACE.read_text("utf-8"))
        (server,) = (one["grpc_server"] for one in said["load_from"])
        assert (server["host"], server["port"]) == ("code", PORTS["code"]), server
        server |= {"host": "127.0.0.1", "port": self.ports["code"]}
        path.write_text(yaml.safe_dump(said), "utf-8")
        return path


def interpolated(text: str, variables: Mapping[str, str]) -> str:
    """Replace variables as compose does.

    Raises:
        KeyError: one is not given and has no default.
    """

    def value(found: re.Match[str]) -> str:
        given = variables.get(found["name"], "")
        if given or found["kind"] == "-":
            return given or found["text"]
        raise KeyError(f"{found['name']}: {found['text'] or 'is not given'}")

    return _VARIABLE.sub(value, text)
