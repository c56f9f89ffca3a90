"""How each exchange words what it refuses, and answers that only say so.

Source: binance-spot-api-docs errors.md, Bybit v5 "Error codes", OKX guide "Error codes" (2026-07). Not here: which
parameter is wrong (``binance``, ``bybit``, ``okx``), what the service refuses before a route is reached (``refusals``).
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from starlette.responses import Response

from mdp.api.problems import Problem
from mdp.domain.market import Exchange
from mdp.errors import MdpError

CONTENT_TYPES: Mapping[Exchange, str] = {
    Exchange.BINANCE: "application/json;charset=UTF-8",
    Exchange.BYBIT: "application/json; charset=utf-8",
    Exchange.OKX: "application/json",
}

_OVERLOADED = "Server is currently overloaded with other requests. Please try again in a few minutes."
_BUSY: Mapping[Exchange, tuple[int, int, str]] = {
    Exchange.BINANCE: (503, -1008, _OVERLOADED),
    Exchange.BYBIT: (503, 10016, "Internal System Error"),
    Exchange.OKX: (503, 50001, "Service temporarily unavailable. Please try again later."),
}  # fmt: skip
_BROKEN: Mapping[Exchange, tuple[int, int, str]] = {
    Exchange.BINANCE: (500, -1000, "An unknown error occurred while processing the request."),
    Exchange.BYBIT: (500, 10016, "Internal System Error"),
    Exchange.OKX: (500, 50026, "System error. Please try again later."),
}


class Refused(Exception):
    """A question that the exchange would refuse.

    Args:
        status: Of HTTP.
        code: The exchange's own.
        message: The exchange's own.
    """

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


def answer(
    exchange: Exchange, body: bytes | str, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Return JSON under the content type of an exchange."""
    given = {"content-type": CONTENT_TYPES[exchange], "cache-control": "no-store", **(headers or {})}
    return Response(body, status, given)


def refused(exchange: Exchange, status: int, code: int, message: str) -> Response:
    """Return a refusal in an exchange's shape."""
    return answer(exchange, msgspec.json.encode(shape(exchange, code, message)), status)


def shape(exchange: Exchange, code: int, message: str) -> dict[str, Any]:
    """Return what an exchange says when it refuses."""
    if exchange is Exchange.BINANCE:
        return {"code": code, "msg": message}
    if exchange is Exchange.OKX:
        return {"code": str(code), "msg": message, "data": []}
    now_ms = time.time_ns() // 1_000_000
    return {"retCode": code, "retMsg": message, "result": {}, "retExtInfo": {}, "time": now_ms}


async def worded(exchange: Exchange, work: Callable[[], Awaitable[Response]]) -> Response:
    """Return what ``work`` gives; what it refuses, or cannot do, in the exchange's words."""
    try:
        return await work()
    except Refused as error:
        return refused(exchange, error.status, error.code, error.message)
    except Problem as problem:
        return _of_problem(exchange, problem)
    except MdpError as error:
        return refused(exchange, *(_BUSY if error.retryable else _BROKEN)[exchange])


def _of_problem(exchange: Exchange, problem: Problem) -> Response:
    response = refused(exchange, *(_BUSY if problem.document.retryable else _BROKEN)[exchange])
    if "retry-after" in problem.headers:
        response.headers["retry-after"] = problem.headers["retry-after"]
    return response
