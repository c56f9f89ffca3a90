"""The sections of the settings: one exchange, the bus, the simulator, Dagster, the indices, BigQuery.

Not here: how they are found (``settings``), what they are used for.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator

from mdp.domain.market import Exchange

Port = Annotated[int, Field(ge=1, le=65535)]
Share = Annotated[float, Field(gt=0, le=1)]
Url = Annotated[str, Field(pattern=r"^(https?|wss?)://[^/\s]+[^\s]*[^/\s]$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class ExchangeSettings(_Strict):
    """One exchange: where it is and how hard we may ask.

    Attributes:
        rest_url: Scheme, host and prefix in front of the exchange's own paths such as ``/api/v3/klines``. None: the
            simulator of this data directory.
        ws_url: The same for its WebSocket.
        archive_url: The same for its bulk files.
        timeout_s: Seconds until a request without an answer counts as failed.
        pages_in_flight: Requests of one process to this exchange that may wait for an answer at the same time.
        rate_share: Share of the exchange's quota for this address that we may use.
        symbol_shares: Share of what we may use that one symbol may take, such as ``{"BTC-USDT": 0.5}``; others: all.
        archives: Whether bulk files are asked before REST, where the exchange publishes them.
        settle_s: Seconds after its close until a candle counts as finished.
        attempts: How often a request is tried before its failure is reported.
        failures_to_open: Failures in a row after which nobody asks the exchange for a while.
        probe_after_s: Seconds until a single request may try whether it is back.
    """

    rest_url: Url | None = None
    ws_url: Url | None = None
    archive_url: Url | None = None
    timeout_s: Annotated[float, Field(gt=0, le=120)] = 10
    pages_in_flight: Annotated[int, Field(ge=1, le=64)] = 16
    rate_share: Share = 0.8
    symbol_shares: dict[str, Share] = {}
    archives: bool = True
    settle_s: Annotated[float, Field(ge=0, le=600)] = 10
    attempts: Annotated[int, Field(ge=1, le=10)] = 4
    failures_to_open: Annotated[int, Field(ge=1, le=1_000)] = 8
    probe_after_s: Annotated[float, Field(gt=0, le=3_600)] = 15


class ExchangesSettings(_Strict):
    """The exchanges by name."""

    binance: ExchangeSettings = ExchangeSettings()
    bybit: ExchangeSettings = ExchangeSettings()
    okx: ExchangeSettings = ExchangeSettings()
    deribit: ExchangeSettings = ExchangeSettings()

    def of(self, exchange: Exchange) -> ExchangeSettings:
        """Return the settings of one exchange."""
        found: ExchangeSettings = getattr(self, exchange.value)
        return found


class SimulatorSettings(_Strict):
    """The exchange simulator.

    Attributes:
        port: Where ``mdp up`` starts it on 127.0.0.1; another free port is taken when this one is in use.
        seed: Seed of the generated prices.
    """

    port: Port = 8790
    seed: int = 20170801


class DagsterSettings(_Strict):
    """Dagster's own processes.

    Attributes:
        port: Of its web page; another free port is taken when this one is in use.
    """

    port: Port = 3000


class DvolSettings(_Strict):
    """The volatility index.

    Attributes:
        resolution: Length of the candles that are collected: by the hour, or by the minute.
        max_age_minutes: How old the last closed candle may be before a minute has no value.
    """

    resolution: Literal["1h", "1m"] = "1h"
    max_age_minutes: Annotated[int, Field(ge=60, le=1440)] = 120


class BusSettings(_Strict):
    """Valkey or Redis: where the processes of one or more machines meet.

    Attributes:
        url: Such as ``redis://bus:6379/0``. None: a server in ``bus_dir``, started when needed.
        egress: Name of the address that our requests leave from. Quotas are counted by address: machines that share a
            bus and an address give it one name, machines with another address another one.
        fallback_share: Share of our quota that one process takes at most while the bus cannot be reached; never more
            than one of ``workers`` parts.
    """

    url: str | None = None
    egress: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")] = "default"
    fallback_share: Share = 0.25

    @field_validator("url")
    @classmethod
    def _require_server(cls, value: str | None) -> str | None:
        if value is not None and not _names_server(value):
            raise ValueError("a URL such as redis://host:6379/0")
        return value


def _names_server(url: str) -> bool:
    """Tell whether the client library finds a server, and nothing it would read in silence as something else."""
    if not re.fullmatch(r"(rediss?|valkeys?|unix)://\S+", url):
        return False
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    if parts.scheme == "unix":
        return len(parts.path) > 1
    return bool(parts.hostname) and port != 0 and re.fullmatch(r"(/\d*)?", parts.path) is not None


class GapsSettings(_Strict):
    """Missing minutes.

    Attributes:
        sightings_apart_minutes: How long after one sighting another counts as a witness of its own. Two make a gap
            permanent: not before the exchange had a day to give it later, in its files too.
        ask_again_minutes: How long healing waits before it asks again for a day in which something is missing.
    """

    sightings_apart_minutes: Annotated[int, Field(ge=1, le=10_080)] = 1_440
    ask_again_minutes: Annotated[int, Field(ge=1, le=10_080)] = 60

    @property
    def apart(self) -> timedelta:
        """How long after one sighting another counts."""
        return timedelta(minutes=self.sightings_apart_minutes)

    @property
    def ask_again(self) -> timedelta:
        """How long healing waits before it asks again."""
        return timedelta(minutes=self.ask_again_minutes)


class MaintenanceSettings(_Strict):
    """Looking after the tables.

    Attributes:
        retention_hours: How long files stay that are no longer part of a table: so long a reader may work on one. At
            most 30 days, for which the log of a table remembers what was removed.
        compact_files: A partition with more files than this is joined to one.
        keep_days: How long rows stay, by table; for those that are not named, for ever. Only what nothing else rests on
            can be named: ``failed_fetches``, ``rejected_ohlcv``.
    """

    retention_hours: Annotated[int, Field(ge=1, le=720)] = 168
    compact_files: Annotated[int, Field(ge=1, le=10_000)] = 4
    keep_days: dict[Literal["failed_fetches", "rejected_ohlcv"], Annotated[int, Field(ge=1)]] = {"failed_fetches": 90}

    def kept_since(self, table: str, now: datetime) -> datetime | None:
        """Return since when every row of a table must still be there; None: since ever."""
        days = {str(name): days for name, days in self.keep_days.items()}.get(table)
        return None if days is None else now - timedelta(days=days)


class BigQuerySettings(_Strict):
    """The central store.

    Attributes:
        project: Google Cloud project; required when ``store`` is ``bigquery``.
        dataset: Dataset of the tables.
        staging_dataset: Dataset of what is being written; what is left in it expires after a day. None: the dataset's
            name and ``_staging``.
        location: Region of both.
        api_endpoint: Where the REST API is, for an emulator; None: Google's.
        write_endpoint: Where the Storage Write API is, as ``host:port``, for an emulator; None: Google's.
        merges_at_once: Slices of one table that one process replaces at the same time.
        timeout_s: Seconds until a request without an answer counts as failed.
        patience_s: Seconds for which a request is repeated that failed for a reason that may pass, with waits that
            grow to half a minute: Google's own clients take 600.
    """

    project: str | None = None
    dataset: Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{1,1000}$")] = "market_data"
    staging_dataset: Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{1,1000}$")] | None = None
    location: str = "EU"
    api_endpoint: Url | None = None
    write_endpoint: Annotated[str, Field(pattern=r"^[^/\s:]+:\d{1,5}$")] | None = None
    merges_at_once: Annotated[int, Field(ge=1, le=16)] = 2
    timeout_s: Annotated[float, Field(gt=0, le=600)] = 60
    patience_s: Annotated[float, Field(gt=0, le=3_600)] = 300
