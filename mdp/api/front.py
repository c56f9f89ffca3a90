"""What is around every request: its name, headers that every answer bears, what is measured, its line in the log.

Outermost, so that whatever is answered by anything behind passes here, also an error that nobody thought of. Not here:
who may ask (``gate``), how lines are written (``access_log``).
"""

from __future__ import annotations

import itertools
import re
import secrets
import time
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars

from mdp.api.access_log import AccessLog, Line
from mdp.api.measures import Measures
from mdp.api.problems import Problem
from mdp.api.safe_headers import SAFE_HEADERS
from mdp.config.settings import Settings

_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_SLOW_S = 1.0
"""Answers that took longer are in a log of problems too."""

_KNOWN_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
_STREAMS = frozenset(("/api/v1/stream", "/api/v1/stream/events"))
_KEPT = 2_000
"""So much of a path or a query waits for the log: more would fill memory before it is cut."""

_GIVEN_UP = 499
"""What the log says of who went away before the answer began; nginx says the same."""

_OURS = frozenset(name for name, _ in SAFE_HEADERS)


class Front:
    """Stands in front of everything.

    Args:
        app: What stands behind.
        settings: Of the environment.
        measures: Gives what is counted; None before the service has started.
        log: Where lines go; None: as the settings say.
    """

    def __init__(
        self,
        app: ASGIApp,
        settings: Settings,
        measures: Callable[[], Measures | None],
        log: AccessLog | None = None,
    ) -> None:
        self._app = app
        self._measures = measures
        self._logged = settings.api.access_log
        self._log = log or AccessLog()
        self._begins = secrets.token_hex(6)
        self._numbers = itertools.count(1)
        may_be_read_elsewhere = bool(settings.api.cors_origins)
        self._headers = [
            (name, b"cross-origin" if may_be_read_elsewhere and name == b"cross-origin-resource-policy" else value)
            for name, value in SAFE_HEADERS
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on, and note how it ended."""
        if scope["type"] == "lifespan":
            try:
                return await self._app(scope, receive, send)
            finally:
                self._log.close()
        request_id = _sane_id(scope["headers"]) or b"%s-%x" % (self._begins.encode(), next(self._numbers))
        scope["mdp.request_id"] = request_id.decode()
        bind_contextvars(request_id=scope["mdp.request_id"])  # each request has a task, and so a context, of its own
        scope["mdp.headers"] = []
        course = _Course(scope, send, [(b"x-request-id", request_id), *self._headers])
        began = time.perf_counter()
        try:
            await self._app(scope, receive, course.send)
        except Exception as error:
            await self._apologise(scope, receive, course, error)
            raise
        finally:
            self._note(scope, course, time.perf_counter() - began)
        return None

    async def _apologise(self, scope: Scope, receive: Receive, course: _Course, error: Exception) -> None:
        """Answer for an error that nobody thought of, with all that an answer bears; the server writes it to stderr."""
        if course.status or scope["type"] != "http":
            return
        handler = scope["app"].exception_handlers.get(Exception) if "app" in scope else None
        response = handler(Request(scope), error) if handler else _unknown().response()
        await response(scope, receive, course.send)

    def _note(self, scope: Scope, course: _Course, seconds: float) -> None:
        status = course.status or _GIVEN_UP
        path = scope["path"]
        is_stream = path in _STREAMS
        method = scope["method"] if scope["type"] == "http" else "WEBSOCKET"
        measures = self._measures()
        if measures is not None and not is_stream:
            measures.count(method if method in _KNOWN_METHODS else "OTHER", _route(scope), status, seconds)
        if self._logged == "off":
            return
        if self._logged == "problems" and status < 400 and (seconds < _SLOW_S or is_stream):
            return
        caller = scope.get("mdp.caller")
        peer = scope.get("mdp.address") or (scope["client"][0] if scope.get("client") else "-")
        self._log.add(
            Line(
                time.time(), scope["mdp.request_id"], method[:_KEPT], path[:_KEPT], scope["query_string"][:_KEPT],
                status, course.size, seconds,
                caller.name if caller is not None else "-", peer,
            )
        )  # fmt: skip


class _Course:
    """One answer on its way."""

    __slots__ = ("_headers", "_scope", "_send", "size", "status")

    def __init__(self, scope: Scope, send: Send, headers: list[tuple[bytes, bytes]]) -> None:
        self._scope, self._send, self._headers = scope, send, headers
        self.status = 0
        self.size = 0

    def send(self, message: Message) -> Awaitable[None]:
        """Hand a message on; not a coroutine of its own, which would cost more than all that it does."""
        kind = message["type"]
        if kind in ("http.response.body", "websocket.http.response.body"):
            self.size += len(message.get("body", b""))
        elif kind in ("http.response.start", "websocket.http.response.start"):
            self.status = message["status"]
            message = {**message, "headers": self._all_headers(message.get("headers", ()))}
        elif kind == "websocket.accept":
            self.status = 101
        elif kind == "websocket.close":
            self.status = self.status or 403
        elif kind == "websocket.send":
            self.size += len(message.get("text") or message.get("bytes") or b"")
        return self._send(message)

    def _all_headers(self, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        own = [one for one in headers if one[0] not in _OURS]
        return [*own, *self._headers, *self._scope["mdp.headers"]]


def _sane_id(headers: list[tuple[bytes, bytes]]) -> bytes | None:
    for name, value in headers:
        if name == b"x-request-id":
            return value if _ID.fullmatch(value) else None
    return None


def _route(scope: Scope) -> str:
    """Return the template of a route: what was asked for would be a new name each time."""
    named = scope.get("mdp.route")
    if named is not None:
        return str(named)
    route = scope.get("route")
    return str(getattr(route, "path", "unmatched"))


def _unknown() -> Problem:
    said = "this should not have happened; the log of the service says more"
    return Problem(500, "broken", "An error of the service", said)
