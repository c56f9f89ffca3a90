"""One request at a time: the emulator has one DuckDB connection, which its threads and tasks must not share.

Its handlers run on an event loop, in a pool of threads and in gRPC's own threads, and a result is read from the
connection after the statement was run. Two at once mix up their answers, and a script's transaction is seen half done.
BigQuery keeps both apart (https://cloud.google.com/bigquery/docs/transactions), so here everybody queues.

Not here: what a request does.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import wraps
from typing import Any

from mdp_tests.support.bigquery import engine

GATE = threading.Lock()
"""Held by whoever uses the connection; a plain lock, for it is taken in one thread and given back in another."""

_WAITING = ThreadPoolExecutor(64, thread_name_prefix="gate")


class Queue:
    """ASGI middleware: takes a request's whole body, then waits for its turn.

    The body comes first, so that a client that stops in the middle of sending holds up nobody.
    """

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        messages = []
        while True:
            messages.append(message := await receive())
            if message["type"] == "http.disconnect":
                return  # the client went away before it had said what it wants: nothing is done
            if not message.get("more_body"):
                break
        queue = iter(messages)

        async def replay() -> Any:
            message = next(queue, None)
            return message if message is not None else await receive()

        engine.wanted_etag.set(dict(scope["headers"]).get(b"if-match", b"").decode() or None)
        await asyncio.get_running_loop().run_in_executor(_WAITING, GATE.acquire)
        try:
            await self.app(scope, replay, send)
        finally:
            GATE.release()


def serialise(app_module: Any, servicers: tuple[tuple[type, tuple[str, ...]], ...]) -> None:
    """Put the queue in front of the REST application and the gate around methods of the gRPC servicers."""
    create = app_module.create_app

    @wraps(create)
    def create_with_queue(context: Any) -> Any:
        engine.remember(context)
        app = create(context)
        app.add_middleware(Queue)
        return app

    app_module.create_app = create_with_queue
    for servicer, names in servicers:
        for name in names:
            setattr(servicer, name, _gated(getattr(servicer, name)))


def _gated(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def wait_and_call(*arguments: Any, **named: Any) -> Any:
        with GATE:
            return method(*arguments, **named)

    return wait_and_call
