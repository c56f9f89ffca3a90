"""Addresses of the page: ``/``, ``/docs`` and the files that both need; what the service is, for whoever shows it.

Not here: which files there are (``files``), whether somebody may have them (the gate in front of all routes).
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from starlette.datastructures import Headers
from starlette.responses import Response

from mdp.api.page.files import StaticFile, load_files
from mdp.api.problems import documented, not_found
from mdp.api.surroundings import Around
from mdp.config.masking import without_user
from mdp.config.services import read_services
from mdp.config.settings import Settings
from mdp.domain.timeframe import Timeframe
from mdp.errors import ConfigError

CONTENT_SECURITY_POLICY = (
    "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
"""Nothing but files and answers of this service: no inline script or style, no other origin, in nobody's frame."""

_FOR_GOOD = "public, max-age=31536000, immutable"
_ASK_EACH_TIME = "no-cache"

router = APIRouter()


class ServiceDocument(BaseModel):
    """What this service is, and where Dagster's pages are."""

    name: Annotated[str, Field(examples=["mdp"])]
    version: Annotated[str, Field(examples=["2026.11.0"])]
    environment: Annotated[str, Field(description="Name of the environment.", examples=["local-dev"])]
    mode: Annotated[str, Field(description="`live` or `backtest`: the latter has no buffers.", examples=["live"])]
    markets: Annotated[list[str], Field(description="All markets, in order.", examples=[["binance:BTC-USDT"]])]
    timeframes: Annotated[list[str], Field(examples=[["1m", "5m", "15m", "1h", "4h", "1d"]])]
    dagster_url: Annotated[
        str | None, Field(description="Dagster's pages; null: not known here.", examples=["http://127.0.0.1:3000"])
    ]


@router.get(
    "/api/v1/service",
    tags=["Service"],
    summary="What this service is",
    description="Version, environment and mode, all markets, and where Dagster's pages are.",
    responses=documented(),
)
async def service(around: Around) -> ServiceDocument:
    """Tell what a page shows at its top."""
    settings = around.settings
    return ServiceDocument(
        name="mdp",
        version=version("mdp"),
        environment=settings.env,
        mode=settings.mode,
        markets=list(settings.markets),
        timeframes=[timeframe.value for timeframe in Timeframe],
        dagster_url=await around.in_thread(lambda: _dagster_url(settings)),
    )


def _dagster_url(settings: Settings) -> str | None:
    """Where Dagster's pages are: as set, or as ``mdp up`` says; a broken note of it costs the link, not the page."""
    if settings.api.dagster_url is not None:
        return without_user(str(settings.api.dagster_url)).rstrip("/")
    try:
        services = read_services(settings)
    except ConfigError:
        return None
    return services.ui_url if services else None


@router.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
async def page(request: Request) -> Response:
    """Send the page."""
    return _answer(request, load_files().documents["index.html"], _ASK_EACH_TIME)


@router.api_route("/docs", methods=["GET", "HEAD"], include_in_schema=False)
async def reference(request: Request) -> Response:
    """Send the page that shows the API's own description."""
    return _answer(request, load_files().documents["reference.html"], _ASK_EACH_TIME)


@router.api_route("/favicon.ico", methods=["GET", "HEAD"], include_in_schema=False)
async def icon(request: Request) -> Response:
    """Send the icon, for browsers that ask before they read the page."""
    return _answer(request, load_files().files["icon.svg"], _ASK_EACH_TIME)


@router.api_route("/static/{digest}/{name:path}", methods=["GET", "HEAD"], include_in_schema=False)
async def static(digest: str, name: str, request: Request) -> Response:
    """Send one file of the table.

    Raises:
        Problem: 404, there is none of that name, or the page has changed since its address was written.
    """
    files = load_files()
    found = files.files.get(name)
    if found is None or digest != files.digest:
        raise not_found("file", f"{digest}/{name}", "a file of this version of the page: load the page anew")
    return _answer(request, found, _FOR_GOOD)


def _answer(request: Request, file: StaticFile, caching: str) -> Response:
    is_compressed = _takes_gzip(request.headers)
    etag = file.compressed_etag if is_compressed else file.etag
    headers = {
        "cache-control": caching,
        "content-security-policy": CONTENT_SECURITY_POLICY,
        "etag": etag,
        "vary": "Accept-Encoding",
        "x-content-type-options": "nosniff",
    }
    if _knows(request.headers.get("if-none-match"), etag):
        return Response(status_code=304, headers=headers)
    if is_compressed:
        headers["content-encoding"] = "gzip"
    headers["content-type"] = file.content_type
    return Response(file.compressed if is_compressed else file.body, headers=headers)


def _takes_gzip(headers: Headers) -> bool:
    """Tell whether gzip is welcome; a weight other than zero is not compared with others."""
    for part in ",".join(headers.getlist("accept-encoding")).split(","):
        name, _, weight = part.replace(" ", "").lower().partition(";q=")
        if name == "gzip":
            return weight.strip("0.") != "" if weight else True
    return False


def _knows(if_none_match: str | None, etag: str) -> bool:
    tags = [tag.strip().removeprefix("W/") for tag in (if_none_match or "").split(",")]
    return etag in tags or "*" in tags
