"""How a line is spelled: one JSON object for machines, words for people. No value can end a line or begin another.

Not here: what it is about (``context``), where it goes (``writing``).
"""

from __future__ import annotations

import json
import logging
import math
import traceback
from collections.abc import Callable, MutableMapping
from datetime import UTC, datetime
from typing import Any

from mdp.logs.secrets import MASK, names_secret

LONGEST_BYTES = 4_096
"""So much is written to a pipe in one piece, whichever processes write (POSIX ``PIPE_BUF`` of Linux)."""

_LONGEST_VALUE, _LONGEST_EVENT, _LONGEST_STACK = 300, 1_200, 2_000
_CUT = " […] "

Event = MutableMapping[str, Any]
Hide = Callable[[str], str]


class Spelling:
    """Spells events; a processor of structlog that ends a chain.

    Args:
        form: ``json`` or ``text``.
        hide: Takes secrets out of a text.
    """

    def __init__(self, form: str, hide: Hide) -> None:
        self._spell = _as_json if form == "json" else _as_text
        self._hide = hide

    def __call__(self, logger: object, method: str, event: Event) -> str:  # noqa: ARG002 the signature is structlog's
        """Return the line of an event, without its end."""
        record: logging.LogRecord | None = event.pop("_record", None)
        event.pop("_from_structlog", None)
        stack = _stack_of(event, record)
        said = {
            "timestamp": _time_of(record),
            "level": str(event.pop("level", "info")).lower(),
            "event": _cut(self._hide(_words_of(event.pop("event", ""), record)), _LONGEST_EVENT),
            "logger": str(event.pop("logger", "")),
        }
        for name, value in {**_of_dagster(record), **event}.items():
            said[_cut(name, 64)] = MASK if value is not None and names_secret(name) else self._value(value)
        if stack:
            hidden = "\n".join(_cut(one, _LONGEST_VALUE) for one in self._hide(stack).splitlines())
            said["exception"] = _cut_middle(hidden, _LONGEST_STACK)
        line = self._spell(said)
        if len(line.encode(errors="replace")) >= LONGEST_BYTES:
            line = self._spell(_shortened(said))
        return line

    def _value(self, value: object) -> Any:
        if value is None or isinstance(value, bool | int):
            return value
        if isinstance(value, float):
            return value if math.isfinite(value) else str(value)  # JSON has no other numbers
        return _cut(self._hide(value if isinstance(value, str) else repr(value)), _LONGEST_VALUE)


def _time_of(record: logging.LogRecord | None) -> str:
    at = datetime.now(UTC) if record is None else datetime.fromtimestamp(record.created, UTC)
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _stack_of(event: Event, record: logging.LogRecord | None) -> str:
    given, shown = event.pop("exc_info", None), event.pop("stack_info", None)
    event.pop("exception", None)
    error = given[1] if isinstance(given, tuple) else given if isinstance(given, BaseException) else None
    if error is None and record is not None and record.exc_info:
        error = record.exc_info[1]
    if error is not None:
        return "".join(traceback.format_exception(error)).rstrip("\n")
    return str(shown or (record.stack_info if record else "") or "")


def _words_of(said: object, record: logging.LogRecord | None) -> str:
    """Return what was said; of Dagster's lines without the job, the run and the step before it, which are fields."""
    meta = getattr(record, "dagster_meta", None)
    bare = meta.get("orig_message") if isinstance(meta, dict) else None
    return str(said) if bare is None else str(bare)


def _of_dagster(record: logging.LogRecord | None) -> dict[str, Any]:
    """Say of a line that Dagster wrote which run and step it belongs to."""
    meta = getattr(record, "dagster_meta", None)
    if not isinstance(meta, dict):
        return {}
    happened = meta.get("dagster_event")
    found = {
        "run_id": meta.get("run_id"),
        "job": meta.get("job_name"),
        "step": meta.get("step_key"),
        "partition": getattr(happened, "partition", None),
        "dagster_event": getattr(happened, "event_type_value", None),
    }
    return {name: value for name, value in found.items() if value is not None}


def _shortened(said: dict[str, Any]) -> dict[str, Any]:
    """Give up details of what is too long for one piece: the text of an escaped line may be six times as long."""
    names = ("timestamp", "level", "event", "logger", "run_id", "market")
    kept: dict[str, Any] = {name: said[name] for name in names if name in said}
    kept["event"] = _cut(str(said["event"]), 200)
    if "exception" in said:
        kept["exception"] = _cut(str(said["exception"]).splitlines()[-1], 250)
    return {**kept, "shortened": True}


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[:length] + "…"


def _cut_middle(text: str, length: int) -> str:
    """Keep the beginning, and more of the end: there stands what happened."""
    if len(text) <= length:
        return text
    return text[: length // 4] + _CUT + text[len(text) - (length - length // 4) :]


def _as_json(said: dict[str, Any]) -> str:
    return json.dumps(said)  # ASCII: what would not be seen, or break a line elsewhere, is spelled out


def _as_text(said: dict[str, Any]) -> str:
    rest = {name: value for name, value in said.items() if name not in ("timestamp", "level", "event", "logger")}
    stack = str(rest.pop("exception", ""))
    details = "".join(f" {_seen(name)}={_seen(str(value))}" for name, value in rest.items())
    line = f"{said['timestamp']} {said['level'].upper():<7} {_seen(said['logger'])}: {_seen(said['event'])}{details}"
    return line + "".join(f"\n    {_seen(one)}" for one in stack.splitlines())


def _seen(text: str) -> str:
    """Spell what would not be seen, or would begin another line."""
    return text if text.isprintable() else "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)
