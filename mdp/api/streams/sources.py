"""News that do not come through the mirror: how feeds are, how generations go on.

Both are asked for only while somebody wants them. Not here: candles (``hub``).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress

import msgspec

from mdp.api.streams.catalogue import GENERATION, Catalogue
from mdp.api.streams.messages import Feed, Generation, Message
from mdp.api.streams.topics import Topic
from mdp.bus.live import ValkeyLiveBus
from mdp.bus.topics import GenerationMessage
from mdp.errors import BusUnavailable, MdpError
from mdp.live.health import read_health

_PAUSE_S = 1.0
_NOTHING = msgspec.Raw(b"null")

log = logging.getLogger(__name__)

_read_generation = msgspec.json.Decoder(GenerationMessage).decode


async def tell_feeds(bus: ValkeyLiveBus, catalogue: Catalogue) -> None:
    """Tell how feeds are, once a second, until cancelled."""
    try:
        while True:
            said: dict[str, bytes] = {}
            detail = "no feed tells of itself: none is at work"
            try:
                said = dict(await bus.told("feed/"))
            except BusUnavailable:
                detail = "the bus is away"
            for exchange, topic in catalogue.feeds.items():
                topic.say(_feed(topic.name, exchange, said.get(f"feed/{exchange}"), detail))
            await asyncio.sleep(_PAUSE_S)
    finally:
        catalogue.forget_states("feeds")


def _feed(name: str, exchange: str, said: bytes | None, detail: str) -> Message:
    if said is not None:
        try:
            read_health(said)
        except (MdpError, msgspec.DecodeError):
            said, detail = None, "the feed is of another version, and what it tells cannot be read"
    if said is None:
        return Message.of(Feed(name, exchange, _NOTHING, detail))
    return Message.of(Feed(name, exchange, msgspec.Raw(said)))


async def tell_generations(bus: ValkeyLiveBus, catalogue: Catalogue, on_new: Callable[[Topic], None]) -> None:
    """Tell how generations go on, until cancelled.

    Args:
        bus: To hear them from.
        catalogue: Whose topics.
        on_new: Is told of a generation that is heard of for the first time.
    """

    async def follow() -> None:
        try:
            async with aclosing(bus.subscribe("generation.*")) as messages:
                async for heard in messages:
                    if GENERATION.fullmatch(heard.topic):
                        topic = catalogue.generation(heard.topic)
                        is_new = topic.whole() is None
                        topic.say(_generation(heard.topic, heard.body))
                        if is_new:
                            on_new(topic)
        finally:  # what is said while nobody listens is not heard
            catalogue.forget_states("generation")

    await _for_ever(follow)


def _generation(name: str, body: bytes) -> Message:
    told = _read_generation(body)
    return Message.of(
        Generation(
            name, told.job, told.state, told.exchange, told.symbol, told.start, told.end, told.days, told.days_done,
            told.detail, told.told_at,
        )
    )  # fmt: skip


async def _for_ever(work: Callable[[], Awaitable[None]]) -> None:
    while True:
        with suppress(BusUnavailable):
            try:
                await work()
            except msgspec.DecodeError:
                log.exception("a message of a generation cannot be read")
        await asyncio.sleep(_PAUSE_S)
