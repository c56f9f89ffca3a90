"""The WebSocket as AsyncAPI 3, made of the classes of its messages, for ``docs/streams-asyncapi.yaml``.

Not here: the messages (``messages``), topics of the bus itself (``bus.asyncapi``).
"""

from __future__ import annotations

import inspect
from typing import Any

import msgspec

from mdp.api.streams.messages import SAID, Ask, schema_types

_DESCRIPTION = """\
Changes of candles as they happen, over one WebSocket. The same messages come as server-sent events from
`/api/v1/stream/events`.

A subscription is answered by `subscribed`. Then each topic's `snapshot` comes, or, with a `since` from which it can go
on, only what changed after it; then each change in order. Where later changes of a candle replaced earlier ones before
they were sent, `skipped` says how many: `seq` is always the last one + 1 + `skipped`, so that a client can prove that
nothing was lost.
"""


def asyncapi_document() -> dict[str, Any]:
    """Return the description of the WebSocket."""
    kinds = schema_types()
    _, schemas = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "mdp streams", "version": "1.0.0", "description": _DESCRIPTION},
        "defaultContentType": "application/json",
        "channels": {
            "stream": {
                "address": "/api/v1/stream",
                "description": "One connection; text only.",
                "messages": {kind.__name__: {"$ref": f"#/components/messages/{kind.__name__}"} for kind in kinds},
            }
        },
        # seen from the service, as AsyncAPI asks for
        "operations": {
            "hear": _operation("receive", [Ask]),
            "say": _operation("send", list(SAID)),
        },
        "components": {"messages": {kind.__name__: _message(kind) for kind in kinds}, "schemas": schemas},
    }


def _operation(action: str, kinds: list[Any]) -> dict[str, Any]:
    return {
        "action": action,
        "channel": {"$ref": "#/channels/stream"},
        "messages": [{"$ref": f"#/channels/stream/messages/{kind.__name__}"} for kind in kinds],
    }


def _message(kind: type[msgspec.Struct]) -> dict[str, Any]:
    return {
        "summary": (inspect.getdoc(kind) or "").partition("\n")[0],
        "contentType": "application/json",
        "payload": {"$ref": f"#/components/schemas/{kind.__name__}"},
    }
