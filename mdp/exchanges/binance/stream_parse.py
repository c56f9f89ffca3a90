"""Messages of Binance's streams into our words. Pure.

Not here: the connection (``stream``), bodies of REST (``parse``).
"""

from __future__ import annotations

import msgspec

from mdp.domain.market import Exchange
from mdp.errors import PayloadError
from mdp.exchanges.frames import Count, Milliseconds, decode
from mdp.exchanges.stream_messages import (
    OTHER,
    Accepted,
    Ending,
    Minutes,
    Refused,
    Said,
    minute_of,
    refusal,
    unreadable,
)


class _Kline(msgspec.Struct, gc=False):
    t: Milliseconds
    i: str
    o: float
    h: float
    low: float = msgspec.field(name="l")
    c: float
    v: float
    n: Count
    x: bool
    q: float


class _Complaint(msgspec.Struct):
    code: int | None = None
    msg: str = ""


class _Message(msgspec.Struct, gc=False):
    e: str = ""
    E: Milliseconds = 0
    s: str = ""
    k: _Kline | None = None
    id: int | str | None = None
    error: _Complaint | None = None
    code: int | None = None
    msg: str = ""


_MESSAGE = msgspec.json.Decoder(_Message, strict=False)


def parse_message(text: str, received_us: int) -> Said:
    """Say what a message means; a candle is closed where its own flag ``x`` says so.

    Source: binance-spot-api-docs web-socket-streams.md, 2026-07.
    """
    try:
        message = decode(text, _MESSAGE, Exchange.BINANCE)
        if message.e == "kline":
            return _minutes(message, text, received_us)
    except PayloadError as error:
        return unreadable(error, text, lambda body: body["s"])
    if message.e == "serverShutdown":
        return Ending("it said serverShutdown")
    request = None if message.id is None else str(message.id)
    complaint = message.error or (_Complaint(message.code, message.msg) if message.code is not None else None)
    if complaint is not None:
        return Refused(refusal(Exchange.BINANCE, complaint.code, complaint.msg), request=request)
    return OTHER if request is None else Accepted(request=request)


def _minutes(message: _Message, text: str, received_us: int) -> Said:
    kline = message.k
    if kline is None or not message.s or not message.E:
        raise PayloadError(Exchange.BINANCE.value, "fields s, E and k: expected in a kline, not all there", body=text)
    if kline.i != "1m":
        return OTHER
    candle = minute_of(
        Exchange.BINANCE,
        kline.t,
        (kline.o, kline.h, kline.low, kline.c),
        (kline.v, kline.q, kline.n),
        is_closed=kline.x,
        received_us=received_us,
    )
    return Minutes(message.s, (candle,), message.E * 1_000)
