"""What an environment refuses, so that nothing of one is reached from another by accident.

Pure. It is refused when settings are loaded, by every process. Not here: what is merely missing (``needs``).
"""

from __future__ import annotations

import ipaddress
import tomllib
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from mdp.config.endpoints import Network, hosts
from mdp.config.environment_names import ENVIRONMENTS, environment_file
from mdp.config.masking import masked
from mdp.config.problems import Problem, variable, wrong
from mdp.domain.market import Exchange

if TYPE_CHECKING:
    from mdp.config.settings import Settings

SHARED = ("central-dev", "staging", "production-paper", "production-live")
"""Environments whose tables several people read."""

_NETWORK_OF: dict[str, Network] = {"production-paper": "paper", "production-live": "real"}


def violations(settings: Settings) -> list[Problem]:
    """Return every setting that would reach what belongs to another environment."""
    return [
        *_made_up_candles(settings),
        *_asked_exchanges(settings),
        *_production(settings),
        *_foreign_dataset(settings),
    ]


def _made_up_candles(settings: Settings) -> Iterator[Problem]:
    name = variable("simulated")
    if settings.env in SHARED and settings.simulated:
        expected = f"false in {settings.env}: candles that are made up must not reach tables that others trust"
        yield wrong(name, got=True, expected=expected, remedy="unset it; to simulate, use integration-test")
    if settings.env == "integration-test" and not settings.simulated:
        expected = "true in integration-test: tests ask no real exchange"
        yield wrong(name, got=False, expected=expected, remedy="unset it; for real exchanges, use local-integration")


def _asked_exchanges(settings: Settings) -> Iterator[Problem]:
    """Refuse addresses of a network that is not the environment's."""
    for exchange in Exchange:
        own = settings.exchanges.of(exchange)
        for name in ("rest_url", "ws_url", "archive_url"):
            url = getattr(own, name)
            fault = None if url is None else _fault_of(settings.env, url)
            if fault is not None:
                setting = variable("exchanges", exchange.value, name)
                remedy = "unset it: the address is then that of MDP_EXCHANGES__NETWORK"
                yield wrong(setting, got=masked(url), expected=fault, remedy=remedy)


def _fault_of(environment: str, url: str) -> str | None:
    """Say which address is expected instead; None where this one may be asked."""
    host = str(urlsplit(url).hostname)
    if environment == "integration-test" and host in hosts("real") | hosts("paper"):
        return "a host of one's own in integration-test, no exchange"
    if environment not in _NETWORK_OF:
        return None
    network = _NETWORK_OF[environment]
    other = hosts("paper" if network == "real" else "real") - hosts(network)
    if host in other:
        return f"an address of the {network} network in {environment}"
    if not url.startswith(("https://", "wss://")):
        return f"an address that is encrypted (https, wss) in {environment}"
    return f"a host that is not this machine in {environment}" if _is_this_machine(host) else None


def _is_this_machine(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    return address.is_loopback or address.is_unspecified


def _production(settings: Settings) -> Iterator[Problem]:
    network = _NETWORK_OF.get(settings.env)
    if network is None:
        return
    if settings.exchanges.network != network:
        expected = f"{network} in {settings.env}"
        name = variable("exchanges", "network")
        yield wrong(name, got=settings.exchanges.network, expected=expected, remedy="unset it")
    for exchange in Exchange:
        if network == "real" and settings.exchanges.of(exchange).demo:
            name = variable("exchanges", exchange.value, "demo")
            yield wrong(name, got=True, expected=f"false in {settings.env}", remedy="unset it")
    if settings.api.keys != "always":
        expected = f"always in {settings.env}: whoever asks has a key"
        yield wrong(variable("api", "keys"), got=settings.api.keys, expected=expected, remedy="unset it")
    for endpoint in ("api_endpoint", "write_endpoint"):
        url = getattr(settings.bigquery, endpoint)
        if url is not None:
            expected = f"nothing in {settings.env}: Google's own, no emulator"
            yield wrong(variable("bigquery", endpoint), got=masked(url), expected=expected, remedy="unset it")


def _foreign_dataset(settings: Settings) -> Iterator[Problem]:
    if settings.store != "bigquery":
        return
    for name in ("dataset", "staging_dataset"):
        own = getattr(settings.bigquery, name)
        for environment, dataset in datasets().items():
            # those of what is being written and of snapshots are called after it
            if own is not None and environment != settings.env and (own == dataset or own.startswith(f"{dataset}_")):
                expected = f"a dataset of its own in {settings.env}, not that of {environment}"
                yield wrong(variable("bigquery", name), got=own, expected=expected, remedy="unset it")


@cache
def datasets() -> dict[str, str]:
    """Return the dataset that the file of each environment names, by environment."""
    files = {name: tomllib.loads(environment_file(name).read_text(encoding="utf-8")) for name in ENVIRONMENTS}
    return {name: file["bigquery"]["dataset"] for name, file in files.items() if "dataset" in file.get("bigquery", {})}
