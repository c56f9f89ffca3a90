"""Looks at what a place works with: the bus, the store, Dagster's storage and processes, the live feeds.

Not here: the exchanges (``exchanges``).
"""

from __future__ import annotations

import asyncio
import os
import time

import httpx
import redis

from mdp.bus import open_live_reader
from mdp.bus.address import bus_address
from mdp.cli.doctor.findings import Finding, ill, odd, well
from mdp.cli.processes import dagster_environment
from mdp.config.masking import masked
from mdp.config.services import read_services
from mdp.config.settings import Settings
from mdp.domain.market import Exchange
from mdp.errors import BusUnavailable
from mdp.pipeline.disk import disk_uses
from mdp.storage import open_store

QUIET_S = 120.0
"""Dagster's daemon says every half minute that it is there."""


def look_at_bus(settings: Settings) -> list[Finding]:
    """Does it answer, how fast, and does it keep what it is given?"""
    address = bus_address(settings)
    where = masked(address.url)
    try:
        with redis.from_url(address.url, socket_timeout=5, socket_connect_timeout=2) as bus:
            begun = time.monotonic()
            bus.ping()
            took_ms = (time.monotonic() - begun) * 1e3
            server, policy = bus.info("server"), _policy_of(bus)
    except redis.RedisError as error:
        if address.keeps is not None:
            return [well("bus", f"{where}: not running; the first process that needs it starts it")]
        advice = "start the server, or mend MDP_BUS__URL; until then each process takes only a part of its quota"
        return [ill("bus", f"{where}: {type(error).__name__}", advice)]
    seen = f"{where}: {server.get('valkey_version') or server['redis_version']}, {took_ms:.1f} ms"
    if policy is None:
        advice = "its CONFIG may not be read: make sure that its maxmemory-policy is noeviction"
        return [odd("bus", seen, advice)]
    if policy != "noeviction":
        advice = "configure maxmemory-policy noeviction: counts of requests and live candles must not be thrown away"
        return [ill("bus", f"{seen}, {policy}", advice)]
    return [odd("bus", seen, "a bus this slow holds every request up")] if took_ms > 50 else [well("bus", seen)]


def _policy_of(bus: redis.Redis) -> str | None:
    """Return what the server throws away when it is full; None where it does not tell, as servers of a cloud."""
    try:
        return str(bus.config_get("maxmemory-policy")["maxmemory-policy"])
    except redis.ResponseError:
        return None


def look_at_store(settings: Settings) -> list[Finding]:
    """Can the tables be opened, and are they of this version?"""
    store = open_store(settings)
    uses = disk_uses(store)
    there = [name for name, use in uses.items() if use.rows]
    where = settings.lake_dir if settings.store == "duckdb" else f"BigQuery {settings.bigquery.project}"
    if not there:
        return [well("store", f"{where}: empty; `mdp backfill` fills it")]
    return [well("store", f"{where}: {len(there)} of {len(uses)} tables hold rows")]


def look_at_dagster(settings: Settings) -> list[Finding]:
    """Does its storage answer, and is its daemon at work?"""
    if settings.dagster.instance == "sqlite" and not (settings.dagster_dir / "schedules").exists():
        return [well("dagster's storage", "not made yet: mdp init, or the first backfill")]
    os.environ.update(dagster_environment(settings))
    import dagster as dg

    with dg.DagsterInstance.get() as instance:
        heard = instance.get_daemon_heartbeats()
    findings = [well("dagster's storage", settings.dagster.instance)]
    beats = [float(one.timestamp) for one in heard.values()]
    if not beats:
        advice = "sensors, schedules and backfills need it: mdp up, or dagster-daemon run"
        return [*findings, odd("dagster's daemon", "never ran here", advice)]
    silent_s = time.time() - max(beats)
    if silent_s > QUIET_S:
        return [
            *findings,
            odd("dagster's daemon", f"silent for {silent_s:,.0f} s", "start it: mdp up, or dagster-daemon run"),
        ]
    return [*findings, well("dagster's daemon", f"heard {silent_s:.0f} s ago")]


def look_at_pages(settings: Settings) -> list[Finding]:
    """Do Dagster's page and the service answer, where they should run?"""
    services = read_services(settings)
    dagster = settings.api.dagster_url or (services.ui_url if services else None)
    api = services.api_url if services else None
    return [
        look_at_page("dagster's page", dagster and f"{dagster}/server_info"),
        look_at_page("service", api and f"{api}/readyz"),
    ]


def look_at_page(name: str, url: str | None) -> Finding:
    """Does it answer? One that says that it is not ready yet, and why, does: it waits for something else."""
    if url is None:
        return well(name, "not started by `mdp up`; elsewhere it was not looked for")
    try:
        answer = httpx.get(url, timeout=5, trust_env=False)
    except httpx.HTTPError as error:
        return ill(name, f"{masked(url)}: {type(error).__name__}", "start it, or mend its address")
    if answer.status_code == httpx.codes.OK:
        return well(name, url)
    if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE and "json" in answer.headers.get("content-type", ""):
        reasons = "; ".join(answer.json().get("reasons", []))
        return odd(name, f"{url}: {reasons}", "turn live_sensor on in Dagster, or `mdp feed`, where buffers are wanted")
    return ill(name, f"{masked(url)}: {answer.status_code}", "look into its log")


def look_at_feeds(settings: Settings) -> list[Finding]:
    """Is live wanted, and does each exchange have its feed?"""
    return asyncio.run(_feeds(settings))


async def _feeds(settings: Settings) -> list[Finding]:
    try:
        async with open_live_reader(settings) as bus:
            held = {one: await bus.holder_of(f"feed/{one.value}") for one in Exchange}
            backlog = await bus.backlog()
    except BusUnavailable:
        return [well("feeds", "no bus, so none")]
    at_work = [one.value for one, holder in held.items() if holder is not None]
    if not at_work:
        return [well("feeds", "none; live_sensor in Dagster, or `mdp feed`, starts them")]
    missing = sorted({one.value for one in held} - set(at_work))
    seen = f"{', '.join(at_work)}; {backlog.entries:,} minutes wait for storage"
    if missing:
        return [odd("feeds", f"{seen}; none for {', '.join(missing)}", "see `mdp live` and the log of that feed")]
    return [well("feeds", seen)]
