"""All settings, their types and defaults, and how they are found.

An ``MDP_…`` environment variable wins over the environment's TOML file, which wins over the default written here.
``MDP_ENV`` names the environment. Not here: what a setting is used for.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from mdp.config.masking import masked_value
from mdp.config.sections import (
    BigQuerySettings,
    BusSettings,
    DagsterSettings,
    DvolSettings,
    ExchangesSettings,
    GapsSettings,
    MaintenanceSettings,
    SimulatorSettings,
)
from mdp.domain.market import MARKETS, Exchange, Market
from mdp.errors import ConfigError

ENVIRONMENTS: tuple[str, ...] = (
    "local-dev",
    "local-integration",
    "central-dev",
    "integration-test",
    "staging",
    "production-paper",
    "production-live",
)

PROJECT_ROOT = Path(__file__).resolve().parent.parent.parent
"""The checkout this package is run from."""


class Settings(BaseSettings):
    """Everything that differs between machines and environments.

    Attributes:
        env: Name of the environment.
        data_dir: Where everything generated goes: lake, Dagster's storage, state of running services.
        store: ``duckdb``: the local lake with DuckDB as its SQL. ``bigquery``: the central store.
        simulated: Whether an exchange without a ``rest_url`` of its own means the simulator.
        markets: What is collected, spelled ``binance:BTC-USDT``: some or all of ``mdp.domain.market.MARKETS``.
        workers: Processes that work at the same time: of a backfill, and runs that Dagster lets run at once.
        memory_mb_per_market: What a worker may hold of one market's candles at a time.
    """

    model_config = SettingsConfigDict(
        env_prefix="MDP_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        nested_model_default_partial_update=True,
    )

    env: Literal[
        "local-dev",
        "local-integration",
        "central-dev",
        "integration-test",
        "staging",
        "production-paper",
        "production-live",
    ] = "local-dev"
    data_dir: Path = PROJECT_ROOT / "data"
    store: Literal["duckdb", "bigquery"] = "duckdb"
    simulated: bool = False
    markets: tuple[str, ...] = tuple(str(market) for market in MARKETS)
    workers: Annotated[int, Field(ge=1, le=64)] = 2
    memory_mb_per_market: Annotated[int, Field(ge=64, le=16_384)] = 256
    bus: BusSettings = BusSettings()
    exchanges: ExchangesSettings = ExchangesSettings()
    simulator: SimulatorSettings = SimulatorSettings()
    dagster: DagsterSettings = DagsterSettings()
    dvol: DvolSettings = DvolSettings()
    gaps: GapsSettings = GapsSettings()
    maintenance: MaintenanceSettings = MaintenanceSettings()
    bigquery: BigQuerySettings = BigQuerySettings()

    @field_validator("data_dir", mode="before")
    @classmethod
    def _expand(cls, value: object) -> object:
        if value == "":  # pathlib reads it as the current directory, whatever that happens to be
            raise ValueError("a directory")
        try:
            return Path(value).expanduser() if isinstance(value, str) else value
        except RuntimeError as error:
            raise ValueError("a directory; whose home is this?") from error

    @field_validator("markets")
    @classmethod
    def _parse_markets(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("a list with at least one market, such as binance:BTC-USDT")
        return tuple(dict.fromkeys(_one_of_ours(text) for text in value))

    @model_validator(mode="after")
    def _require_known_symbols(self) -> Self:
        for exchange in Exchange:
            known = [market.symbol_key for market in MARKETS if market.exchange is exchange]
            for symbol in self.exchanges.of(exchange).symbol_shares:
                if symbol not in known:
                    # not a ValueError: pydantic would name the whole of the settings instead of this one
                    name = f"MDP_EXCHANGES__{exchange.name}__SYMBOL_SHARES"
                    raise ConfigError(name, got=symbol, expected=f"symbols among {', '.join(known)}")
        return self

    @property
    def bus_dir(self) -> Path:
        """Where the bus is that comes with the package.

        Simulated exchanges belong to a data directory, and so does what is counted of them. The quota of a real one
        belongs to the address of this machine: whatever their data directories, all processes of a user share a bus.

        Raises:
            ConfigError: this user has no home directory, and ``XDG_STATE_HOME`` names no other.
        """
        if self.simulated:
            return self.data_dir
        state = Path(os.environ.get("XDG_STATE_HOME", ""))
        try:
            return (state if state.is_absolute() else Path.home() / ".local" / "state") / "mdp"
        except RuntimeError as error:
            expected = "an absolute path, for this user has no home; or a bus of your own in MDP_BUS__URL"
            raise ConfigError("XDG_STATE_HOME", got=os.environ.get("XDG_STATE_HOME"), expected=expected) from error

    @property
    def lake_dir(self) -> Path:
        """Where the local lake is."""
        return self.data_dir / "lake"

    @property
    def snapshots_dir(self) -> Path:
        """Where the snapshots of the local lake are: on the same disk, for they share its files."""
        return self.data_dir / "snapshots"

    @property
    def dagster_dir(self) -> Path:
        """Where Dagster keeps its runs, events and logs."""
        return self.data_dir / "dagster"

    @property
    def spool_dir(self) -> Path:
        """Where answered pages wait until the slice they belong to is stored."""
        return self.data_dir / "spool"

    @property
    def run_dir(self) -> Path:
        """Where running services say where they listen."""
        return self.data_dir / "run"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 the signature is pydantic's
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment variables over the environment's TOML file over the defaults."""
        name = _require_environment(init_settings().get("env", environment_name()))
        toml = TomlConfigSettingsSource(settings_cls, environment_file(name))
        return init_settings, env_settings, toml


def _one_of_ours(text: str) -> str:
    """Spell a market as we do; one of an exchange that we could ask, but have no partition for, is refused."""
    try:
        market = Market.parse(text)
    except ValueError:
        market = None
    if market not in MARKETS:
        raise ValueError(f"markets among {', '.join(map(str, MARKETS))}, which {text!r} is not")
    return str(market)


def environment_name() -> str:
    """Return the environment that ``MDP_ENV`` names, ``local-dev`` when it is not set.

    Raises:
        ConfigError: a name we do not know; the message lists those we do.
    """
    return _require_environment(os.environ.get("MDP_ENV", "local-dev"))


def _require_environment(name: object) -> str:
    if not (isinstance(name, str) and name in ENVIRONMENTS):
        raise ConfigError("MDP_ENV", got=name, expected=f"one of {', '.join(ENVIRONMENTS)}")
    return name


def environment_file(name: str) -> Path:
    """Return the TOML file of an environment."""
    return Path(__file__).parent / "environments" / f"{name}.toml"


def load_settings(**overrides: Any) -> Settings:
    """Read the settings from the process's environment variables and the environment's file.

    Args:
        overrides: Values that win over both, by field name; for tests and embedding.

    Raises:
        ConfigError: names the first setting that is wrong, what it was and what is expected.
    """
    _refuse_unknown_variables()
    try:
        settings = Settings(**overrides)
    except ValidationError as error:
        first = error.errors()[0]
        name = "MDP_" + "__".join(str(part) for part in first["loc"]).upper()
        raise ConfigError(
            name, got=masked_value(first.get("input")), expected=_expected(first["type"], first["msg"])
        ) from error
    except SettingsError as error:
        # the only trace of the variable in this error is its message: field "markets" from source …
        field = re.search(r'field "(\w+)"', str(error))
        name = f"MDP_{field[1]}".upper() if field else "MDP_…"
        raise ConfigError(
            name, got=masked_value(os.environ.get(name)), expected='JSON, such as ["…"] or {"…": …}'
        ) from error
    return settings.model_copy(update={"data_dir": settings.data_dir.expanduser().resolve()})


def _refuse_unknown_variables() -> None:
    """A misspelt variable would otherwise be ignored, and the default used in silence."""
    known = [f"MDP_{field.upper()}" for field in Settings.model_fields]
    for name in os.environ:
        if name.upper().startswith("MDP_") and name.upper().split("__")[0] not in known:
            raise ConfigError(name, got=name, expected=f"a name that begins with one of {', '.join(known)}")


def _expected(kind: str, message: str) -> str:
    """What pydantic says of a wrong value, so that it reads well after the word "expected"."""
    if kind == "extra_forbidden":
        return "the name of a setting"
    said = message.removeprefix("Input should be ").removeprefix("Value error, ").removeprefix("expected ")
    return said.split(", got ")[0]
