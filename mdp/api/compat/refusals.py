"""What the service refuses under ``/compat`` before a route is reached, in the shape of the exchange asked for.

Not here: refusals that need the question's parameters (``binance``, ``bybit``, ``okx``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from starlette.responses import Response
from starlette.routing import BaseRoute

from mdp.api.compat.wording import refused
from mdp.domain.market import Exchange

PREFIX = "/compat/"

_CODES: Mapping[Exchange, Mapping[int, tuple[int, int]]] = {
    Exchange.BINANCE: {
        400: (400, -1100), 401: (401, -2015), 403: (403, -1002), 404: (404, -1020), 405: (405, -1020),
        413: (413, -1101), 414: (414, -1101), 429: (429, -1003), 431: (431, -1101), 503: (503, -1008),
    },
    Exchange.BYBIT: {
        400: (400, 10001), 401: (401, 10003), 403: (401, 10005), 404: (404, 10404), 405: (405, 10404),
        413: (413, 10001), 414: (414, 10001), 429: (429, 10006), 431: (431, 10001), 503: (503, 10016),
    },
    Exchange.OKX: {
        400: (400, 51000), 401: (401, 50111), 403: (403, 50120), 404: (404, 50016), 405: (405, 50115),
        413: (413, 51000), 414: (414, 51000), 429: (429, 50011), 431: (431, 51000), 503: (503, 50001),
    },
}  # fmt: skip
"""HTTP status of the service: what is answered, and the exchange's code for it.

Bybit's 403 means too many requests to whoever speaks its language, CCXT among them: a missing right is told by 401.
"""

_UNKNOWN: Mapping[Exchange, int] = {Exchange.BINANCE: -1000, Exchange.BYBIT: 10016, Exchange.OKX: 50026}


def exchange_of(path: str) -> Exchange | None:
    """Return whose words are spoken under a path; None where they are ours.

    Examples:
        >>> exchange_of("/compat/okx/api/v5/market/candles")
        <Exchange.OKX: 'okx'>
    """
    if not path.startswith(PREFIX):
        return None
    name = path[len(PREFIX) :].partition("/")[0]
    return next((one for one in _CODES if one.value == name), None)


def refusal(path: str, status: int, detail: str, retry_after_s: float | None = None) -> Response | None:
    """Return a refusal as the exchange of a path would word it; None where the path is none of an exchange.

    Args:
        path: Of the request.
        status: As the service would answer it, such as 401, 404 or 429.
        detail: What is told to people.
        retry_after_s: When the same request may succeed.
    """
    exchange = exchange_of(path)
    if exchange is None:
        return None
    answered, code = _CODES[exchange].get(status, (status, _UNKNOWN[exchange]))
    response = refused(exchange, answered, code, detail)
    if retry_after_s is not None:
        response.headers["retry-after"] = str(max(1, -(-int(retry_after_s * 1_000) // 1_000)))
    if status == 405:
        response.headers["allow"] = "GET"
    if status == 401:
        response.headers["www-authenticate"] = "Bearer"
    return response


def not_offered(exchange: Exchange, routes: Iterable[BaseRoute], method: str, rest: str) -> Response:
    """Return the refusal of a path that is not there, or is not asked by GET.

    Args:
        exchange: Whose words.
        routes: That are there, with paths that begin with the exchange's name.
        method: Of the request.
        rest: Of its path, after the exchange's name.
    """
    is_there = any(getattr(route, "path", None) == f"/{exchange.value}/{rest}" for route in routes)
    detail = f"This operation is not supported here: {method} /{rest[:200]}"
    found = refusal(f"{PREFIX}{exchange.value}/", 405 if is_there and method != "GET" else 404, detail)
    return found if found is not None else Response(status_code=404)
