"""All settings, their types and defaults, and how they are found.

An ``MDP_…`` environment variable wins over the environment's TOML file, which wins over the default written here.
``MDP_ENV`` names the environment. Not here: what a setting is used for.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
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

from mdp.config.environment_names import ENVIRONMENTS, environment_file
from mdp.config.exchange_sections import ExchangesSettings
from mdp.config.isolation import violations
from mdp.config.masking import masked_setting
from mdp.config.problems import JSON_EXPECTED, expected_of, variable
from mdp.config.sections import (
    AlertSettings,
    ApiSettings,
    BigQuerySettings,
    BusSettings,
    DagsterSettings,
    DvolSettings,
    GapsSettings,
    LiveSettings,
    LogSettings,
    MaintenanceSettings,
    SimulatorSettings,
)
from mdp.domain.market import MARKETS, Exchange, Market
from mdp.errors import ConfigError

PROJECT_ROOT = Path(__file__).resolve().parent.parent.parent
"""The checkout this package is run from."""


def _own_data_dir(validated: dict[str, Any]) -> Path:
    name = validated.get("env", "local-dev")
    return PROJECT_ROOT / "data" if name == "local-dev" else PROJECT_ROOT / "data" / str(name)


class Settings(BaseSettings):
    """Everything that differs between machines and environments.

    Attributes:
        env: Name of the environment.
        data_dir: Where everything generated goes: lake, Dagster's storage, state of running services. Not given:
            ``data`` of the checkout in local-dev, below it a folder of the environment's name elsewhere, so that no
            environment meets another's candles.
        store: ``duckdb``: the local lake with DuckDB as its SQL. ``bigquery``: the central store.
        simulated: Whether an exchange without a ``rest_url`` of its own means the simulator.
        markets: What is collected, spelled ``binance:BTC-USDT``: some or all of ``mdp.domain.market.MARKETS``.
        workers: Processes that work at the same time: of a backfill, and runs that Dagster lets run at once.
        mode: ``live``: feeds run, buffers are kept and stored. ``backtest``: storage is read, and no feed may start.
        memory_mb_per_market: What a worker may hold of one market's candles at a time.
        cpu_share: Share of this machine's cores that collecting the past may use (backfills, healing, Dagster's runs),
            all its processes together, rounded up to whole cores. Feeds and the service have them all.
        history_days: How many days before today a backfill begins that names no start. None: with the first day of
            each market.
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
    data_dir: Path = Field(default_factory=_own_data_dir)
    store: Literal["duckdb", "bigquery"] = "duckdb"
    simulated: bool = False
    markets: tuple[str, ...] = tuple(str(market) for market in MARKETS)
    workers: Annotated[int, Field(ge=1, le=64)] = 2
    memory_mb_per_market: Annotated[int, Field(ge=64, le=16_384)] = 256
    cpu_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    history_days: Annotated[int, Field(ge=1, le=10_000)] | None = None
    mode: Literal["live", "backtest"] = "live"
    log: LogSettings = LogSettings()
    alerts: AlertSettings = AlertSettings()
    bus: BusSettings = BusSettings()
    exchanges: ExchangesSettings = ExchangesSettings()
    simulator: SimulatorSettings = SimulatorSettings()
    dagster: DagsterSettings = DagsterSettings()
    dvol: DvolSettings = DvolSettings()
    gaps: GapsSettings = GapsSettings()
    maintenance: MaintenanceSettings = MaintenanceSettings()
    bigquery: BigQuerySettings = BigQuerySettings()
    live: LiveSettings = LiveSettings()
    api: ApiSettings = ApiSettings()

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
    def dagster_home(self) -> Path:
        """Where the ``dagster.yaml`` is that Dagster's processes go by."""
        if self.dagster.instance == "kubernetes":  # the chart of Dagster writes it
            return Path(os.environ.get("DAGSTER_HOME") or "/opt/dagster/dagster_home")
        own = self.dagster.instance
        return PROJECT_ROOT if own == "sqlite" else PROJECT_ROOT / "deploy" / "dagster" / own

    @property
    def spool_dir(self) -> Path:
        """Where answered pages wait until the slice they belong to is stored."""
        return self.data_dir / "spool"

    @property
    def keys_file(self) -> Path:
        """Where hashes of the API's keys are."""
        return self.api.keys_file or self.data_dir / "api" / "keys.json"

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
        name = require_environment(init_settings().get("env", environment_name()))
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
    return require_environment(os.environ.get("MDP_ENV", "local-dev"))


def require_environment(name: object) -> str:
    """Return the name of an environment.

    Raises:
        ConfigError: a name we do not know; the message lists those we do.
    """
    if not (isinstance(name, str) and name in ENVIRONMENTS):
        raise ConfigError("MDP_ENV", got=name, expected=f"one of {', '.join(ENVIRONMENTS)}")
    return name


def load_settings(**overrides: Any) -> Settings:
    """Read the settings from the process's environment variables and the environment's file.

    Args:
        overrides: Values that win over both, by field name; for tests and embedding.

    Raises:
        ConfigError: names the first setting that is wrong, what it was and what is expected; wrong is too what would
            reach another environment. ``mdp config check`` names all.
    """
    _refuse_unknown_variables()
    try:
        settings = Settings(**overrides)
    except ValidationError as error:
        first = error.errors()[0]
        path = tuple(str(part) for part in first["loc"])
        name = variable(*path)
        # the value of a name we do not know may be a secret in the wrong place
        got = "…" if first["type"] == "extra_forbidden" else masked_setting(path, first.get("input"))
        raise ConfigError(name, got=got, expected=expected_of(first["type"], first["msg"])) from error
    except SettingsError as error:
        # the only trace of the variable in this error is its message: field "markets" from source …
        field = re.search(r'field "(\w+)"', str(error))
        name = f"MDP_{field[1]}".upper() if field else "MDP_…"
        raise ConfigError(
            name, got=masked_setting((field[1],) if field else (), os.environ.get(name)), expected=JSON_EXPECTED
        ) from error
    for problem in violations(settings)[:1]:
        raise ConfigError(problem.setting, got=problem.got, expected=problem.expected)
    return settings.model_copy(update={"data_dir": settings.data_dir.expanduser().resolve()})


def _refuse_unknown_variables() -> None:
    for name in unknown_variables(os.environ)[:1]:
        known = ", ".join(variable(field) for field in Settings.model_fields)
        raise ConfigError(name, got=name, expected=f"a name that begins with one of {known}")


def unknown_variables(names: Iterable[str]) -> list[str]:
    """Return those names that are meant for us and that we do not know.

    A misspelt variable would otherwise be ignored, and the default used in silence.
    """
    known = [variable(field) for field in Settings.model_fields]
    return [name for name in names if name.upper().startswith("MDP_") and name.upper().split("__")[0] not in known]
