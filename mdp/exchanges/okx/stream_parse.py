"""Messages of OKX's streams into our words. Pure.

Not here: the connection (``stream``), bodies of REST (``parse``).
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from mdp.domain.live import LiveCandle
from mdp.domain.market import Exchange
from mdp.errors import ExchangeError, ExchangeUnavailable, PayloadError
from mdp.exchanges.frames import Milliseconds, decode
from mdp.exchanges.stream_messages import OTHER, Accepted, Minutes, Refused, Said, minute_of, refusal, unreadable

CHANNEL = "candle1m"

_NAMED = re.compile(r"instId\W+([A-Z0-9]+-[A-Z0-9]+)")
# Requests too frequent. Source: OKX API guide "WebSocket" error codes, 2026-07.
_TOO_MANY = frozenset({"60014", "50011"})
# Internal errors and upgrades, of which the subscription is not the cause.
_TRANSIENT = frozenset({"50001", "50004", "50005", "50013", "50026", "63999", "64007"})


class _Row(msgspec.Struct, array_like=True, gc=False):
    open_time: Milliseconds
    open: float
    high: float
    low: float
    close: float
    volume: float
    volume_in_quote: float  # of spot the same as the next one
    quote_volume: float
    confirm: Literal["0", "1"]


class _Argument(msgspec.Struct, gc=False):
    channel: str = ""
    instId: str = ""  # noqa: N815 OKX's words


class _Message(msgspec.Struct, gc=False):
    arg: _Argument = msgspec.field(default_factory=_Argument)
    data: list[_Row] | None = None
    event: str = ""
    code: str = ""
    msg: str = ""


class _Head(msgspec.Struct, gc=False):
    """The same without rows, which are of another shape in channels that are not ours."""

    arg: _Argument = msgspec.field(default_factory=_Argument)
    event: str = ""


_MESSAGE = msgspec.json.Decoder(_Message, strict=False)
_HEAD = msgspec.json.Decoder(_Head, strict=False)


def parse_message(text: str, received_us: int) -> Said:
    """Say what a message means; a candle is closed where its last item, ``confirm``, says so.

    OKX does not say when it sent a candle: ``event_us`` is when it came. A notice (such as 64008, "closed soon for an
    upgrade") is no failure: the connection works until it is closed.

    Source: OKX API guide "WebSocket", "Candlesticks channel", 2026-07.
    """
    if text == "pong":
        return OTHER
    try:
        message = decode(text, _MESSAGE, Exchange.OKX)
        if message.data is not None and message.arg.channel == CHANNEL:
            candles = [_minute(row, received_us) for row in message.data]
            return Minutes(message.arg.instId, tuple(candles), received_us)
    except PayloadError as error:
        if not error.is_transient and _is_foreign(text):
            return OTHER
        return unreadable(error, text, lambda body: body["arg"]["instId"])
    if message.event == "subscribe":
        return Accepted((message.arg.instId,))
    if message.event == "error":
        named = _NAMED.search(message.msg)
        market_id = named[1] if named else message.arg.instId
        return Refused(_error(message), market_id=market_id or None)
    return OTHER


def _minute(row: _Row, received_us: int) -> LiveCandle:
    return minute_of(
        Exchange.OKX,
        row.open_time,
        (row.open, row.high, row.low, row.close),
        (row.volume, row.quote_volume, None),
        is_closed=row.confirm == "1",
        received_us=received_us,
    )


def _error(message: _Message) -> ExchangeError:
    if message.code in _TRANSIENT:
        return ExchangeUnavailable(
            Exchange.OKX.value, f"no subscription now (code {message.code}: {message.msg[:200]})"
        )
    return refusal(Exchange.OKX, message.code, message.msg, is_limit=message.code in _TOO_MANY)


def _is_foreign(text: str) -> bool:
    try:
        return _HEAD.decode(text).arg.channel not in ("", CHANNEL)
    except msgspec.DecodeError:
        return False
