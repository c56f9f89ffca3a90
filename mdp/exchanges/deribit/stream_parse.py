"""Messages of Deribit's volatility channel into our words. Pure.

Not here: the connection (``stream``), minutes from ticks (``ticks``), bodies of REST (``parse``).
"""

from __future__ import annotations

from http import HTTPStatus
from math import isfinite

import msgspec

from mdp.domain.market import Exchange
from mdp.domain.timeframe import EPOCH
from mdp.errors import PayloadError
from mdp.exchanges.deribit.client import judge
from mdp.exchanges.frames import Milliseconds, decode
from mdp.exchanges.stream_messages import OTHER, Accepted, Asking, Refused, Said, Tick, unreadable
from mdp.exchanges.verdicts import Answer

_CHANNEL = "deribit_volatility_index."
ALIVE = {"jsonrpc": "2.0", "id": 0, "method": "public/test", "params": {}}
"""What Deribit wants to hear when it asks whether somebody is there."""

FIRST_SUBSCRIPTION = 2
"""Requests from this id on are subscriptions."""


class _Data(msgspec.Struct, gc=False):
    timestamp: Milliseconds
    volatility: float
    index_name: str = ""


class _Parameters(msgspec.Struct, gc=False):
    channel: str = ""
    data: msgspec.Raw = msgspec.Raw()
    type: str = ""


class _Message(msgspec.Struct, gc=False):
    id: int | None = None
    method: str = ""
    params: _Parameters | None = None
    result: msgspec.Raw = msgspec.Raw()
    error: msgspec.Raw = msgspec.Raw()


_MESSAGE = msgspec.json.Decoder(_Message)
_DATA = msgspec.json.Decoder(_Data)
_CHANNELS = msgspec.json.Decoder(list[str])


def channel_of(market_id: str) -> str:
    """Return the channel of a currency's volatility index."""
    return f"{_CHANNEL}{market_id.lower()}_usd"


def parse_message(text: str, received_us: int) -> Said:
    """Say what a message means.

    Source: docs.deribit.com "deribit_volatility_index.{index_name}", public/subscribe, public/set_heartbeat, 2026-07.
    """
    try:
        message = decode(text, _MESSAGE, Exchange.DERIBIT)
        parameters = message.params or _Parameters()
        if message.method == "subscription" and parameters.channel.startswith(_CHANNEL):
            return _tick(parameters, received_us)
        if message.id is not None:
            return _reply(message, message.id, text)
    except PayloadError as error:
        return unreadable(error, text, lambda body: _market_id_of(body["params"]["channel"]))
    is_question = message.method == "heartbeat" and parameters.type == "test_request"
    return Asking(ALIVE) if is_question else OTHER


def _tick(parameters: _Parameters, received_us: int) -> Said:
    data = decode(bytes(parameters.data), _DATA, Exchange.DERIBIT)
    if not isfinite(data.volatility):
        raise PayloadError(Exchange.DERIBIT.value, f"field volatility: expected a number, got {data.volatility}")
    return Tick(_market_id_of(parameters.channel), data.volatility, data.timestamp, received_us)


def _reply(message: _Message, request: int, text: str) -> Said:
    if bytes(message.error):
        # a reply to a request is judged as one to REST is: the same envelope, the same codes
        error = judge(Answer(HTTPStatus.OK, {}, text, EPOCH))
        return Refused(error, request=str(request)) if error is not None else OTHER
    if request < FIRST_SUBSCRIPTION:
        return OTHER
    channels = decode(bytes(message.result), _CHANNELS, Exchange.DERIBIT)
    return Accepted(tuple(map(_market_id_of, channels)), str(request))


def _market_id_of(channel: str) -> str:
    return channel.removeprefix(_CHANNEL).removesuffix("_usd").upper()
