"""The gate: who asks, from where, and whether what comes may come at all. Pure ASGI, in front of every route.

This machine itself needs no key unless the settings say ``always``, as long as nobody stands between and the ``Host``
is loopback's own (a page elsewhere may have its name point here). A browser that another site's page sent here may
change nothing. Not here: keys and their limits (``doorkeeper``), pages of other origins (``origins``), what every
answer bears (``front``).
"""

from __future__ import annotations

import re
from dataclasses import replace

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as Connection

from mdp.api.addresses import FORWARDING, LOOPBACK_PEERS, caller_address, is_loopback_host, is_within, parse_networks
from mdp.api.callers import LOOPBACK, LOOPBACK_FROM_ELSEWHERE, NOBODY, Caller, Scope, require
from mdp.api.compat.refusals import refusal
from mdp.api.doorkeeper import Doorkeeper, unauthorized
from mdp.api.origins import ORIGIN_HEADERS, Origins
from mdp.api.problems import Problem
from mdp.config.settings import Settings

COOKIE = "mdp_key"
SESSION_PATH = "/api/v1/session"
OPEN_PATHS = frozenset(
    ("/", "/docs", "/favicon.ico", "/healthz", "/readyz", "/api/v1/openapi.json", SESSION_PATH)
)  # fmt: skip
"""For everybody: what says nothing of the data, and the page with which somebody hands over a key."""

MAX_URL_BYTES = 8_192
MAX_HEADER_BYTES = 32_768
_HOST = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?")

_KEY_HEADERS = (b"authorization", b"x-api-key", b"x-mbx-apikey", b"cookie")
_BODY_HEADERS = (b"content-length", b"transfer-encoding")
_WANTED = frozenset((b"host", b"upgrade", *_KEY_HEADERS, *_BODY_HEADERS, *ORIGIN_HEADERS, *FORWARDING))

Headers = dict[bytes, bytes]


class Gate:
    """Lets requests through, with who asks as ``scope["mdp.caller"]``, or answers them itself.

    What an answer is to bear beside its own headers is added to ``scope["mdp.headers"]``.

    Args:
        app: What stands behind.
        settings: Of the environment.
        doorkeeper: Knows the keys.

    Raises:
        ConfigError: a trusted proxy is no address.
    """

    def __init__(self, app: ASGIApp, settings: Settings, doorkeeper: Doorkeeper) -> None:
        self._app = app
        self._doorkeeper = doorkeeper
        self._trusted = parse_networks(settings.api.trusted_proxies)
        self._origins = Origins(settings.api.cors_origins)
        self._most_bytes = settings.api.max_body_bytes
        self._always = settings.api.keys == "always"

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        """Let through, or refuse."""
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        try:
            headers = _read(scope)
            if len(headers) == 1 and b"host" in headers and self._is_usual(scope, headers[b"host"]):
                scope["mdp.caller"] = LOOPBACK
                return await self._app(scope, receive, send)
            if self._origins.is_preflight(scope, headers):
                return await _send_empty(send, 204, self._origins.permission(headers))
            scope["mdp.caller"] = self._caller(scope, headers)
            receive = self._bounded(receive, headers)
        except Problem as problem:
            return await refuse(scope, receive, send, problem)
        return await self._app(scope, receive, send)

    def _is_usual(self, scope: Connection, host: bytes) -> bool:
        """Tell whether this machine asks itself, with nothing that needs a closer look."""
        client = scope["client"]
        if client is None or client[0] not in LOOPBACK_PEERS or self._always or self._trusted:
            return False
        return scope["type"] == "http" and is_loopback_host(host)

    def _caller(self, scope: Connection, headers: Headers) -> Caller:
        """Find out who asks.

        Raises:
            Problem: 401, 403, 429, 503: they may not.
        """
        is_foreign = self._origins.judge(scope, headers)
        scope.setdefault("mdp.headers", []).extend(self._origins.permission(headers))
        peer = scope["client"][0] if scope.get("client") else ""
        address = scope["mdp.address"] = caller_address(peer, headers, self._trusted)
        if self._is_this_machine(peer, headers) and not self._always:
            return LOOPBACK_FROM_ELSEWHERE if is_foreign else LOOPBACK
        if scope["type"] == "http" and _is_open(scope["path"]):
            return NOBODY
        text, is_cookie = _key_of(scope, headers)
        if not text:
            raise unauthorized(_how_to(peer, headers))
        admitted = self._doorkeeper.admit(text, address)
        scope["mdp.headers"].extend(admitted.headers)
        require(admitted.caller, Scope.READ)
        if is_cookie and is_foreign:
            return replace(admitted.caller, scopes=frozenset({Scope.READ}))
        return admitted.caller

    def _is_this_machine(self, peer: str, headers: Headers) -> bool:
        if peer not in LOOPBACK_PEERS or is_within(peer, self._trusted) or not FORWARDING.isdisjoint(headers):
            return False
        return is_loopback_host(headers.get(b"host", b""))

    def _bounded(self, receive: Receive, headers: Headers) -> Receive:
        """Return what reads a body no longer than is allowed.

        Raises:
            Problem: 413, it says itself that it is longer; 400, its length is no number.
        """
        said = headers.get(b"content-length")
        if said is None and b"transfer-encoding" not in headers:
            return receive
        if said is not None and not said.isdigit():
            raise Problem(400, "bad-request", "The request is none", "Content-Length: expected a whole number")
        if said is not None and int(said) > self._most_bytes:
            raise Problem(413, "too-large", "The body is too large", self._too_large())
        return self._counted(receive)

    def _counted(self, receive: Receive) -> Receive:
        came = 0

        async def counting() -> Message:
            nonlocal came
            message = await receive()
            came += len(message.get("body", b""))
            if came > self._most_bytes:
                raise HTTPException(413, self._too_large())
            return message

        return counting

    def _too_large(self) -> str:
        return f"a body has at most {self._most_bytes} bytes"


def _read(scope: Connection) -> Headers:
    """Return the headers that matter here, each that came more than once as a list with commas.

    Raises:
        Problem: 414, 431: there is more of it than anybody needs.
    """
    found: Headers = {}
    size = 0
    for name, value in scope["headers"]:
        size += len(name) + len(value)
        if name in _WANTED:
            found[name] = value if name not in found else found[name] + b"," + value
    if size > MAX_HEADER_BYTES:
        raise Problem(431, "headers-too-large", "The headers are too large", f"at most {MAX_HEADER_BYTES} bytes")
    if len(scope["path"]) + len(scope["query_string"]) > MAX_URL_BYTES:
        raise Problem(414, "url-too-long", "The address is too long", f"at most {MAX_URL_BYTES} bytes")
    if b"host" in found and not _HOST.fullmatch(found[b"host"]):
        raise Problem(400, "bad-request", "The request is none", "Host: expected one name or address, and its port")
    return found


def _is_open(path: str) -> bool:
    return path in OPEN_PATHS or path.startswith("/static/")


def _key_of(scope: Connection, headers: Headers) -> tuple[str, bool]:
    """Return the key that came along and whether a browser added it by itself; empty: there is none."""
    scheme, _, given = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    if scheme.lower() == "bearer":
        return given.strip(), False
    own = headers.get(b"x-api-key") or (
        headers.get(b"x-mbx-apikey") if scope["path"].startswith("/compat/binance/") else None
    )
    if own:
        return own.decode("latin-1").strip(), False
    # read by hand: one odd cookie of another program on this host would have the library give up on ours
    for pair in headers.get(b"cookie", b"").decode("latin-1").replace(",", ";").split(";"):
        name, _, value = pair.strip().partition("=")
        if name == COOKIE:
            return value.strip(), True
    return "", False


def _how_to(peer: str, headers: Headers) -> str:
    how = "`mdp keys create NAME` makes a key; send it as `Authorization: Bearer …` or `X-API-Key`"
    if peer in LOOPBACK_PEERS and not is_loopback_host(headers.get(b"host", b"")):
        return f"without a key this machine is asked as localhost, 127.0.0.1 or [::1], not under another name; {how}"
    return how


async def _send_empty(send: Send, status: int, headers: list[tuple[bytes, bytes]]) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


async def refuse(scope: Connection, receive: Receive, send: Send, problem: Problem) -> None:
    """Answer with a problem, also to who wanted a WebSocket."""
    after = problem.headers.get("retry-after")
    seconds = None if after is None else float(after)
    response = refusal(scope["path"], problem.status, problem.document.detail, seconds) or problem.response()
    for name, value in problem.headers.items():
        response.headers.setdefault(name, value)
    if scope["type"] == "http":
        return await response(scope, receive, send)
    if "websocket.http.response" not in scope.get("extensions", {}):
        return await send({"type": "websocket.close", "code": 1008, "reason": problem.document.title})
    headers = response.raw_headers
    await send({"type": "websocket.http.response.start", "status": response.status_code, "headers": headers})
    return await send({"type": "websocket.http.response.body", "body": bytes(response.body)})
