"""Messages of Bybit's streams into our words. Pure.

Not here: the connection (``stream``), bodies of REST (``parse``).
"""

from __future__ import annotations

import msgspec

from mdp.domain.market import Exchange
from mdp.errors import PayloadError
from mdp.exchanges.frames import Milliseconds, decode
from mdp.exchanges.stream_messages import OTHER, Accepted, Minutes, Refused, Said, minute_of, refusal, unreadable

TOPIC = "kline.1."
"""What the topics of minutes begin with."""

_TOO_MANY = frozenset({10006, 10018})


class _Row(msgspec.Struct, gc=False):
    start: Milliseconds
    open: float
    high: float
    low: float
    close: float
    volume: float
    turnover: float
    confirm: bool


class _Pushed(msgspec.Struct, gc=False):
    topic: str
    ts: Milliseconds
    data: list[_Row]


class _Reply(msgspec.Struct, gc=False):
    success: bool | None = None
    ret_msg: str = ""
    op: str = ""
    req_id: str | int = ""  # as we sent it, or as text
    retCode: int | None = None  # noqa: N815 Bybit's words
    ret_code: int | None = None
    code: int | None = None
    desc: str = ""
    retMsg: str = ""  # noqa: N815 Bybit's words
    topic: str = ""


_PUSHED = msgspec.json.Decoder(_Pushed, strict=False)
_REPLY = msgspec.json.Decoder(_Reply, strict=False)


def parse_message(text: str, received_us: int) -> Said:
    """Say what a message means; a candle is closed where its own flag ``confirm`` says so.

    Source: docs/v5/ws/connect, docs/v5/websocket/public/kline, 2026-07.
    """
    try:
        reply = decode(text, _REPLY, Exchange.BYBIT)
        if reply.topic.startswith(TOPIC):
            return _minutes(text, received_us)
    except PayloadError as error:
        return unreadable(error, text, lambda body: body["topic"].removeprefix(TOPIC))
    return _judge(reply)


def _minutes(text: str, received_us: int) -> Said:
    pushed = decode(text, _PUSHED, Exchange.BYBIT)
    candles = [
        minute_of(
            Exchange.BYBIT,
            row.start,
            (row.open, row.high, row.low, row.close),
            (row.volume, row.turnover, None),
            is_closed=row.confirm,
            received_us=received_us,
        )
        for row in pushed.data
    ]
    return Minutes(pushed.topic.removeprefix(TOPIC), tuple(candles), pushed.ts * 1_000)


def _judge(reply: _Reply) -> Said:
    request = str(reply.req_id) or None
    code = next((code for code in (reply.retCode, reply.ret_code, reply.code) if code), None)
    if reply.success is False or code is not None:
        said = reply.ret_msg or reply.retMsg or reply.desc
        # "..., topic:kline.1.FOOUSDT" or "... Invalid symbol :[kline.1.FOOUSDT]": the only place that says which
        market_id = said.partition(TOPIC)[2].split("]")[0].split(",")[0].strip() or None
        error = refusal(Exchange.BYBIT, code, said, is_limit=code in _TOO_MANY)
        return Refused(error, market_id=market_id, request=request)
    return Accepted(request=request) if reply.op == "subscribe" and request else OTHER
