"""What can be scripted to go wrong in streams: one type for each kind.

A stream fault counts what fits it as the faults of answers do: handshakes, subscriptions, or messages about to be
pushed. Not here: faults of answers and of candles (``faults``), what a stream fault does (``streams``).
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from mdp.simulator.faults import Duration, Moment, Share, WireFault

CloseCode = Annotated[int, Meta(ge=1000, le=4999)]
Span = Annotated[float, Meta(gt=0, le=86_400)]
"""Simulated seconds."""


class StreamFault(WireFault, kw_only=True, frozen=True):
    """Something goes wrong in a stream; ``path`` is that of the connection, below the exchange's prefix."""


class StreamRefused(StreamFault, kw_only=True, frozen=True, tag="stream_refused"):
    """The handshake is answered with an HTTP status.

    Attributes:
        status: Such as 429, 403, 451 or 503.
        retry_after_s: The header ``Retry-After``; None: not sent.
    """

    status: Annotated[int, Meta(ge=400, le=599)] = 503
    retry_after_s: Annotated[int, Meta(ge=0)] | None = None


class StreamRejected(StreamFault, kw_only=True, frozen=True, tag="stream_rejected"):
    """A subscription is refused.

    Attributes:
        form: ``error``: an error that names the request, where the exchange can; ``bare``: one that does not (Bybit
            without ``req_id``, OKX without ``id``); ``absent``: acknowledged, but nothing ever comes (Deribit leaves
            the channel out of the list); ``ignored``: no answer at all.
    """

    form: Literal["error", "bare", "absent", "ignored"] = "error"


class PushFault(StreamFault, kw_only=True, frozen=True):
    """One message is pushed wrongly, to all who subscribed."""


class StreamDuplicateClose(PushFault, frozen=True, tag="stream_duplicate_close"):
    """The message that closes a minute comes twice."""


class StreamLateClose(PushFault, kw_only=True, frozen=True, tag="stream_late_close"):
    """The message that closes a minute comes ``by_s`` simulated seconds late, after those of the next one."""

    by_s: Span = 5.0


class StreamMissingClose(PushFault, frozen=True, tag="stream_missing_close"):
    """The message that closes a minute does not come."""


class StreamMissingMinutes(PushFault, kw_only=True, frozen=True, tag="stream_missing_minutes"):
    """No message of the minutes that open in a window, half-open, though REST has them.

    Attributes:
        start: None: any minute.
        end: None: any minute from ``start`` on.
    """

    start: Moment | None = None
    end: Moment | None = None


class StreamOutOfOrder(PushFault, frozen=True, tag="stream_out_of_order"):
    """A message comes after the one that should follow it."""


class StreamGarbled(PushFault, kw_only=True, frozen=True, tag="stream_garbled"):
    """Only the first ``share`` of a message comes: no JSON."""

    share: Share = 0.5


class StreamSlow(PushFault, kw_only=True, frozen=True, tag="stream_slow"):
    """A message comes ``by_s`` simulated seconds late; messages stay in order."""

    by_s: Span = 10.0


class ConnectionFault(StreamFault, kw_only=True, frozen=True):
    """Something happens to a connection instead of the next push; with ``symbol``, to those that subscribed to it."""


class StreamClose(ConnectionFault, kw_only=True, frozen=True, tag="stream_close"):
    """The server closes with a code.

    Attributes:
        code: Such as 1000, 1001, 1006 (no close frame), 1011, 1012, 1013 or 4004.
        reason: Sent with it.
    """

    code: CloseCode = 1001
    reason: str = ""


class StreamAbort(ConnectionFault, frozen=True, tag="stream_abort"):
    """The TCP connection is reset."""


class StreamSilence(ConnectionFault, kw_only=True, frozen=True, tag="stream_silence"):
    """Pushes stop; pings are answered. With ``symbol`` only those of the symbol.

    Attributes:
        for_s: Simulated seconds; None: as long as the connection lives.
    """

    for_s: Span | None = None


class StreamHalfOpen(ConnectionFault, kw_only=True, frozen=True, tag="stream_half_open"):
    """Nothing is sent or read any more, no pong either; the TCP connection stays.

    Attributes:
        for_s: Real seconds until it is reset.
    """

    for_s: Annotated[float, Meta(gt=0, le=86_400)] = 3_600.0


class StreamNotice(ConnectionFault, kw_only=True, frozen=True, tag="stream_notice"):
    """OKX: the notice 64008 says that the connection will close for an upgrade; pushes go on until then.

    Attributes:
        grace_s: Real seconds until it closes; None: it does not.
    """

    grace_s: Duration | None = 60.0


class StreamShutdown(ConnectionFault, kw_only=True, frozen=True, tag="stream_shutdown"):
    """Binance: the event ``serverShutdown`` says that the connection will close; pushes go on until then.

    Attributes:
        grace_s: Real seconds until it closes.
    """

    grace_s: Duration = 60.0


STREAM_PUSH = (
    StreamDuplicateClose | StreamLateClose | StreamMissingClose | StreamMissingMinutes | StreamOutOfOrder
    | StreamGarbled | StreamSlow
)  # fmt: skip

STREAM_CONNECTION = StreamClose | StreamAbort | StreamSilence | StreamHalfOpen | StreamNotice | StreamShutdown

Stream = StreamRefused | StreamRejected | STREAM_PUSH | STREAM_CONNECTION
"""What goes wrong in streams."""
