"""Where the services of this data directory listen, and which address an exchange therefore has.

``mdp up`` writes what it started to ``run/services.json``; everything else reads it. Not here: starting them.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from mdp.config.settings import ExchangeSettings, Settings
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
    """Return what was last started, whether or not it still runs; None when nothing ever was."""
    try:
        return Services(**json.loads(services_file(settings).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        path = services_file(settings)
        raise ConfigError(
            str(path), got=str(error), expected="what `mdp up` writes; delete it and start again"
        ) from error


def exchange_settings(settings: Settings, exchange: Exchange) -> ExchangeSettings:
    """Return the settings of an exchange with its address filled in.

    Raises:
        ConfigError: the exchange has no ``rest_url`` and the environment has no simulator to stand in.
    """
    own = settings.exchanges.of(exchange)
    if own.rest_url is not None:
        return own
    if not settings.simulated:
        name = f"MDP_EXCHANGES__{exchange.name}__REST_URL"
        raise ConfigError(name, got=None, expected=f"the address of {exchange.value} in environment {settings.env}")
    services = read_services(settings)
    simulator = services.simulator_url if services else f"http://127.0.0.1:{settings.simulator.port}"
    return own.model_copy(update={"rest_url": f"{simulator}/{exchange.value}"})
