"""Asking Dagster's webserver: one question over GraphQL, with errors that say what to start.

Not here: what is asked (``backfills``).
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

import httpx

from mdp.config.masking import without_user
from mdp.config.services import read_services
from mdp.config.settings import Settings
from mdp.errors import ConfigError, DagsterUnavailable

_log = logging.getLogger(__name__)

USUAL = httpx.Timeout(15, connect=2)
"""The first question after a start makes Dagster load the whole graph, which takes it seconds."""

START_IT = "start it with `mdp up` (or `dagster dev`), or name one that runs in MDP_API__DAGSTER_URL"


class Dagster:
    """Dagster's webserver.

    Args:
        http: To ask with.
        url: Its address, without a slash at the end.
    """

    def __init__(self, http: httpx.AsyncClient, url: str) -> None:
        self._http = http
        self.page = without_user(url)
        self._asked = url

    async def ask(self, query: str, variables: Mapping[str, Any], *, timeout: httpx.Timeout = USUAL) -> dict[str, Any]:
        """Return the data of an answer.

        Raises:
            DagsterUnavailable: nobody answers there, not in time, or what answers does not understand the question.
        """
        try:
            answer = await self._http.post(
                f"{self._asked}/graphql", json={"query": query, "variables": dict(variables)}, timeout=timeout
            )
            said = answer.json()
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            _log.info("Dagster does not answer at %s: %r", self.page, error)
            raise DagsterUnavailable(f"Dagster's webserver does not answer: {START_IT}") from error
        except ValueError as error:
            _log.warning("what answers at %s with %d is not Dagster", self.page, answer.status_code)
            raise DagsterUnavailable(f"what answers at Dagster's address is not Dagster: {START_IT}") from error
        data = said.get("data") if isinstance(said, dict) else None
        if not isinstance(data, dict) or said.get("errors"):
            _log.warning("Dagster at %s refuses a question: %s", self.page, str(said)[:2_000])
            raise DagsterUnavailable("Dagster answers, but not this question; the log of the service says more")
        return data


@asynccontextmanager
async def asking_dagster(settings: Settings) -> AsyncIterator[Dagster]:
    """Open the way to the webserver of the settings, else to that of ``mdp up``.

    Raises:
        DagsterUnavailable: neither is known.
    """
    url = dagster_url(settings)
    if url is None:
        raise DagsterUnavailable(f"no Dagster runs for this data directory: {START_IT}")
    # an address of this machine or this network: no proxy of the environment belongs in between
    async with httpx.AsyncClient(trust_env=False, verify=_trusted(url.startswith("https"))) as http:
        yield Dagster(http, url)


@cache
def _trusted(is_needed: bool) -> ssl.SSLContext:
    """Return whom to trust; reading all certificates takes 50 ms, which nobody needs who speaks plain HTTP."""
    return httpx.create_ssl_context(trust_env=False) if is_needed else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def dagster_url(settings: Settings) -> str | None:
    """Return where Dagster's webserver is; None where none is known."""
    if settings.api.dagster_url is not None:
        return str(settings.api.dagster_url).rstrip("/")
    try:
        services = read_services(settings)
    except ConfigError as error:
        _log.warning("%s", error)
        return None
    return None if services is None else services.ui_url.rstrip("/")
