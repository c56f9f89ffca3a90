"""The client of the service, for Python.

It speaks HTTP and knows nothing of storage, the bus or settings. What a program needs is here; the packages behind it
are loaded when first used. Not here: the service (``api``), reading without a service (``mdp.read``, ``mdp.buffer``).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mdp.client.async_client import AsyncClient
    from mdp.client.client import Client
    from mdp.client.errors import (
        ApiError,
        BadAnswer,
        Forbidden,
        NotFound,
        ParameterError,
        TooManyRequests,
        Unauthorized,
        Unavailable,
        Unreachable,
        WrongParameter,
    )
    from mdp.client.following import Stream
    from mdp.client.retrying import Retrying
    from mdp.client.streaming import AsyncStream
    from mdp.client.updates import (
        BufferSnapshot,
        CandleUpdate,
        Disconnected,
        Fresh,
        Missing,
        Stale,
        StreamUpdate,
        Told,
    )
    from mdp.client.values import Generation, MarketEntry, Readiness, SnapshotManifest, SnapshotSummary

_HOMES = {
    "client": ("Client",),
    "async_client": ("AsyncClient",),
    "errors": (
        "ApiError", "BadAnswer", "Forbidden", "NotFound", "ParameterError", "TooManyRequests", "Unauthorized",
        "Unavailable", "Unreachable", "WrongParameter",
    ),
    "following": ("Stream",),
    "retrying": ("Retrying",),
    "streaming": ("AsyncStream",),
    "updates": (
        "BufferSnapshot", "CandleUpdate", "Disconnected", "Fresh", "Missing", "Stale", "StreamUpdate", "Told",
    ),
    "values": ("Generation", "MarketEntry", "Readiness", "SnapshotManifest", "SnapshotSummary"),
}  # fmt: skip

__all__ = [
    "ApiError", "AsyncClient", "AsyncStream", "BadAnswer", "BufferSnapshot", "CandleUpdate", "Client", "Disconnected",
    "Forbidden", "Fresh", "Generation", "MarketEntry", "Missing", "NotFound", "ParameterError", "Readiness", "Retrying",
    "SnapshotManifest", "SnapshotSummary", "Stale", "Stream", "StreamUpdate", "Told", "TooManyRequests",
    "Unauthorized", "Unavailable", "Unreachable", "WrongParameter",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"mdp.client.{home}"), name)
    raise AttributeError(f"module 'mdp.client' has no attribute {name!r}")
