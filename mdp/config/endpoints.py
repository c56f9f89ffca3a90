"""Where exchanges are that name no address of their own: the committed catalogue ``endpoints.toml``.

Not here: whether an exchange is simulated instead (``services``).
"""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from mdp.domain.market import Exchange

CATALOGUE = Path(__file__).parent / "endpoints.toml"

Network = Literal["real", "paper"]


def endpoints(network: Network, exchange: Exchange) -> dict[str, Any]:
    """Return what the catalogue says of an exchange: ``rest_url``, ``ws_url``, and more where there is more to say."""
    return dict(_catalogue()[network][exchange.value])


def hosts(network: Network) -> frozenset[str]:
    """Return every host of a network, without port."""
    entries = _catalogue()[network].values()
    urls = [value for entry in entries for name, value in entry.items() if name.endswith("_url")]
    return frozenset(str(urlsplit(url).hostname) for url in urls)


@cache
def _catalogue() -> dict[str, dict[str, dict[str, Any]]]:
    return tomllib.loads(CATALOGUE.read_text(encoding="utf-8"))
