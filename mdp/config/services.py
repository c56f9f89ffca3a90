"""Where the services of this data directory listen, and which address an exchange therefore has.

``mdp up`` holds ``run/up.lock`` as long as it runs and writes what it started to ``run/services.json``; everything
else reads it, and believes it only that long. Not here: starting them.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

from mdp.config.sections import ExchangeSettings
from mdp.config.settings import Settings
from mdp.domain.market import Exchange
from mdp.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Services:
    """What ``mdp up`` started: its own process id and the addresses."""

    pid: int
    simulator_url: str
    ui_url: str


def services_file(settings: Settings) -> Path:
    """Return the file that says where the services listen."""
    return settings.run_dir / "services.json"


def write_services(settings: Settings, services: Services) -> None:
    """Say where the services listen, in one step."""
    path = services_file(settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{services.pid}")
    unfinished.write_text(json.dumps(asdict(services), indent=2), encoding="utf-8")
    unfinished.replace(path)


def read_services(settings: Settings) -> Services | None:
    """Return what ``mdp up`` runs in this data directory now; None when it does not run.

    Raises:
        ConfigError: the file is not one that ``mdp up`` writes.
    """
    try:
        services = Services(**json.loads(services_file(settings).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        path = services_file(settings)
        raise ConfigError(
            str(path), got=str(error), expected="what `mdp up` writes; delete it and start again"
        ) from error
    return services if _is_alive(services, lock_file(settings)) else None


def lock_file(settings: Settings) -> Path:
    """Return the file that ``mdp up`` holds locked as long as it runs."""
    return settings.run_dir / "up.lock"


def _is_alive(services: Services, lock: Path) -> bool:
    """Tell whether the process that wrote this still holds the lock.

    The lock is tried only when a process of that number exists. An ``mdp up`` that starts in the same instant could
    otherwise find it taken by us and believe that another one runs.
    """
    try:
        os.kill(services.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it is somebody else's, and exists
    try:
        with lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        pass
    return False


_WITH_ARCHIVE = frozenset({Exchange.BINANCE, Exchange.OKX})


def exchange_settings(settings: Settings, exchange: Exchange) -> ExchangeSettings:
    """Return the settings of an exchange with its addresses filled in.

    Raises:
        ConfigError: the exchange has no ``rest_url`` and the environment has no simulator to stand in.
    """
    own = settings.exchanges.of(exchange)
    if own.rest_url is not None:
        return own
    if not settings.simulated:
        name = f"MDP_EXCHANGES__{exchange.name}__REST_URL"
        raise ConfigError(name, got=None, expected=f"the address of {exchange.value} in environment {settings.env}")
    simulator = simulator_url(settings)
    addresses = {"rest_url": f"{simulator}/{exchange.value}"}
    if exchange in _WITH_ARCHIVE and own.archive_url is None:
        addresses["archive_url"] = f"{simulator}/{exchange.value}-archive"
    return own.model_copy(update=addresses)


def host_of(own: ExchangeSettings) -> str:
    """Return where an exchange is asked: host, and port where it is not the usual one of the scheme."""
    url = urlsplit(own.rest_url or "")
    usual = {"http": ":80", "https": ":443"}.get(url.scheme, "")
    return url.netloc.rpartition("@")[2].lower().removesuffix(usual)


def simulator_url(settings: Settings) -> str:
    """Return where the simulator of this data directory is: that of ``mdp up``, else on the port of the settings."""
    services = read_services(settings)
    return services.simulator_url if services else f"http://127.0.0.1:{settings.simulator.port}"


def require_simulator(settings: Settings, exchanges: Iterable[Exchange]) -> None:
    """Make sure that the simulator answers if one of these exchanges is simulated.

    Raises:
        ConfigError: nothing listens there; says how to start it.
    """
    if not settings.simulated or all(settings.exchanges.of(exchange).rest_url for exchange in exchanges):
        return
    url = urlsplit(simulator_url(settings))
    try:
        socket.create_connection((str(url.hostname), int(url.port or 80)), timeout=2).close()
    except OSError as error:
        raise ConfigError(
            "MDP_SIMULATOR__PORT",
            got=url.port,
            expected=f"the port of a running simulator ({error.strerror}); start it with `make up` or `mdp simulate`",
        ) from error
