"""``/control``: scripting faults, reading the logs, the quotas and the truth, setting the lines and the clock.

For callers on this machine only. Not here: what is controlled (``script``, ``request_log``, ``quotas``, ``lines``).
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mdp.domain.interval import format_time, parse_time
from mdp.domain.market import Exchange, Market
from mdp.errors import InputError
from mdp.simulator.answers import answer
from mdp.simulator.clock import SimulatedClock, from_ms, require_speed, to_ms
from mdp.simulator.fault_reading import wrong_field
from mdp.simulator.lines import Line
from mdp.simulator.simulation import Simulation
from mdp.simulator.truth import TRUTH_COLUMNS, true_minutes

_Handler = Callable[[Request], Awaitable[object]]


def routes(simulation: Simulation) -> list[Route]:
    """Return the endpoints, to be mounted under ``/control``."""
    control = _Control(simulation)
    handlers: list[tuple[str, str, _Handler]] = [
        ("GET", "/faults", control.list_faults),
        ("POST", "/faults", control.add_faults),
        ("DELETE", "/faults", control.clear_faults),
        ("DELETE", "/faults/{number}", control.remove_fault),
        ("GET", "/requests", control.list_requests),
        ("DELETE", "/requests", control.clear_requests),
        ("GET", "/quotas", control.list_quotas),
        ("GET", "/settings", control.list_settings),
        ("POST", "/settings", control.change_settings),
        ("GET", "/clock", control.read_clock),
        ("POST", "/clock", control.set_clock),
        ("GET", "/streams", control.list_streams),
        ("GET", "/truth", control.tell_truth),
    ]
    return [Route(path, _guarded(handler), methods=[method]) for method, path, handler in handlers]


def _guarded(handler: _Handler) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        if not _is_this_machine(request):
            return answer({"error": "only callers on this machine may control the simulator"}, status=403)
        try:
            return answer(await handler(request))
        except InputError as error:
            return answer({"error": str(error), "field": error.field}, status=400)

    return endpoint


def _is_this_machine(request: Request) -> bool:
    try:
        return ipaddress.ip_address(request.client.host if request.client else "").is_loopback
    except ValueError:
        return False


class _Control:
    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation

    async def list_faults(self, _request: Request) -> object:
        return {"faults": [entry.describe() for entry in self._simulation.faults.entries]}

    async def add_faults(self, request: Request) -> object:
        """One fault, or a list of them; all or none are scripted."""
        body = await _body(request)
        return {"ids": self._simulation.faults.add_all(body if isinstance(body, list) else [body])}

    async def clear_faults(self, request: Request) -> object:
        self._simulation.faults.clear()
        return await self.list_faults(request)

    async def remove_fault(self, request: Request) -> object:
        self._simulation.faults.remove(_whole("id", request.path_params["number"]))
        return await self.list_faults(request)

    async def list_requests(self, request: Request) -> object:
        exchange = _exchange(request.query_params["exchange"]) if "exchange" in request.query_params else None
        since = _whole("since", request.query_params.get("since", "0"))
        log = self._simulation.requests
        counts = log.counts(exchange)
        requests = log.since(since, exchange)
        return {"total": sum(counts.values()), "by_status": counts, "last": log.last, "requests": requests}

    async def clear_requests(self, _request: Request) -> object:
        self._simulation.requests.clear()
        return {"total": 0, "last": self._simulation.requests.last}

    async def list_quotas(self, _request: Request) -> object:
        return self._simulation.quotas.describe()

    async def list_settings(self, _request: Request) -> object:
        return {"now": format_time(from_ms(self._simulation.clock())), "lines": dict(self._simulation.lines.settings)}

    async def change_settings(self, request: Request) -> object:
        """``now``, and ``lines`` by exchange; ``all`` names every exchange."""
        body = await _body(request)
        if not isinstance(body, dict) or not body or not body.keys() <= {"now", "lines"}:
            raise InputError("body", got=body, expected='an object such as {"lines": {"all": {"latency_ms": 50}}}')
        lines = read_lines(body.get("lines", {}), "lines.")
        if "now" in body:
            self._simulation.set_now(_moment("now", body["now"]))
        for exchange, line in lines.items():
            self._simulation.lines.set(exchange, line)
        return await self.list_settings(request)

    async def read_clock(self, _request: Request) -> object:
        """The simulated time in terms of the machine's monotonic clock; see ``clock.Reading``."""
        clock = self._simulation.clock
        if isinstance(clock, SimulatedClock):
            return clock.read()._asdict()
        return {"now_ms": clock(), "monotonic_ns": time.monotonic_ns(), "speed": 1.0}

    async def set_clock(self, request: Request) -> object:
        """``now`` and ``speed``, both optional."""
        body = await _body(request)
        if not isinstance(body, dict) or not body or not body.keys() <= {"now", "speed"}:
            raise InputError("body", got=body, expected='an object such as {"now": "2025-01-08T00:00Z", "speed": 60}')
        now = _moment("now", body["now"]) if body.get("now") is not None else None
        speed = require_speed(body["speed"]) if body.get("speed") is not None else None
        self._simulation.set_now(now, speed)
        return await self.read_clock(request)

    async def list_streams(self, _request: Request) -> object:
        return self._simulation.streams.describe()

    async def tell_truth(self, request: Request) -> object:
        """A market's closed minutes of a window."""
        given = request.query_params
        for name in ("market", "start", "end"):
            if name not in given:
                raise InputError(name, got=None, expected="a value; it is required")
        try:
            market = Market.parse(given["market"])
        except ValueError as error:
            raise InputError("market", got=given["market"], expected=str(error)) from None
        start_ms, end_ms = (to_ms(_moment(name, given[name])) for name in ("start", "end"))
        rows = true_minutes(self._simulation, market, start_ms, end_ms)
        return {"market": str(market), "columns": TRUTH_COLUMNS, "rows": rows}


def _moment(name: str, given: object) -> datetime:
    try:
        return parse_time(str(given))
    except ValueError as error:
        raise InputError(name, got=given, expected=str(error).removeprefix("expected ")) from None


def read_lines(given: object, where: str) -> dict[Exchange, Line]:
    """Return lines by exchange from what a person wrote; ``all`` stands for every exchange not named.

    Args:
        given: Names of exchanges to fields of ``Line``.
        where: What stands before a name in an error.

    Raises:
        InputError: names the field that is wrong.
    """
    if not isinstance(given, Mapping):
        raise InputError(where.rstrip("."), got=given, expected="exchanges and their lines")
    lines: dict[Exchange, Line] = {}
    for name, fields in sorted(given.items(), key=lambda item: item[0] != "all"):
        try:
            line = msgspec.convert(fields, type=Line)
        except msgspec.ValidationError as error:
            raise wrong_field(error, fields, f"{where}{name}.") from None
        lines |= dict.fromkeys(Exchange if name == "all" else [_exchange(name, f"{where}{name}")], line)
    return lines


def _exchange(name: str, field: str = "exchange") -> Exchange:
    if name not in list(Exchange):
        raise InputError(field, got=name, expected=f"one of {', '.join(Exchange)}")
    return Exchange(name)


def _whole(field: str, text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise InputError(field, got=text, expected="a whole number")
    return int(text)


async def _body(request: Request) -> Any:
    content = await request.body()
    try:
        return msgspec.json.decode(content)
    except msgspec.DecodeError as error:
        raise InputError("body", got=content[:100].decode("utf-8", "replace"), expected=f"JSON ({error})") from None
