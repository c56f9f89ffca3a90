"""The service put together: what is opened with it, its routes, what stands in front of them.

Not here: what a route does (its own module), how errors become answers (``refusing``), how it describes itself
(``openapi``), listening (``cli.serve``).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from fastapi import FastAPI

from mdp.api import (
    buffers,
    compat,
    coverage,
    dvol,
    generations,
    health,
    history,
    markets,
    page,
    reports,
    session,
    snapshots,
)
from mdp.api.access_log import ATOMIC_BYTES, AccessLog
from mdp.api.doorkeeper import Doorkeeper
from mdp.api.ending import told_of_the_end
from mdp.api.front import Front
from mdp.api.gate import Gate
from mdp.api.measures import Measures
from mdp.api.mirror import Mirror
from mdp.api.openapi import describe
from mdp.api.quick_answers import QuickAnswers
from mdp.api.refusing import refuse_in_words
from mdp.api.streams import routes as streams
from mdp.api.surroundings import Surroundings
from mdp.bus.live import open_live_reader
from mdp.config.settings import Settings

ROUTERS = (
    buffers.router, history.router, dvol.router, reports.router, coverage.router, snapshots.router, markets.router,
    compat.router, health.router, generations.router, session.router,
    streams.router,
    page.router,
)  # fmt: skip

_READING_S = 3.0
"""So long a worker that begins waits for a bus that neither answers nor refuses."""


def create_app(settings: Settings) -> FastAPI:
    """Return the service of an environment; nothing is opened before it starts."""
    app = FastAPI(
        docs_url=None, redoc_url=None, openapi_url="/api/v1/openapi.json", lifespan=_lifespan, redirect_slashes=False
    )
    app.state.settings = settings
    app.state.surroundings = None
    app.state.access_log = AccessLog(
        piece_bytes=65_536 if settings.api.workers == 1 else ATOMIC_BYTES, form=settings.log.form
    )
    for router in ROUTERS:
        app.include_router(router)
    refuse_in_words(app)
    describe(app)
    doorkeeper = app.state.doorkeeper = Doorkeeper(settings)
    app.add_middleware(Gate, settings=settings, doorkeeper=doorkeeper)

    def measures() -> Measures | None:
        around: Surroundings | None = app.state.surroundings
        return None if around is None else around.measures

    app.add_middleware(Front, settings=settings, measures=measures, log=app.state.access_log)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[dict[str, object]]:
    settings: Settings = app.state.settings
    async with open_live_reader(settings) as bus:
        mirror = Mirror(settings, bus)
        around = app.state.surroundings = Surroundings(settings, bus, mirror)
        mirroring = asyncio.create_task(mirror.run()) if settings.mode == "live" else None
        watching = asyncio.create_task(generations.watch(around))
        try:
            if mirroring is not None:
                await _until_read(mirror)
            with told_of_the_end(around.closing):
                yield {"quick": _quick(app, around)}
        finally:
            for task in filter(None, (mirroring, watching)):
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task


async def _until_read(mirror: Mirror) -> None:
    """Let nobody in before the buffers are here: who comes to a worker that begins waits that long, and not in vain."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_READING_S):
            await mirror.has_looked.wait()


def _quick(app: FastAPI, around: Surroundings) -> QuickAnswers:
    """Return what the server's protocol answers itself; behind a proxy of its own this machine needs a key, too."""
    own = around.settings.api
    needs_key = own.keys == "always" or bool(own.trusted_proxies)
    log = app.state.access_log if own.access_log == "all" else None
    return QuickAnswers(around.spelled, around.measures, app.state.doorkeeper, needs_key=needs_key, log=log)
