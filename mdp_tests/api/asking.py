"""Requests as the server hands them on, put to one part of the service without the rest of it.

Not here: a whole service (``conftest``).
"""

from __future__ import annotations

from contextlib import suppress
from typing import NamedTuple

LOCAL_HOST = "127.0.0.1:8000"
FAR = "203.0.113.7"


class Answered(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


def scope_of(path="/api/v1/service", *, headers=None, peer="127.0.0.1", kind="http", method="GET", **more):
    """A connection; ``headers`` may hold a list of values for one name. ``Host`` is loopback's unless said."""
    said = {"host": LOCAL_HOST, **(headers or {})}
    pairs = [
        (name.lower().encode(), one.encode("latin-1"))
        for name, value in said.items()
        if value is not None
        for one in ([value] if isinstance(value, str) else value)
    ]
    scope = {
        "type": kind, "path": path, "query_string": b"", "headers": pairs, "client": (peer, 50_000), "scheme": "http",
        "extensions": {"websocket.http.response": {}}, **more,
    }  # fmt: skip
    return scope | ({"method": method} if kind == "http" else {})


def ask(app, scope, body=(b"",)):
    """Have an app answer a connection."""
    sent = []
    parts = list(body)

    async def receive():
        if scope["type"] == "websocket":
            return {"type": "websocket.connect"}
        part = parts.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(parts)}

    async def send(message):
        sent.append(message)

    _run(app(scope, receive, send))
    start = next((one for one in sent if one["type"].endswith("response.start")), None)
    if start is None:
        return Answered({"websocket.accept": 101, "websocket.close": 403}[sent[0]["type"]], {}, b"")
    names = [name for name, _ in start["headers"]]
    assert len(names) == len(set(names)), "a header is there twice"
    together = b"".join(one.get("body", b"") for one in sent if one["type"].endswith("response.body"))
    return Answered(start["status"], {k.decode(): v.decode("latin-1") for k, v in start["headers"]}, together)


def _run(work):
    """Do what waits for nothing; a loop would cost more than the work."""
    with suppress(StopIteration):
        work.send(None)
        raise AssertionError("it waits for something")


class Behind:
    """Stands behind the gate and remembers what came through."""

    def __init__(self):
        self.seen = []

    @property
    def caller(self):
        return self.seen[-1]["mdp.caller"]

    async def __call__(self, scope, receive, send):
        self.seen.append(scope)
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
            return
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"through"})
