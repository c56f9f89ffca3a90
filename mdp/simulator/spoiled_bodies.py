"""What scripted faults do to one whole answer: its status, its body.

Not here: the rows of a page (``spoiled_pages``), connections (``wire``), the exchanges' own words (``error_answers``).
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass, replace

from mdp.simulator.error_answers import (
    HTML,
    JSON,
    MAINTENANCE_PAGE,
    answer_with_code,
    answer_with_status,
    json_object,
)
from mdp.simulator.fault_kinds import Fault
from mdp.simulator.faults import (
    ArchiveChecksum,
    ArchiveCut,
    Code,
    CutJson,
    EmptyBody,
    Html200,
    JsonObject,
    Status,
)

Headers = list[tuple[bytes, bytes]]
_OF_THE_BODY = frozenset({b"content-length", b"content-type", b"content-encoding", b"x-simulator-data", b"etag"})
_DIGEST = 64


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer before it is sent."""

    status: int
    headers: Headers
    body: bytes


def spoil(reply: Reply, fault: Fault, now_ms: int) -> Reply:
    """Return the answer with a fault applied; a fault that is none of the answer's leaves it as it is.

    Args:
        reply: What the exchange answered.
        fault: What goes wrong.
        now_ms: Simulated time.
    """
    if isinstance(fault, Status | Code):
        error = answer_with_status(fault, now_ms) if isinstance(fault, Status) else answer_with_code(fault, now_ms)
        own = {name.lower().encode(): value.encode() for name, value in error.headers.items()}
        kept = [(name, value) for name, value in reply.headers if name not in own]
        return _with_body(Reply(error.status, [*kept, *own.items()], b""), error.body, error.media_type)
    if isinstance(fault, Html200):
        return _with_body(replace(reply, status=200), MAINTENANCE_PAGE, HTML)
    if isinstance(fault, EmptyBody):
        return _with_body(replace(reply, status=200), b"", JSON)
    if isinstance(fault, JsonObject):
        return _with_body(replace(reply, status=200), json_object(fault.exchange, now_ms), JSON)
    return _cut(reply, fault)


def _cut(reply: Reply, fault: Fault) -> Reply:
    if isinstance(fault, CutJson | ArchiveCut):
        is_gzip = (b"content-encoding", b"gzip") in reply.headers
        plain = gzip.decompress(reply.body) if is_gzip else reply.body
        plain = plain[: int(len(plain) * fault.share)]
        return _resized(reply, gzip.compress(plain, 1) if is_gzip else plain)
    if isinstance(fault, ArchiveChecksum):
        # a checksum of the same form, of another file
        return _resized(reply, reply.body[:_DIGEST][::-1] + reply.body[_DIGEST:])
    return reply


def _with_body(reply: Reply, body: bytes, media_type: str) -> Reply:
    headers = [(name, value) for name, value in reply.headers if name not in _OF_THE_BODY]
    return _resized(replace(reply, headers=[*headers, (b"content-type", media_type.encode())]), body)


def _resized(reply: Reply, body: bytes) -> Reply:
    headers = [(name, value) for name, value in reply.headers if name != b"content-length"]
    return Reply(reply.status, [*headers, (b"content-length", str(len(body)).encode())], body)
