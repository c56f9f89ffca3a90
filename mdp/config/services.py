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

from mdp.config.endpoints import endpoints
from mdp.config.exchange_sections import ExchangeSettings
from mdp.config.settings import Settings
from mdp.domain.market import Exchange
from mdp.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Services:
    """What ``mdp up`` started: its own process id and the addresses.

    Attributes:
        pid: Its process id.
        simulator_url: Of the simulated exchanges.
        ui_url: Of Dagster's pages.
        api_url: Of the page and the API; None: an earlier version wrote this, which had none.
    """

    pid: int
    simulator_url: str
    ui_url: str
    api_url: str | None = None


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

    One that has a ``rest_url`` of its own gets no other address: an answer of one place and a file of another would be
    two markets in one. Else it is the simulator where exchanges are simulated, and the catalogue's where they are not.
    """
    own = settings.exchanges.of(exchange)
    if not settings.simulated:
        return own.model_copy(update=_published(settings, exchange, own))
    if own.rest_url is not None:
        return own
    simulator = simulator_url(settings)
    addresses = {"rest_url": f"{simulator}/{exchange.value}"}
    if own.ws_url is None:
        stream = "/stream" if exchange is Exchange.BINANCE else ""  # CCXT knows Binance's spot market by this word
        addresses["ws_url"] = f"{simulator.replace('http', 'ws', 1)}/{exchange.value}{stream}"
    if exchange in _WITH_ARCHIVE and own.archive_url is None:
        addresses["archive_url"] = f"{simulator}/{exchange.value}-archive"
    return own.model_copy(update=addresses)


def _published(settings: Settings, exchange: Exchange, own: ExchangeSettings) -> dict[str, object]:
    """Say what the catalogue adds to the settings of an exchange."""
    known = endpoints(settings.exchanges.network, exchange)
    if own.rest_url is not None:
        # even behind a proxy, a request for paper trading says so: the real market is at the same host
        return {"demo": True} if known.get("demo") else {}
    return {name: value for name, value in known.items() if name == "demo" or getattr(own, name) is None}


def host_of(own: ExchangeSettings) -> str:
    """Return where an exchange is asked: host, and port where it is not the usual one of the scheme."""
    url = urlsplit(own.rest_url or "")
    usual = {"http": ":80", "https": ":443"}.get(url.scheme, "")
    return url.netloc.rpartition("@")[2].lower().removesuffix(usual)


def simulator_url(settings: Settings) -> str:
    """Return where the simulator is: as the settings say, else that of ``mdp up``, else on the port of the settings."""
    if settings.simulator.url is not None:
        return settings.simulator.url
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
        port = url.port or {"https": 443}.get(url.scheme, 80)
        socket.create_connection((str(url.hostname), port), timeout=2).close()
    except OSError as error:
        said = f"of a running simulator ({error.strerror or error}); start it with `make up` or `mdp simulate`"
        if settings.simulator.url is not None:
            where = f"{url.scheme}://{url.netloc.rpartition('@')[2]}"  # without a password
            raise ConfigError("MDP_SIMULATOR__URL", got=where, expected=f"the address {said}") from error
        raise ConfigError("MDP_SIMULATOR__PORT", got=url.port, expected=f"the port {said}") from error
