"""The sections of the settings beside the exchanges': bus, simulator, Dagster, indices, BigQuery, live, API, alerts.

Not here: how they are found (``settings``), what they are used for.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from mdp.config.fields import Port, Share, Strict, Url


class SimulatorSettings(Strict):
    """The exchange simulator.

    Attributes:
        port: Where ``mdp up`` starts it on 127.0.0.1; another free port is taken when this one is in use.
        seed: Seed of the generated prices.
        url: Where it is, when neither ``mdp up`` nor ``port`` says so: in another container or on another host.
    """

    port: Port = 8790
    seed: int = 20170801
    url: Url | None = None


class DagsterSettings(Strict):
    """Dagster's own processes.

    Attributes:
        port: Of its web page; another free port is taken when this one is in use.
        instance: Where Dagster keeps its runs, and who executes them. ``sqlite``: files of the data directory, the code
            server (``dagster.yaml``). ``postgres``: a server, the code server. ``celery``: a server, workers on any
            number of hosts (both below ``deploy/dagster``). ``kubernetes``: as ``DAGSTER_HOME`` says, which Dagster's
            chart sets.
        postgres_url: Of the server, such as ``postgresql+psycopg2://user:password@host:5432/dagster``.
        broker_url: Of the queue of Celery's workers, a Valkey or Redis such as ``redis://host:6379/1``.
        keep_runs_days: How long ended runs stay that no longer say what is stored. None: for ever.
        runs_at_once: How many runs may be at work at once, beside the live one, on all hosts together. None:
            ``workers``, of the host where the daemon is.
        lost_after_s: A run on a worker that gives no sign of life for so long is lost, and launched anew elsewhere.
    """

    port: Port = 3000
    instance: Literal["sqlite", "postgres", "celery", "kubernetes"] = "sqlite"
    postgres_url: Annotated[str, Field(pattern=r"^postgresql\+psycopg2://\S+/[^/\s]+$")] | None = None
    broker_url: Annotated[str, Field(pattern=r"^(rediss?|valkeys?)://\S+$")] | None = None
    keep_runs_days: Annotated[int, Field(ge=1, le=3_650)] | None = 90
    runs_at_once: Annotated[int, Field(ge=1, le=1_000)] | None = None
    lost_after_s: Annotated[float, Field(ge=10, le=3_600)] = 60


class LogSettings(Strict):
    """What processes say of their work, on stderr.

    Attributes:
        form: ``text`` for people, ``json`` for machines: one object a line.
        level: What is said at least.
    """

    form: Literal["text", "json"] = "text"
    level: Literal["debug", "info", "warning", "error"] = "info"


class AlertSettings(Strict):
    """Whom Dagster tells when something needs a person.

    Attributes:
        webhook_url: Gets a JSON object by POST for each alert, as Slack's and Mattermost's incoming webhooks read it; a
            secret, for whoever knows it may write there. None: alerts are only in Dagster's log.
        repeat_after_minutes: So long the same alert is not sent again.
    """

    webhook_url: Url | None = None
    repeat_after_minutes: Annotated[int, Field(ge=1, le=10_080)] = 60


class DvolSettings(Strict):
    """The volatility index.

    Attributes:
        resolution: Length of the candles that are collected: by the hour, or by the minute.
        max_age_minutes: How old the last closed candle may be before a minute has no value.
    """

    resolution: Literal["1h", "1m"] = "1h"
    max_age_minutes: Annotated[int, Field(ge=60, le=1440)] = 120


class BusSettings(Strict):
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


class GapsSettings(Strict):
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


Expendable = Literal["failed_fetches", "rejected_ohlcv"]
"""Tables on which nothing else rests."""


def _expendable_days() -> dict[Expendable, int]:
    return {"failed_fetches": 90}


class MaintenanceSettings(Strict):
    """Looking after the tables.

    Attributes:
        retention_hours: How long files stay that are no longer part of a table: so long a reader may work on one. At
            most 30 days, for which the log of a table remembers what was removed.
        compact_files: A partition with more files than this is joined to one.
        keep_days: How long rows stay, by table; for those that are not named, for ever. Only what nothing else rests on
            can be named: ``failed_fetches``, ``rejected_ohlcv``.
        keep_logs_days: How long logs of commands that ended stay.
    """

    retention_hours: Annotated[int, Field(ge=1, le=720)] = 168
    compact_files: Annotated[int, Field(ge=1, le=10_000)] = 4
    keep_days: dict[Expendable, Annotated[int, Field(ge=1)]] = Field(default_factory=_expendable_days)
    keep_logs_days: Annotated[int, Field(ge=1, le=3_650)] = 30

    def kept_since(self, table: str, now: datetime) -> datetime | None:
        """Return since when every row of a table must still be there; None: since ever."""
        days = {str(name): days for name, days in self.keep_days.items()}.get(table)
        return None if days is None else now - timedelta(days=days)


class BigQuerySettings(Strict):
    """The central store.

    Attributes:
        project: Google Cloud project; required when ``store`` is ``bigquery``.
        dataset: Dataset of the tables.
        staging_dataset: Dataset of what is being written; what is left in it expires after a day. None: the dataset's
            name and ``_writing``, which no environment's own dataset is called.
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

    @property
    def staging(self) -> str:
        """Name of the dataset of what is being written."""
        return self.staging_dataset or f"{self.dataset}_writing"


class LiveSettings(Strict):
    """Buffers for live trading: what is kept, how often it is stored, when a stream counts as dead.

    Seconds are real ones, except where they are said to be the market's: a simulator's clock may run faster.

    Attributes:
        buffer_size: Closed candles that each buffer holds, beside the one that is forming.
        persist_every_s: How often what closed is stored.
        silence_s: Seconds of the market without an update after which REST is asked whether the market moved on; where
            it did, the stream counts as dead and is opened anew.
        confirm_last: How many closed minutes each confirmation asks for again.
        lease_s: So long after its last sign of life a feed, or the live run, counts as dead.
        run_minutes: Length of one live run of Dagster; the next one follows at once.
        start_feeds: Whether the live run starts feeds, and ends them when it is turned off. False: they are services of
            their own, which somebody else starts and keeps alive; the live run only uses them.
        linger_s: How long a feed that the live job started goes on after nobody wants it any more: long enough for
            Dagster to be started again.
        reread_minutes: How often, in minutes of the market, buffers are compared with storage.
    """

    buffer_size: Annotated[int, Field(ge=10, le=2_000)] = 100
    persist_every_s: Annotated[float, Field(ge=0.2, le=3_600)] = 60
    silence_s: Annotated[float, Field(ge=1, le=300)] = 8
    confirm_last: Annotated[int, Field(ge=1, le=100)] = 3
    lease_s: Annotated[float, Field(ge=0.5, le=20)] = 2
    run_minutes: Annotated[float, Field(gt=0, le=1_440)] = 55
    start_feeds: bool = True
    linger_s: Annotated[float, Field(ge=1, le=86_400)] = 600
    reread_minutes: Annotated[float, Field(ge=1, le=1_440)] = 15


class ApiSettings(Strict):
    """The service: where it listens, who may ask, how much.

    Attributes:
        host: Address to listen on. On any other than this machine's own, every request needs a key.
        port: Port to listen on.
        workers: Processes that answer; each mirrors all buffers.
        keys: ``away_from_loopback``: a key is needed by whoever does not ask from this machine directly. ``always``:
            by everybody.
        keys_file: Where hashes of keys are. None: ``api/keys.json`` of the data directory.
        requests_per_minute: What one key may ask unless it has a limit of its own.
        max_rows: Candles in one answer at most; more come page by page.
        max_body_bytes: Of a request.
        cors_origins: Pages of other origins that may ask, such as ``https://desk.example``. Empty: none.
        trusted_proxies: Addresses whose ``X-Forwarded-For`` is believed.
        readers: Questions to storage that are answered at the same time; others wait.
        timeout_s: Seconds for which a question waits for storage.
        max_streams: WebSocket and SSE connections at a time.
        heartbeat_s: A stream without news says so after so many seconds.
        slow_client_s: A subscriber that took nothing for so long is cut off.
        drain_s: Seconds that requests in flight are given when the service ends.
        access_log: ``all`` requests, only ``problems`` (4xx, 5xx and slow ones), or ``off``.
        dagster_url: Dagster's webserver, for backfills; None: the one of ``mdp up``.
        max_generate_days: Days whose missing ones one request may have collected.
        max_generations: Collections on request that may be at work at a time.
    """

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    port: Port = 8_000
    workers: Annotated[int, Field(ge=1, le=32)] = 1
    keys: Literal["away_from_loopback", "always"] = "away_from_loopback"
    keys_file: Path | None = None
    requests_per_minute: Annotated[int, Field(ge=1, le=1_000_000)] = 1_200
    max_rows: Annotated[int, Field(ge=1_000, le=1_000_000)] = 100_000
    max_body_bytes: Annotated[int, Field(ge=1_024, le=16_777_216)] = 65_536
    cors_origins: tuple[Annotated[str, Field(pattern=r"^https?://[^/\s*]+$")], ...] = ()
    trusted_proxies: tuple[str, ...] = ()
    readers: Annotated[int, Field(ge=1, le=64)] = 4
    timeout_s: Annotated[float, Field(ge=1, le=600)] = 30
    max_streams: Annotated[int, Field(ge=1, le=100_000)] = 1_000
    heartbeat_s: Annotated[float, Field(ge=0.2, le=120)] = 15
    slow_client_s: Annotated[float, Field(ge=1, le=600)] = 30
    drain_s: Annotated[float, Field(ge=0, le=300)] = 10
    access_log: Literal["all", "problems", "off"] = "all"
    dagster_url: Url | None = None
    max_generate_days: Annotated[int, Field(ge=1, le=3_653)] = 366
    max_generations: Annotated[int, Field(ge=1, le=100)] = 4
