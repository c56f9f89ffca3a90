"""A line for each request, in the form of all our lines, on stderr, written in batches by a thread of its own.

Buffers that were answered from memory in the same batch, to the same caller, share one.

A line cannot be forged: every text in it is escaped and cut, and no key is in it. Of a query, only what the service
knows is shown; the values of other parameters could be anything. Not here: what is measured of a request (``front``),
every other line (``logs``).
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections import deque
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Literal, NamedTuple
from urllib.parse import parse_qsl

import msgspec

from mdp.api.key_file import KEY

_EVERY_S = 0.2
_PAUSE_S = 0.000_2
_LEAST_AT_ONCE, _MOST_AT_ONCE = 64, 512
"""Lines that are spelled before requests have their turn: all of a busy moment at once would take 30 ms from them."""

ATOMIC_BYTES = 4_096
"""So much is written to a pipe in one piece, whichever processes write (POSIX ``PIPE_BUF`` of Linux)."""

_SHOWN_CHARACTERS = 300
SHOWN_PARAMETERS = frozenset(
    (
        "as_of", "after", "bar", "before", "category", "columns", "end", "endTime", "exchange", "format", "instId",
        "instType", "interval", "limit", "mode", "permissions", "since", "snapshot", "start", "startTime", "symbol",
        "symbols", "timeZone", "timeframe", "topic",
    )
)  # fmt: skip
"""Parameters whose values are shown; of others only that they were there."""

_encode = msgspec.json.Encoder().encode
_MASKED = "…"
_SECRET = re.compile(r"mdp_[0-9A-Za-z]{1,64}_[A-Za-z0-9_-]+")


Form = Literal["json", "text"]


class Line(NamedTuple):
    """What is known of a request when it is over."""

    at_s: float
    request_id: str
    method: str
    path: str
    query: bytes
    status: int
    size: int
    seconds: float
    caller: str
    peer: str


class Usual(NamedTuple):
    """What requests have in common that are logged together."""

    path: str
    status: int
    caller: str
    peer: str


class AccessLog:
    """Writes lines; takes one in a microsecond.

    Args:
        target: File descriptor to write to.
        most_waiting: Lines that wait while the target takes none; more are counted and left out, for a log must not
            stop the service.
        piece_bytes: What is written at a time at most. More than what is atomic is for who writes alone.
        form: ``json`` for machines, ``text`` for people.
    """

    def __init__(
        self,
        target: int = 2,
        most_waiting: int = 50_000,
        piece_bytes: int = ATOMIC_BYTES,
        form: Form = "json",
    ) -> None:
        self._target, self._most, self._piece_bytes, self._form = target, most_waiting, piece_bytes, form
        self._waiting: deque[Line] = deque()
        self._counted: dict[Usual, list[int]] = {}
        self._counted_before: dict[Usual, list[int]] = {}
        self._left_out = 0
        self._is_closing = threading.Event()
        self._writer: threading.Thread | None = None

    def count(self, usual: Usual, size: int) -> None:
        """Have one line written soon for all requests that are alike: how many they were, and their bytes.

        What is answered tens of thousands of times a second would spend more on its lines than on its answers.
        """
        self._begin()
        counted = self._counted.get(usual)
        if counted is None:
            counted = self._counted[usual] = [0, 0]
        counted[0] += 1
        counted[1] += size

    def _begin(self) -> None:
        if self._writer is None:
            self._writer = threading.Thread(target=self._run, name="access-log", daemon=True)
            self._writer.start()

    def add(self, line: Line) -> None:
        """Have a line written soon."""
        self._begin()
        if len(self._waiting) >= self._most:
            self._left_out += 1
            return
        self._waiting.append(line)

    def close(self, patience_s: float = 5.0) -> None:
        """Write what waits; whoever does not read it is not waited for longer than a few seconds."""
        if self._writer is None:
            return
        self._is_closing.set()
        self._writer.join(patience_s)
        if not self._writer.is_alive():
            self._writer = None
            self._is_closing.clear()

    def _run(self) -> None:
        while not self._is_closing.wait(_EVERY_S):
            while self._waiting and not self._is_closing.is_set():
                self._write_some(min(_MOST_AT_ONCE, max(_LEAST_AT_ONCE, len(self._waiting) // 16)))
                time.sleep(_PAUSE_S)
            self._write_counted()
            self._say_left_out()
        self._write_some(len(self._waiting))
        self._write_counted()
        self._write_counted()
        self._say_left_out()

    def _write_counted(self) -> None:
        """Write what was counted until the last time: of what was counted since, one may be half done."""
        over, self._counted_before, self._counted = self._counted_before, self._counted, {}
        if over:
            self._write(
                b"".join(spell_counted(usual, count, size, self._form) for usual, (count, size) in over.items())
            )

    def _write_some(self, count: int) -> None:
        together: list[bytes] = []
        size = 0
        for _ in range(min(count, len(self._waiting))):
            line = spell(self._waiting.popleft(), self._form)
            if size + len(line) > self._piece_bytes:
                self._write(b"".join(together))
                together, size = [], 0
            together.append(line)
            size += len(line)
        self._write(b"".join(together))

    def _say_left_out(self) -> None:
        if self._left_out:
            text = _spelled({**_head(time.time(), "lines left out", 500), "left_out": self._left_out}, self._form)
            self._left_out = 0
            self._write(text)

    def _write(self, text: bytes) -> None:
        try:
            while text:
                text = text[os.write(self._target, text) :]
        except OSError:  # nobody reads it any more, or the disk is full: requests are answered all the same
            self._left_out += text.count(b"\n")


def spell(line: Line, form: Form = "json") -> bytes:
    """Return a line of the log; all that a client wrote is escaped by JSON, cut and without keys."""
    said = {
        **_head(line.at_s, "request", line.status),
        "request_id": line.request_id,
        "method": _cut(line.method, 16),
        "path": _cut(line.path, _SHOWN_CHARACTERS),
        "query": _query(line.query) if line.query else {},
        "status": line.status,
        "bytes": line.size,
        "duration_ms": round(line.seconds * 1_000, 3),
        "caller": line.caller,
        "peer": _cut(line.peer, 64),
    }
    return _spelled(said, form)


def spell_counted(usual: Usual, count: int, size: int, form: Form = "json") -> bytes:
    """Return the line of requests that were alike, as many as came since the last one."""
    said = {**_head(time.time(), "requests", usual.status), "method": "GET", "path": usual.path, "status": usual.status}
    return _spelled({**said, "count": count, "bytes": size, "caller": usual.caller, "peer": usual.peer}, form)


def _head(at_s: float, event: str, status: int) -> dict[str, Any]:
    level = "warning" if status >= 500 else "info"
    return {"timestamp": _time(at_s), "level": level, "event": event, "logger": "mdp.api.access"}


def _spelled(said: dict[str, Any], form: Form) -> bytes:
    if form == "json":
        return _encode(said) + b"\n"
    rest = " ".join(f"{name}={value}" for name, value in list(said.items())[4:] if value not in ("", {}))
    head = f"{said['timestamp']} {said['level'].upper():<7} {said['logger']}: {said['event']} "
    return (head + rest).encode("ascii", "backslashreplace") + b"\n"


def _query(query: bytes) -> dict[str, str]:
    said: dict[str, str] = {}
    pairs = parse_qsl(query.decode("latin-1")[:2_000], keep_blank_values=True, max_num_fields=None)
    for name, value in pairs[:16]:
        if name in SHOWN_PARAMETERS:
            said[name] = f"{said[name]},{_cut(value, 80)}"[:160] if name in said else _cut(value, 80)
        else:
            said[_cut(name, 40)] = _MASKED
    return said


@lru_cache(maxsize=2_048)
def _cut(text: str, length: int) -> str:
    """Cut a text, take keys out, spell control characters and what else would not be seen."""
    shown = _SECRET.sub(_MASKED, KEY.sub(_MASKED, text))[:length]
    return shown if shown.isascii() and shown.isprintable() else ascii(shown)[1:-1][: 2 * length]


def _time(at_s: float) -> str:
    return f"{_second(int(at_s))}.{int(at_s % 1 * 1_000_000):06d}Z"


@lru_cache(maxsize=16)
def _second(at_s: int) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%S")
