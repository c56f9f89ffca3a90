"""Changes as server-sent events, for browsers and for whatever reads lines.

Not here: the WebSocket (``websocket``), what is heard (``hub``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from mdp.api.doorkeeper import still_allowed
from mdp.api.problems import documented, wrong_parameter
from mdp.api.streams.catalogue import UnknownTopic
from mdp.api.streams.channels import GOODBYE_S, EventChannel, transport_of
from mdp.api.streams.hub import Client, Hub
from mdp.api.streams.messages import MOST_TOPICS, Message, Subscribed
from mdp.api.streams.topics import Resumed, Topic
from mdp.api.surroundings import Around

router = APIRouter()

RETRY_MS = 2_000
"""After so long a browser connects again."""

_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would hold events back
]

_EXAMPLE = """\
retry: 2000

event: subscribed
data: {"type":"subscribed","topics":["candles.binance.BTC-USDT.1m"],"heartbeat_s":15.0}

event: candle
data: {"type":"candle","topic":"candles.binance.BTC-USDT.1m","seq":48212,"exchange":"binance","symbol":"BTC-USDT",\
"timeframe":"1m","open_time":"2024-12-30T10:15:00Z","open":93601.9,"high":93602.0,"low":93598.4,"close":93600.0,\
"volume":0.62,"quote_volume":58031.7,"trades":88,"minutes":1,"state":"closed","source":"stream",\
"received_at":"2024-12-30T10:16:00.041Z"}
id: 5f0c9a7be2d1-4711

"""


class EventStream(Response):
    """Server-sent events until somebody leaves.

    Args:
        hub: Of the process.
        topics: What is heard.
        resumed: Of them, those of which only what changed is sent.
        has_generations: Whether those that begin later are heard, too.
    """

    media_type = "text/event-stream"

    def __init__(
        self, hub: Hub, topics: dict[str, Topic], resumed: dict[str, Resumed], *, has_generations: bool
    ) -> None:  # fmt: skip
        super().__init__()
        self.raw_headers = list(_HEADERS)
        self._hub, self._topics, self._resumed = hub, topics, resumed
        self._has_generations = has_generations

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the client leaves, is cut off, or the service ends."""
        hub = self._hub
        channel = EventChannel(send, transport_of(scope))
        async with hub.joined(channel, still_allowed(scope)) as client:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            retry = b"retry: %d\n\n" % RETRY_MS
            await send({"type": "http.response.body", "body": retry, "more_body": True})
            waiting = [name for name, topic in self._topics.items() if topic.whole() is None]
            said = Subscribed([*self._topics], hub.heartbeat_s, [*self._resumed], waiting)
            client.mailbox.answer(Message.of(said))
            hub.subscribe(client, self._topics.values(), self._resumed)
            if self._has_generations:
                hub.subscribe_generations(client)
            is_over = await _until_it_leaves(hub, client, receive)
        if is_over:
            with suppress(OSError):
                await _end(send, channel)


async def _end(send: Send, channel: EventChannel) -> None:
    try:
        async with asyncio.timeout(GOODBYE_S):
            await send({"type": "http.response.body", "body": b"", "more_body": False})
    except TimeoutError:
        channel.abort()


async def _until_it_leaves(hub: Hub, client: Client, receive: Receive) -> bool:
    """Send; return whether the end is to be told."""
    writing = asyncio.create_task(client.deliver(hub))
    leaving = asyncio.create_task(_left(receive))
    try:
        await asyncio.wait((writing, leaving), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (writing, leaving):
            task.cancel()
        await asyncio.wait((writing, leaving))
    failure = None if writing.cancelled() else writing.exception()
    if failure is not None and not isinstance(failure, OSError):
        raise failure
    return not writing.cancelled() and failure is None


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


@router.get(
    "/api/v1/stream/events",
    summary="Changes as server-sent events",
    response_class=Response,
    responses={
        200: {
            "description": "Events until one side ends the connection, each with the JSON of the same message of the "
            "WebSocket as `data`, its type as `event` (`error-message` for `error`), and an `id` for coming back.",
            "content": {"text/event-stream": {"schema": {"type": "string"}, "example": _EXAMPLE}},
        },
        **documented(),
    },
)
async def events(
    request: Request,
    around: Around,
    topic: Annotated[
        list[str] | None,
        Query(
            description="What to hear; may be given again, a part may be `*`: `candles.{exchange}.{symbol}."
            "{timeframe}`, `buffers.…`, `feeds.{exchange}`, `generation.{id}`.",
            examples=[["candles.binance.BTC-USDT.1m"]],
        ),
    ] = None,
    since: Annotated[
        str | None, Query(description="The `id` of the last event that was heard.", examples=["5f0c9a7be2d1-4711"])
    ] = None,
    last_event_id: Annotated[str | None, Header(description="The same, as browsers send it; it counts first.")] = None,
) -> Response:
    """First `subscribed`, then each topic's `snapshot`, then each change as it comes.

    Who comes back with the `id` of the last event gets only what changed since; an `id` of before a restart, or of too
    long ago, gets snapshots again. The same over a WebSocket, with subscribing and unsubscribing on the
    way: `/api/v1/stream`, in `docs/streams.md`.
    """
    _only_known(request)
    hub = around.hub
    topics = _topics(hub, topic or [])
    hub.require_room()
    number = hub.number_of(last_event_id or since or "")
    resumed = {}
    if number is not None:
        found = {name: one.since_number(number) for name, one in topics.items()}
        resumed = {name: one for name, one in found.items() if one is not None}
    return EventStream(hub, topics, resumed, has_generations="generation.*" in (topic or []))


def _topics(hub: Hub, patterns: Sequence[str]) -> dict[str, Topic]:
    found: dict[str, Topic] = {}
    if not patterns or len(patterns) > MOST_TOPICS:
        raise wrong_parameter("topic", len(patterns) or None, f"1 to {MOST_TOPICS} topics")
    for pattern in patterns:
        try:
            found |= {topic.name: topic for topic in hub.catalogue.find(pattern)}
        except UnknownTopic as error:
            raise wrong_parameter("topic", pattern, error.expected, error.allowed) from error
    if len(found) > MOST_TOPICS:
        raise wrong_parameter("topic", len(found), f"at most {MOST_TOPICS} topics of one connection")
    return found


def _only_known(request: Request) -> None:
    for name in request.query_params:
        if name not in {"topic", "since"}:
            raise wrong_parameter(name, request.query_params[name], "no such parameter, but topic or since")
    if len(request.query_params.getlist("since")) > 1:
        raise wrong_parameter("since", ", ".join(request.query_params.getlist("since")), "to be given once")
