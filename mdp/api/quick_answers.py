"""The usual question for a buffer, answered from memory before a request is made of it.

The server's protocol sees the headers complete, finds the answer ready, and writes it: no task, no scope, no routing.
Whatever is unusual, a wrong key included, goes on to the route (``buffers``), which answers the same.
Not here: how a buffer is spelled (``buffer_bodies``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from mdp.api.access_log import AccessLog, Usual
from mdp.api.addresses import LOOPBACK_PEERS, is_loopback_host
from mdp.api.buffer_bodies import FORMS, SpelledBuffer, as_lines, as_wire
from mdp.api.buffers import PATH
from mdp.api.callers import LOOPBACK
from mdp.api.compression import choose_encoding
from mdp.api.conditional import matches
from mdp.api.doorkeeper import Doorkeeper
from mdp.api.formats import Format, accepted_format
from mdp.api.measures import Measures
from mdp.api.problems import Problem
from mdp.api.streams.channels import TRANSPORT
from mdp.reading.following import Key

_USUAL = frozenset(
    {b"host", b"user-agent", b"accept", b"accept-encoding", b"accept-language", b"connection", b"if-none-match"}
)
"""Headers that change nothing but the form of the answer."""

_KEYS = frozenset({b"authorization", b"x-api-key"})
"""Headers with a key. Any other one, such as that of a proxy or of another site's page, is looked at by the gate."""

_LONGEST = 512
"""Bytes of headers that say which form is wanted; those of browsers have some 150. Longer ones the gate refuses."""

_SHORT = 0.000_02
"""What an answer takes, in seconds: measuring it would take as long."""

_LOOPBACK = (LOOPBACK.name, b"")


class QuickAnswers:
    """Answers that are ready, by the address that is asked for.

    Args:
        spelled: All buffers.
        measures: Where answers are counted.
        doorkeeper: Knows the keys.
        needs_key: Whether this machine itself needs one too.
        log: Where answers are told of; None: nowhere.
    """

    def __init__(
        self,
        spelled: Mapping[Key, SpelledBuffer],
        measures: Measures,
        doorkeeper: Doorkeeper,
        *,
        needs_key: bool = False,
        log: AccessLog | None = None,
    ) -> None:
        self._measures = measures
        self._doorkeeper = doorkeeper
        self._needs_key = needs_key
        self._log = log
        self._places = {
            PATH.format(exchange=market.exchange, symbol=market.symbol_key, timeframe=timeframe).encode(): one
            for (market, timeframe), one in spelled.items()
        }

    def find(self, url: bytes, headers: Sequence[tuple[bytes, bytes]], peer: str) -> tuple[bytes, ...] | None:
        """Return what is to be written: the status line, then the head, then the body; None: ask the route.

        Args:
            url: As it came.
            headers: As they came, with names in lower case.
            peer: Address of who asks.
        """
        spelled = self._places.get(url)
        said = dict(headers) if spelled is not None else {}
        if spelled is None or len(said) < len(headers):
            return None
        accept, encoding = said.get(b"accept", b""), said.get(b"accept-encoding", b"")
        admitted = self._admit(said, peer) if len(accept) + len(encoding) <= _LONGEST else None
        form = _form(accept, encoding) if admitted is not None else None
        answer = spelled.answer(form) if form is not None else None
        if answer is None or admitted is None:
            return None
        caller, more = admitted
        known = said.get(b"if-none-match")
        if known and matches(known.decode("latin-1"), answer.etag.decode()):
            self._note(url, 304, 0, caller, peer)
            return b"HTTP/1.1 304 Not Modified\r\n", more, as_wire(answer.unchanged_headers), b""
        self._note(url, 200, len(answer.body), caller, peer)
        return b"HTTP/1.1 200 OK\r\n", more, answer.head, answer.body

    def _admit(self, said: Mapping[bytes, bytes], peer: str) -> tuple[str, bytes] | None:
        """Return who asks, and headers beside the usual ones; None: the gate looks closer, and says what is wrong."""
        unusual = said.keys() - _USUAL
        if not unusual:
            is_itself = peer in LOOPBACK_PEERS and is_loopback_host(said.get(b"host", b""))
            return _LOOPBACK if is_itself and not self._needs_key else None
        if len(unusual) > 1 or not unusual <= _KEYS:
            return None
        scheme, _, text = said.get(b"authorization", b"bearer ").decode("latin-1").partition(" ")
        text = said.get(b"x-api-key", b"").decode("latin-1") or text
        found = self._doorkeeper.admit_quickly(text.strip()) if scheme.lower() == "bearer" else None
        return None if found is None else (found.caller.name, as_lines(found.headers))

    def _note(self, url: bytes, status: int, size: int, caller: str, peer: str) -> None:
        self._measures.count("GET", PATH, status, _SHORT)
        if self._log is not None:
            self._log.count(Usual(url.decode("ascii"), status, caller, peer), size)


class _Answered:
    """Stands where uvicorn keeps the request that it answers: this one is answered."""

    response_complete = True
    disconnected = False
    message_event = asyncio.Event()


class BufferProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which writes what is ready itself.

    It leans on uvicorn's insides, which is why its version is pinned; that both ways answer the same is tested.
    """

    quick: QuickAnswers | None = None
    peer = ""

    def connection_made(self, transport: Any) -> None:
        """Remember who asks, and let streams find their connection."""
        super().connection_made(transport)
        self.app_state = {**self.app_state, TRANSPORT: transport}
        if self.client is not None:
            self.peer = self.client[0]
            self.quick = self.app_state.get("quick")

    def on_headers_complete(self) -> None:
        """Answer, or go on as usual; whoever does not read what was written goes on as usual too, and waits."""
        is_first = self.cycle is None or self.cycle.response_complete
        if self.quick is not None and is_first and not self.pipeline and not self.flow.write_paused:
            parser = self.parser
            if parser.get_method() == b"GET" and parser.should_keep_alive() and parser.get_http_version() == "1.1":
                found = self.quick.find(self.url, self.headers, self.peer)
                if found is not None:
                    self.cycle = _Answered  # type: ignore[assignment]
                    date = self.server_state.default_headers[0][1]
                    self.transport.write(b"".join((found[0], b"date: ", date, b"\r\n", *found[1:])))
                    self.on_response_complete()
                    return
        super().on_headers_complete()


@lru_cache(maxsize=512)  # of what is short, and was said by somebody who may ask
def _form(accept: bytes, encoding: bytes) -> int | None:
    try:
        format_ = accepted_format(accept.decode("latin-1")) if accept.strip() else Format.JSON
    except Problem:
        return None
    return FORMS.index((format_, choose_encoding(encoding.decode("latin-1"))))
