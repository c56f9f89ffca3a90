"""Changes over a WebSocket: hearing what is asked and sending what is heard, until one of the two ends.

Not here: what is understood of what a client says (``asking``), what it hears (``hub``).
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from fastapi import APIRouter, WebSocket
from starlette.websockets import WebSocketDisconnect, WebSocketState

from mdp.api.doorkeeper import still_allowed
from mdp.api.gate import refuse
from mdp.api.problems import Problem
from mdp.api.streams.asking import Asking, TooFast
from mdp.api.streams.channels import Gone, websocket_channel
from mdp.api.streams.hub import Client, Hub
from mdp.api.surroundings import Around

router = APIRouter()

RESTARTING, LATER, REFUSED, TEXT_ONLY = 1012, 1013, 1008, 1003
"""Why a WebSocket is closed (RFC 6455, 7.4.1, and IANA's registry)."""

_GONE = (Gone, WebSocketDisconnect, RuntimeError, OSError)
"""What sending to and hearing of somebody who left raises; Starlette says it with a ``RuntimeError``."""


@router.websocket("/api/v1/stream")
async def stream(websocket: WebSocket, around: Around) -> None:
    """Changes over a WebSocket; see ``docs/streams.md``."""
    hub = around.hub
    try:
        hub.require_room()
    except Problem as problem:
        await refuse(websocket.scope, websocket.receive, websocket.send, problem)
        return
    await websocket.accept()
    try:
        async with hub.joined(
            websocket_channel(websocket.scope, websocket.send), still_allowed(websocket.scope)
        ) as client:
            code, reason = await _until_one_ends(hub, client, websocket)
    except Problem as problem:  # somebody took the last place meanwhile
        code, reason = LATER, problem.document.detail
    if code and websocket.client_state is WebSocketState.CONNECTED:
        with suppress(RuntimeError, WebSocketDisconnect, OSError):
            async with asyncio.timeout(1):
                await websocket.close(code, reason)


async def _until_one_ends(hub: Hub, client: Client, websocket: WebSocket) -> tuple[int, str]:
    """Hear and send; return with which code and reason to close, 0 where nobody is there any more."""
    reading = asyncio.create_task(_read(Asking(hub, client), client, websocket))
    writing = asyncio.create_task(client.deliver(hub))
    try:
        await asyncio.wait((reading, writing), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (reading, writing):
            task.cancel()
        await asyncio.wait((reading, writing))
    for task in (reading, writing):
        failure = None if task.cancelled() else task.exception()
        if failure is not None and not isinstance(failure, _GONE):
            raise failure
    if not reading.cancelled() and reading.exception() is None:
        return reading.result()
    if not client.mailbox.closing or client.is_cut:
        return 0, ""
    return REFUSED if client.mailbox.is_dismissed else RESTARTING, client.mailbox.closing


async def _read(asking: Asking, client: Client, websocket: WebSocket) -> tuple[int, str]:
    """Hear what is asked; return with which code and reason to close, 0: nobody is there any more."""
    while True:
        message = await websocket.receive()
        if message["type"] == "websocket.disconnect":
            return 0, ""
        text = message.get("text")
        if text is None:
            return TEXT_ONLY, "expected text, not bytes"
        try:
            asking.hear(text)
        except TooFast as error:
            return REFUSED, str(error)
        await client.mailbox.room()
