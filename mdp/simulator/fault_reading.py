"""Reading a fault from what a person wrote; a wrong field is refused by name.

Not here: the kinds (``faults``), whole scenario files (``scenarios``).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime

import msgspec

from mdp.domain.interval import parse_time
from mdp.domain.market import Exchange
from mdp.errors import InputError
from mdp.simulator.error_answers import KNOWN_CODES
from mdp.simulator.fault_kinds import KINDS, Fault
from mdp.simulator.faults import Code, Scripted, WireFault
from mdp.simulator.markets import SIMULATED_INDICES, SIMULATED_MARKETS
from mdp.simulator.stream_faults import StreamNotice, StreamShutdown

SYMBOLS: Mapping[Exchange, tuple[str, ...]] = {
    exchange: tuple(
        market.symbol_key
        for market in (*(spot.market for spot in SIMULATED_MARKETS), *(i.market for i in SIMULATED_INDICES.values()))
        if market.exchange is exchange
    )
    for exchange in Exchange
}
"""What is simulated at each exchange."""

_TIMES = ("start", "end", "from_time", "until_time")

_ONLY_AT: Mapping[type[Scripted], Exchange] = {StreamNotice: Exchange.OKX, StreamShutdown: Exchange.BINANCE}


def read_fault(fields: object, where: str = "") -> Fault:
    """Return the fault that these fields describe.

    Args:
        fields: Names and values, as JSON or TOML has them; among them ``kind``.
        where: What stands before a field's name in an error, such as ``faults[3].``.

    Raises:
        InputError: names the field that is wrong, what came and what is expected.
    """
    kind = fields.get("kind") if isinstance(fields, Mapping) else fields
    if kind not in KINDS:
        raise InputError(f"{where}kind", got=kind, expected=f"one of {', '.join(KINDS)}")
    assert isinstance(fields, Mapping)  # for mypy: only a mapping has one of these kinds
    fields = {name: _moment(f"{where}{name}", value) if name in _TIMES else value for name, value in fields.items()}
    try:
        fault = msgspec.convert(fields, type=Fault)
    except msgspec.ValidationError as error:
        raise wrong_field(error, fields, where) from None
    return require_sound(fault, where)


def _moment(name: str, value: object) -> object:
    """Read a time as a person writes it; TOML has times and dates of its own."""
    if isinstance(value, date) and not isinstance(value, datetime):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    if not isinstance(value, str):
        return value
    try:
        return parse_time(value)
    except ValueError as error:
        raise InputError(
            name, got=value, expected=str(error).removeprefix("expected ").partition(", got ")[0]
        ) from None


def require_sound(fault: Fault, where: str = "") -> Fault:
    """Return a fault whose fields fit each other.

    Raises:
        InputError: names the field that does not.
    """
    only = _ONLY_AT.get(type(fault), fault.exchange)
    if fault.exchange is not only:
        raise InputError(f"{where}exchange", got=fault.exchange.value, expected=f"{only.value}: no other one has it")
    symbols = SYMBOLS[fault.exchange]
    if fault.symbol is not None and fault.symbol not in symbols:
        raise InputError(f"{where}symbol", got=fault.symbol, expected=f"one of {', '.join(symbols)}")
    _require_order(fault, where)
    if isinstance(fault, Code) and fault.code not in KNOWN_CODES[fault.exchange]:
        known = ", ".join(str(code) for code in KNOWN_CODES[fault.exchange])
        raise InputError(f"{where}code", got=fault.code, expected=f"one of {fault.exchange.value}'s {known}")
    return fault


def _require_order(fault: Scripted, where: str) -> None:
    for first, last in (("start", "end"), ("from_time", "until_time")):
        begin, end = getattr(fault, first, None), getattr(fault, last, None)
        if begin is not None and end is not None and end <= begin:
            raise InputError(f"{where}{last}", got=end.isoformat(), expected=f"a time after {first}")
    if isinstance(fault, WireFault) and fault.until_s is not None and fault.until_s <= fault.after_s:
        raise InputError(f"{where}until_s", got=fault.until_s, expected=f"more than after_s, {fault.after_s:g}")


def wrong_field(error: msgspec.ValidationError, fields: object, where: str = "") -> InputError:
    """Turn msgspec's complaint into ours: ``Expected `int` - at `$.times``` names a field by its path."""
    said, _, path = str(error).partition(" - at `$")
    path = path.rstrip("`").lstrip(".")
    if "unknown field" in said:
        name = said.rpartition("field ")[2].strip("`")
        return InputError(f"{where}{path + '.' if path else ''}{name}", got=name, expected="the name of a field")
    if "missing required field" in said:
        name = said.rpartition("field ")[2].strip("`")
        return InputError(f"{where}{path + '.' if path else ''}{name}", got=None, expected="a value; it is required")
    found: object = fields
    for step in path.split("."):
        found = found.get(step) if isinstance(found, Mapping) else found
    if path == "exchange":
        return InputError(f"{where}exchange", got=found, expected=f"one of {', '.join(Exchange)}")
    expected = said.removeprefix("Expected ").removeprefix("Invalid ").replace("`", "")
    return InputError(f"{where}{path or 'fault'}", got=found, expected=expected)
