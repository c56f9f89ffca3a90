"""What scripted faults do to messages and connections of streams.

Not here: the kinds (``stream_faults``), which of them apply (``script``), when there is something to push (``pump``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mdp.simulator.clock import to_ms
from mdp.simulator.faults import WireFault
from mdp.simulator.script import Asked, FaultScript
from mdp.simulator.stream_faults import (
    ConnectionFault,
    PushFault,
    StreamAbort,
    StreamClose,
    StreamDuplicateClose,
    StreamGarbled,
    StreamHalfOpen,
    StreamLateClose,
    StreamMissingClose,
    StreamMissingMinutes,
    StreamNotice,
    StreamOutOfOrder,
    StreamShutdown,
    StreamSilence,
    StreamSlow,
)
from mdp.simulator.streams.connection import Connection
from mdp.simulator.streams.updates import Update

if TYPE_CHECKING:
    from mdp.simulator.streams.pump import Source

_OF_ANY: tuple[type[WireFault], ...] = (StreamMissingMinutes, StreamOutOfOrder, StreamGarbled, StreamSlow)
_OF_CLOSES: tuple[type[WireFault], ...] = (*_OF_ANY, StreamDuplicateClose, StreamLateClose, StreamMissingClose)


class Spoiling:
    """Chooses what strikes, and says what becomes of a message."""

    def __init__(self, script: FaultScript) -> None:
        self._script = script

    def of_message(self, source: Source, update: Update, now_ms: int) -> list[PushFault]:
        """Return the faults that spoil one message; those of closes only where it closes a minute."""
        if not self._script.entries:
            return []
        asked = Asked(source.speech.exchange, "stream", "", source.symbol, now_ms)
        kinds = _OF_CLOSES if update.is_closed else _OF_ANY
        chosen = self._script.choose_all(asked, kinds, lambda fault: _is_about(fault, update.open_ms))
        return [entry.fault for entry in chosen if isinstance(entry.fault, PushFault)]

    def of_connection(self, source: Source, connection: Connection, now_ms: int) -> ConnectionFault | None:
        """Return what happens to a connection instead of a push."""
        if not self._script.entries or connection.is_frozen or not connection.is_open:
            return None
        asked = Asked(source.speech.exchange, "stream", connection.path, source.symbol, now_ms)
        entry = self._script.choose(asked, (ConnectionFault,))
        return entry.fault if entry is not None and isinstance(entry.fault, ConnectionFault) else None

    def apply(self, faults: list[PushFault], source: Source, message: bytes, now_ms: int) -> list[tuple[bytes, int]]:
        """Return the messages that come instead of one, and the simulated time of each."""
        kinds = {type(fault): fault for fault in faults}
        if StreamMissingMinutes in kinds or StreamMissingClose in kinds:
            return []
        for fault in faults:
            if isinstance(fault, StreamGarbled):
                message = message[: int(len(message) * fault.share)]
            elif isinstance(fault, StreamSlow):
                source.ready_ms = max(source.ready_ms, now_ms + round(fault.by_s * 1_000))
        if StreamOutOfOrder in kinds and source.held is None:
            source.held = message
            return []
        late = kinds.get(StreamLateClose)
        late_ms = round(late.by_s * 1_000) if isinstance(late, StreamLateClose) else 0
        due_ms = max(now_ms, source.ready_ms) + late_ms
        messages = [(message, due_ms)] * (2 if StreamDuplicateClose in kinds else 1)
        if source.held is not None:
            messages.append((source.held, due_ms))
            source.held = None
        return messages


def suffer(connection: Connection, fault: ConnectionFault, now_ms: int) -> None:
    """Let a fault happen to a connection."""
    match fault:
        case StreamClose():
            connection.close(fault.code, fault.reason)
        case StreamAbort():
            connection.abort()
        case StreamHalfOpen():
            connection.freeze(fault.for_s)
        case StreamSilence():
            connection.silent_until_ms[fault.symbol] = (
                None if fault.for_s is None else now_ms + round(fault.for_s * 1_000)
            )
        case StreamNotice() | StreamShutdown() if connection.speech is not None:
            connection.speech.announce(connection, fault)
        case _:
            pass


def _is_about(fault: WireFault, open_ms: int) -> bool:
    """Tell whether a fault means the minute of a message."""
    if not isinstance(fault, StreamMissingMinutes):
        return True
    is_after = fault.start is None or to_ms(fault.start) <= open_ms
    return is_after and (fault.end is None or open_ms < to_ms(fault.end))
