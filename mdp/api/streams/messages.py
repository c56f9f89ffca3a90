"""What is said on a stream, both ways, and how it is put into frames and events.

``docs/streams-asyncapi.yaml`` is made of these classes (``asyncapi``). Not here: who hears what (``hub``).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from mdp.bus.topics import ExchangeName, SourceName, StateName, SymbolName, TimeframeName

MOST_TOPICS = 200
"""Of one connection."""

TopicName = Annotated[
    str, Meta(max_length=200, description="What it is about.", examples=["candles.binance.BTC-USDT.1m"])
]
Seq = Annotated[int, Meta(ge=0, description="Of the buffer. Grows by one with each change of it.")]
Time = Annotated[
    str,
    Meta(
        pattern=r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,6})?Z$",
        description="UTC, as everywhere in this API: without a fraction unless there is one.",
        examples=["2024-12-30T10:15:00Z"],
    ),
]
Id = Annotated[str, Meta(max_length=64)] | int


class Ask(Struct, forbid_unknown_fields=True):
    """What a client says."""

    op: Literal["subscribe", "unsubscribe", "ping"]
    topics: Annotated[list[TopicName], Meta(max_length=MOST_TOPICS, description="A part may be `*`.")] = []
    since: Annotated[
        dict[TopicName, Seq], Meta(max_length=MOST_TOPICS, description="The last `seq` that is known of a topic.")
    ] = {}
    id: Annotated[Id | None, Meta(description="Comes back in the answer.")] = None


class Subscribed(Struct, tag="subscribed", omit_defaults=True):
    """The answer to `subscribe`, before anything else is said of these topics."""

    topics: Annotated[list[TopicName], Meta(description="Without stars.")]
    heartbeat_s: Annotated[float, Meta(description="After so many silent seconds a heartbeat comes.")]
    resumed: Annotated[list[TopicName], Meta(description="Of them, those of which only what changed comes.")] = []
    waiting: Annotated[list[TopicName], Meta(description="Of them, those of which nothing is known yet.")] = []
    id: Id | None = None


class Unsubscribed(Struct, tag="unsubscribed", omit_defaults=True):
    """The answer to `unsubscribe`: nothing more comes of these topics."""

    topics: list[TopicName]
    id: Id | None = None


class Pong(Struct, tag="pong", omit_defaults=True):
    """The answer to `ping`."""

    at: Time
    id: Id | None = None


class Refused(Struct, tag="error", omit_defaults=True):
    """Something that was said is wrong; the connection goes on, and the other topics of the same message count."""

    detail: str
    topic: TopicName | None = None
    allowed: Annotated[list[str], Meta(description="What there is.")] = []
    id: Id | None = None


class Candle(Struct, tag="candle", omit_defaults=True):
    """One candle of a buffer is new or says something else."""

    topic: TopicName
    seq: Seq
    exchange: ExchangeName
    symbol: SymbolName
    timeframe: TimeframeName
    open_time: Time
    open: float
    high: float
    low: float
    close: float
    volume: Annotated[float | None, Meta(description="In base coin, so far; null of a volatility index.")]
    quote_volume: Annotated[float | None, Meta(description="In quote coin; null where the exchange does not give it.")]
    trades: Annotated[int | None, Meta(description="Null where the exchange does not give it.")]
    minutes: Annotated[int, Meta(ge=0, description="How many minutes it holds, an unfinished one included.")]
    state: Annotated[StateName, Meta(description="How sure it is, least first; corrected after closed or confirmed.")]
    source: SourceName
    received_at: Annotated[Time, Meta(description="When the values came, by the market's clock.")]
    skipped: Annotated[
        int,
        Meta(
            ge=0,
            description="So many changes before this one were not sent, because later ones said more. This `seq` is "
            "the last one + 1 + `skipped`; anything else means that something was lost.",
        ),
    ] = 0


class Snapshot(Struct, tag="snapshot"):
    """A whole buffer; it replaces all that was known of it."""

    topic: TopicName
    exchange: ExchangeName
    symbol: SymbolName
    timeframe: TimeframeName
    size: Annotated[int, Meta(description="How many closed candles it is meant to hold.")]
    seq: Seq
    written_at: Time
    is_stale: Annotated[bool, Meta(description="Nobody keeps it now: it may be old.")]
    columns: list[str]
    rows: list[list[str | float | int | None]]


class Stale(Struct, tag="stale"):
    """Nobody keeps a buffer now: what is known of it may be old."""

    topic: TopicName


class Fresh(Struct, tag="fresh"):
    """A buffer is kept; what changed meanwhile came before this."""

    topic: TopicName


class BufferChanged(Struct, tag="buffer"):
    """A candle of a buffer closed, was confirmed or corrected, or so much changed that it is best read anew."""

    topic: TopicName
    seq: Seq
    exchange: ExchangeName
    symbol: SymbolName
    timeframe: TimeframeName
    reason: Literal["closed", "confirmed", "corrected", "rewritten"]
    open_time: Annotated[Time | None, Meta(description="Of the candle; of the newest one where all is new.")]


class Feed(Struct, tag="feed"):
    """How a feed is, once a second at most."""

    topic: TopicName
    exchange: ExchangeName
    health: Annotated[msgspec.Raw, Meta(description="As in `/api/v1/live`; null: no feed tells of itself.")]
    detail: Annotated[str, Meta(description="Why nothing is known; empty otherwise.")] = ""


class Generation(Struct, tag="generation"):
    """Missing history is being collected."""

    topic: TopicName
    job: Annotated[str, Meta(description="Id of the generation.")]
    state: Literal["queued", "running", "succeeded", "failed", "canceled"]
    exchange: ExchangeName
    symbol: SymbolName
    start: str
    end: Annotated[str, Meta(description="Exclusive.")]
    days: Annotated[int, Meta(ge=0, description="How many days were missing when it began.")]
    days_done: Annotated[int, Meta(ge=0)]
    detail: str
    told_at: str


class Heartbeat(Struct, tag="heartbeat"):
    """Nothing happened, and the connection is alive."""

    at: Time


class Closing(Struct, tag="closing"):
    """The service ends this connection; connect again."""

    reason: str


SAID = (
    Subscribed, Unsubscribed, Pong, Refused, Snapshot, Candle, Stale, Fresh, BufferChanged, Feed, Generation, Heartbeat,
    Closing,
)  # fmt: skip
"""All that the service says."""

Said = (
    Subscribed | Unsubscribed | Pong | Refused | Snapshot | Candle | Stale | Fresh | BufferChanged | Feed | Generation
    | Heartbeat | Closing
)  # fmt: skip

encode = msgspec.json.Encoder().encode
read_ask = msgspec.json.Decoder(Ask).decode

_EVENTS = {"error": "error-message"}
"""A browser says ``error`` itself, when a connection breaks."""

_SHORT, _MIDDLE = 126, 65_536
_TYPE = len(b'{"type":"')


class Message:
    """A message that many clients hear: spelled once, put into a frame once, into an event once.

    Args:
        text: As JSON, with ``type`` first.
    """

    __slots__ = ("_event", "_frame", "text")

    def __init__(self, text: bytes) -> None:
        self.text = text
        self._frame = b""
        self._event = b""

    @classmethod
    def of(cls, said: Said) -> Message:
        """Spell what is said."""
        return cls(encode(said))

    @property
    def frame(self) -> bytes:
        """A whole WebSocket frame of a server, which is the same for every client (RFC 6455, 5.2)."""
        if not self._frame:
            self._frame = _head(len(self.text)) + self.text
        return self._frame

    @property
    def event(self) -> bytes:
        """A server-sent event without its end, so that an id may follow; JSON as we spell it has no line breaks."""
        if not self._event:
            kind = self.text[_TYPE : self.text.index(b'"', _TYPE)].decode()
            name = _EVENTS.get(kind, kind).encode()
            self._event = b"event: %b\ndata: %b\n" % (name, self.text)
        return self._event

    def after_skipped(self, number: int) -> Message:
        """Return the same, saying that so many messages before it were not sent."""
        return Message(b'%b,"skipped":%d}' % (self.text[:-1], number)) if number else self


def _head(size: int) -> bytes:
    if size < _SHORT:
        return bytes((0x81, size))
    if size < _MIDDLE:
        return b"\x81\x7e" + size.to_bytes(2, "big")
    return b"\x81\x7f" + size.to_bytes(8, "big")


def schema_types() -> list[Any]:
    """Return the classes of all messages, for their description."""
    return [Ask, *SAID]
