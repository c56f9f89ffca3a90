"""Pages of other origins: none may ask unless the settings name it; none may ever change anything unasked.

What a browser on this machine can reach, every page that it shows could make it ask for: that a request comes from this
machine, or with a cookie, says nothing of who wanted it. Not here: keys (``doorkeeper``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from starlette.types import Scope as Connection

from mdp.api.problems import Problem

ORIGIN_HEADERS = (
    b"origin", b"sec-fetch-site", b"sec-fetch-mode", b"access-control-request-method",
    b"access-control-request-private-network",
)  # fmt: skip

_READING = frozenset(("GET", "HEAD", "OPTIONS"))
_FOREIGN_SITES = frozenset((b"cross-site", b"same-site"))
"""What a browser says of a page of another origin. ``same-site`` too: all that listens on this machine is one site."""

_METHODS = b"GET, HEAD, POST, DELETE"
_SENT = b"Authorization, X-API-Key, X-MBX-APIKEY, Content-Type, If-None-Match, Last-Event-ID, X-Request-ID"
_SEEN = (
    b"ETag, Link, Location, RateLimit-Limit, RateLimit-Policy, RateLimit-Remaining, RateLimit-Reset, Retry-After, "
    b"X-MDP-Next-Cursor, X-MDP-Seq, X-MDP-Stale, X-MDP-Unstored, X-Request-ID"
)

Header = tuple[bytes, bytes]


class Origins:
    """Judges where a page comes from.

    Args:
        allowed: Origins that may ask, such as ``https://desk.example``.
    """

    def __init__(self, allowed: Sequence[str]) -> None:
        self._allowed = frozenset(origin.lower().encode() for origin in allowed)

    def is_preflight(self, scope: Connection, headers: Mapping[bytes, bytes]) -> bool:
        """Tell whether a browser asks if a page may ask, and the page may.

        Raises:
            Problem: 403, the page may not.
        """
        if scope["type"] != "http" or scope["method"] != "OPTIONS" or b"access-control-request-method" not in headers:
            return False
        if headers.get(b"origin") not in self._allowed:
            raise _not_from_there(headers)
        return True

    def permission(self, headers: Mapping[bytes, bytes]) -> list[Header]:
        """Return what a browser needs to be told so that a page may see the answer; nothing unless it is allowed."""
        if not self._allowed:
            return []
        origin = headers.get(b"origin")
        said: list[Header] = [(b"vary", b"Origin")]
        if origin is None or origin not in self._allowed:
            return said
        said.append((b"access-control-allow-origin", origin))
        if b"access-control-request-method" not in headers:
            return [*said, (b"access-control-expose-headers", _SEEN)]
        said += [
            (b"access-control-allow-methods", _METHODS),
            (b"access-control-allow-headers", _SENT),
            (b"access-control-max-age", b"600"),
        ]
        if b"access-control-request-private-network" in headers:
            said.append((b"access-control-allow-private-network", b"true"))
        return said

    def judge(self, scope: Connection, headers: Mapping[bytes, bytes]) -> bool:
        """Tell whether a page of another origin, one that is not allowed, made a browser ask.

        It may have the browser go here (a link), and no more.

        Raises:
            Problem: 403, it is such a page and would change something, open a stream or load what it cannot show.
        """
        origin = headers.get(b"origin")
        if origin is not None:
            if origin in self._allowed or _is_own(origin, headers.get(b"host", b"")):
                return False
            raise _not_from_there(headers)
        if headers.get(b"sec-fetch-site") not in _FOREIGN_SITES:
            return False
        is_link = headers.get(b"sec-fetch-mode") == b"navigate" and scope["type"] == "http"
        if not is_link or scope["method"] not in _READING:
            raise _not_from_there(headers)
        return True


def _is_own(origin: bytes, host: bytes) -> bool:
    """Tell whether a page came from here; a proxy in front may have changed the scheme."""
    scheme, _, place = origin.lower().partition(b"://")
    if scheme not in (b"http", b"https") or not place:
        return False
    return _with_port(place, scheme) == _with_port(host.lower(), scheme)


def _with_port(place: bytes, scheme: bytes) -> bytes:
    _, colon, port = place.rpartition(b":")
    if colon and port.isdigit():
        return place
    return place + (b":443" if scheme == b"https" else b":80")


def _not_from_there(headers: Mapping[bytes, bytes]) -> Problem:
    origin = headers.get(b"origin", b"another site").decode("latin-1")[:200]
    detail = f"pages of {origin!r} may not ask here; MDP_API__CORS_ORIGINS names those that may"
    return Problem(403, "foreign-origin", "Pages of this origin may not ask", detail)
