"""The settings that are in force, each with its value as it may be shown, and where it comes from.

Not here: how they are drawn (``mdp.cli.config``).
"""

from __future__ import annotations

from functools import reduce
from pathlib import Path
from typing import NamedTuple

from mdp.config.describing import described_settings
from mdp.config.given import read_given
from mdp.config.masking import masked, masked_setting
from mdp.config.problems import variable
from mdp.config.services import exchange_settings
from mdp.config.settings import Settings
from mdp.domain.market import Exchange

DEFAULT = "default"


class Effective(NamedTuple):
    """One setting that is in force.

    Attributes:
        setting: The variable that would give it.
        value: What it is, secrets masked; of JSON's kinds.
        origin: ``default``, a file, a variable, or what an address that nobody gave follows from.
    """

    setting: str
    value: object
    origin: str


def effective_settings(settings: Settings) -> list[Effective]:
    """Return all settings of an environment, the addresses of the exchanges as they are asked."""
    given = read_given(settings.env)
    asked = {exchange.value: exchange_settings(settings, exchange) for exchange in Exchange}
    found = []
    for one in described_settings():
        value: object = reduce(getattr, one.path, settings)
        origin = given.origin_of(one.path)
        if one.path[0] == "exchanges" and one.path[1] in asked:
            in_force = getattr(asked[one.path[1]], one.path[2])
            if in_force != value:
                value, origin = in_force, _source_of_addresses(settings)
        found.append(Effective(one.setting, _plain(masked_setting(one.path, value)), origin))
    return found


def _source_of_addresses(settings: Settings) -> str:
    if not settings.simulated:
        return f"endpoints.toml, {settings.exchanges.network}"
    own = settings.simulator.url is not None
    return f"simulator, {variable('simulator', 'url')}" if own else "simulator of this data directory"


def _plain(value: object) -> object:
    """Return a value of JSON's kinds."""
    if isinstance(value, Path):
        return masked(str(value))
    if isinstance(value, dict):
        return {str(name): _plain(one) for name, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value
