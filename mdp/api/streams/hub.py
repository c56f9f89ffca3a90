"""Who is connected and hears what: news of the mirror go to whoever wants them, those who do not read are cut off.

Not here: topics (``topics``), what waits for one client (``mailboxes``), how it gets there (``channels``).
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from mdp.api.measures import Measures
from mdp.api.mirror import Mirror
from mdp.api.problems import unavailable
from mdp.api.streams.catalogue import Catalogue
from mdp.api.streams.channels import GOODBYE_S, Channel
from mdp.api.streams.mailboxes import Mailbox
from mdp.api.streams.messages import Closing, Message
from mdp.api.streams.sources import tell_feeds, tell_generations
from mdp.api.streams.topics import Resumed, StateTopic, Topic
from mdp.bus.live import ValkeyLiveBus
from mdp.config.settings import Settings
from mdp.domain.interval import format_time
from mdp.reading.following import Update

END = "the service ends: connect again"
NOT_ALLOWED = "the key is not valid any more"


@dataclass(eq=False)
class Client:
    """Somebody who is connected.

    Attributes:
        mailbox: What is to be sent.
        channel: How.
        spoke_at: When something was sent last.
        is_allowed: Tells whether it may still listen.
        is_cut: Whether it was cut off because it does not read.
    """

    mailbox: Mailbox
    channel: Channel
    spoke_at: float
    is_allowed: Callable[[], bool]
    is_cut: bool = False
    _taken: int = 0
    _moved_at: float = 0.0
    _delivery: asyncio.Task[None] | None = None

    async def deliver(self, hub: Hub) -> None:
        """Send what waits, until it is time to say goodbye, or nobody is there."""
        mailbox, channel = self.mailbox, self.channel
        self._delivery = asyncio.current_task()
        while True:
            await mailbox.news()
            await channel.ready()
            messages = mailbox.take()
            if messages:
                self.spoke_at = time.monotonic()
                await channel.send(messages, hub.mark if mailbox.is_empty else "")
            if mailbox.closing and mailbox.is_empty:
                return await channel.send([Message.of(Closing(mailbox.closing))], "")

    def is_stuck(self, now: float, patience_s: float) -> bool:
        """Tell whether it has taken nothing for too long of what waits for it."""
        taken = self.channel.taken
        if taken != self._taken or not self.channel.is_held_up or not self._moved_at:
            self._taken, self._moved_at = taken, now
        return now - self._moved_at >= patience_s

    def cut(self) -> None:
        """Cut it off: it does not read, and would not read a goodbye."""
        self.is_cut = True
        self.channel.abort()
        if self._delivery is not None:
            self._delivery.cancel()


class Hub:
    """Where all streams of a process come together.

    Args:
        settings: Of the environment.
        bus: For feeds and generations.
        mirror: For candles.
        measures: Where streams are counted.
        closing: Set when the service ends.

    Attributes:
        catalogue: Its topics.
        heartbeat_s: After so many silent seconds a client hears that it is connected.
    """

    def __init__(
        self, settings: Settings, bus: ValkeyLiveBus, mirror: Mirror, measures: Measures, closing: asyncio.Event
    ) -> None:  # fmt: skip
        own = settings.api
        self.catalogue = Catalogue(mirror, is_live=settings.mode == "live")
        self.heartbeat_s = own.heartbeat_s
        self._bus, self._measures, self._closing = bus, measures, closing
        self._most, self._patience_s = own.max_streams, own.slow_client_s
        self._clients: set[Client] = set()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._name = secrets.token_hex(6)  # of this process's numbers: another one counts otherwise
        self._number = 0
        mirror.listen(self._hear)

    @property
    def mark(self) -> str:
        """Where somebody who has heard everything so far goes on from, in this process."""
        return f"{self._name}-{self._number}"

    def _hear(self, update: Update) -> None:
        key = (update.market, update.timeframe)
        candles, buffers = self.catalogue.candles.get(key), self.catalogue.buffers.get(key)
        self._number += 1
        if candles is not None and buffers is not None:
            candles.take(update, self._number)
            buffers.take(update, self._number)

    @asynccontextmanager
    async def joined(self, channel: Channel, is_allowed: Callable[[], bool] = lambda: True) -> AsyncIterator[Client]:
        """Somebody is connected until the block ends.

        Args:
            channel: How to reach it.
            is_allowed: Is asked about once a second whether it may still listen; if not, it is told goodbye.

        Raises:
            Problem: 503, there are too many, or the service ends.
        """
        self.require_room()
        client = Client(Mailbox(self._measures), channel, time.monotonic(), is_allowed)
        self._clients.add(client)
        self._measures.streams_open += 1
        self._measures.streams_opened += 1
        self._start("watch", self._watch)
        self._start("goodbye", self._say_goodbye)
        try:
            yield client
        finally:
            self._clients.discard(client)
            self._measures.streams_open -= 1
            channel.let_go()
            for name in tuple(client.mailbox.subscriptions):
                client.mailbox.unsubscribe(name)
            if not self._clients:
                await self._stop()

    def require_room(self) -> None:
        """Refuse whoever is too much.

        Raises:
            Problem: 503, there are too many, or the service ends.
        """
        if self._closing.is_set():
            raise unavailable(END, retry_after_s=1)
        if len(self._clients) >= self._most:
            raise unavailable(f"{self._most} streams are open, and no more are allowed (MDP_API__MAX_STREAMS)")

    def subscribe(self, client: Client, topics: Iterable[Topic], resumed: dict[str, Resumed]) -> None:
        """Have a client hear topics; of those in ``resumed`` only what changed, of others the whole first."""
        for topic in topics:
            if isinstance(topic, StateTopic):
                self._start_source(topic)
            client.mailbox.subscribe(topic, resumed.get(topic.name))

    def subscribe_generations(self, client: Client) -> None:
        """Have a client hear of generations that begin later, too."""
        client.mailbox.wants_generations = True
        self._start("generations", self._tell_generations)

    def number_of(self, mark: str) -> int | None:
        """Return the number of a mark; None: of another process, or none at all."""
        name, _, number = mark.partition("-")
        if name != self._name or not number.isascii() or not number.isdigit() or len(number) > 18:
            return None
        return int(number) if int(number) <= self._number else None

    def _start_source(self, topic: Topic) -> None:
        if topic.name.startswith("feeds."):
            self._start("feeds", self._tell_feeds)
        else:
            self._start("generations", self._tell_generations)

    async def _tell_feeds(self) -> None:
        await tell_feeds(self._bus, self.catalogue)

    async def _tell_generations(self) -> None:
        await tell_generations(self._bus, self.catalogue, self._greet)

    def _greet(self, topic: Topic) -> None:
        for client in self._clients:
            if client.mailbox.wants_generations and topic.name not in client.mailbox.subscriptions:
                client.mailbox.subscribe(topic, None)

    def _start(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        if name not in self._tasks or self._tasks[name].done():
            self._tasks[name] = asyncio.create_task(work())

    async def _stop(self) -> None:
        tasks, self._tasks = [*self._tasks.values()], {}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _watch(self) -> None:
        """Look after every client, several times a heartbeat."""
        pause_s = min(1.0, self.heartbeat_s / 4, self._patience_s / 4)
        while True:
            await asyncio.sleep(pause_s)
            now, at = time.monotonic(), now_text()
            for client in tuple(self._clients):
                if client.is_stuck(now, self._patience_s):
                    self._cut(client)
                elif client.mailbox.is_dismissed:
                    client.cut()  # it had a look's time to take the goodbye
                elif not client.is_allowed():
                    client.mailbox.dismiss(NOT_ALLOWED)
                elif now - client.spoke_at >= self.heartbeat_s - pause_s:
                    client.mailbox.beat(at)

    def _cut(self, client: Client) -> None:
        if not client.is_cut:
            self._measures.streams_cut += 1
        client.cut()

    async def _say_goodbye(self) -> None:
        await self._closing.wait()
        for client in self._clients:
            client.mailbox.close(END)
        await asyncio.sleep(GOODBYE_S)
        for client in tuple(self._clients):
            client.cut()


def now_text() -> str:
    """Return the present as it is told."""
    return format_time(datetime.now(UTC).replace(microsecond=0))
