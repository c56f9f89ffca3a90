"""The topics as AsyncAPI 3, made of the classes of the messages, for ``docs/asyncapi.yaml`` and whoever serves it.

Not here: the messages (``topics``).
"""

from __future__ import annotations

import inspect
from typing import Any

import msgspec

from mdp.bus.topics import BufferMessage, CandleMessage, GenerationMessage
from mdp.domain.market import Exchange
from mdp.domain.timeframe import Timeframe

_MARKET = {
    "exchange": {"description": "As CCXT spells it.", "enum": [exchange.value for exchange in Exchange]},
    "symbol": {"description": "Base and quote.", "examples": ["BTC-USDT", "BTC-DVOL"]},
    "timeframe": {"description": "Length of a candle.", "enum": [timeframe.value for timeframe in Timeframe]},
}

_TOPICS: tuple[tuple[str, str, type[msgspec.Struct], dict[str, Any]], ...] = (
    ("candles", "candles.{exchange}.{symbol}.{timeframe}", CandleMessage, _MARKET),
    ("buffers", "buffers.{exchange}.{symbol}.{timeframe}", BufferMessage, _MARKET),
    ("generation", "generation.{job}", GenerationMessage, {"job": {"description": "Id of the job."}}),
)

_DESCRIPTION = """\
What changes in the buffers of live trading, in Valkey or Redis. On the server a channel is the address below behind
`mdp:live:{<environment>}:`, with the braces; subscribers may use patterns (`PSUBSCRIBE`).

Messages are told once. Whoever was away has missed some and sees it by `seq`, which grows by one with each change of a
buffer: any other step means that the buffer must be read again. Buffer messages carry the `seq` of the candle message
they follow. Times are UTC text with six digits of a second.
"""


def asyncapi_document() -> dict[str, Any]:
    """Return the description of all topics."""
    kinds = [kind for _, _, kind, _ in _TOPICS]
    _, schemas = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "mdp live topics", "version": "1.0.0", "description": _DESCRIPTION},
        "defaultContentType": "application/json",
        "channels": {name: _channel(address, kind, words) for name, address, kind, words in _TOPICS},
        "operations": {f"hear_{name}": _operation(name, kind) for name, _, kind, _ in _TOPICS},
        "components": {
            "messages": {kind.__name__: _message(kind) for kind in kinds},
            "schemas": schemas,
        },
    }


def _channel(address: str, kind: type[msgspec.Struct], words: dict[str, Any]) -> dict[str, Any]:
    return {
        "address": address,
        "description": _said_of(kind),
        "messages": {kind.__name__: {"$ref": f"#/components/messages/{kind.__name__}"}},
        "parameters": {word: dict(about) for word, about in words.items()},
    }


def _operation(name: str, kind: type[msgspec.Struct]) -> dict[str, Any]:
    # seen from whoever offers the topics, as AsyncAPI asks for
    return {
        "action": "send",
        "channel": {"$ref": f"#/channels/{name}"},
        "messages": [{"$ref": f"#/channels/{name}/messages/{kind.__name__}"}],
    }


def _message(kind: type[msgspec.Struct]) -> dict[str, Any]:
    return {
        "summary": _said_of(kind),
        "contentType": "application/json",
        "payload": {"$ref": f"#/components/schemas/{kind.__name__}"},
    }


def _said_of(kind: type[msgspec.Struct]) -> str:
    return (inspect.getdoc(kind) or "").partition("\n")[0]
