"""What one client has yet to hear: the newest of each candle, never more than a bounded number.

Not here: how it gets to the client (``channels``), what there is to hear (``topics``).
"""

from __future__ import annotations

import asyncio
from collections import deque

from mdp.api.measures import Measures
from mdp.api.streams.messages import Fresh, Heartbeat, Message, Stale
from mdp.api.streams.topics import News, Resumed, Topic

MOST_PENDING = 32
"""Candles of one topic that may wait; of more the whole buffer is sent instead, which is one message."""

MOST_ANSWERS = 64
"""Answers that may wait; until they are taken, nothing more is read of what the client says."""

TAKEN_BYTES = 65_536
"""What is taken at once, about: what waits here can still be replaced, what is written cannot."""


class Subscription:
    """One topic in one mailbox.

    Args:
        topic: What is heard.
        mailbox: Whose.
        resumed: What is known there already; None: nothing, the whole comes first.

    Attributes:
        topic: What is heard.
    """

    __slots__ = ("_is_whole_wanted", "_mailbox", "_pending", "_seq", "_told_age", "topic")

    def __init__(self, topic: Topic, mailbox: Mailbox, resumed: Resumed | None) -> None:
        self.topic = topic
        self._mailbox = mailbox
        self._pending: dict[int, News] = {}
        self._is_whole_wanted = resumed is None
        self._seq = 0
        self._told_age: bool | None = None
        if resumed is not None:
            self._seq = resumed.seq
            self._pending = {news.key: news for news in resumed.news}

    def hear(self, news: News) -> None:
        """Something happened: it replaces what waits of the same candle."""
        if not self._is_whole_wanted:
            pending = self._pending
            if pending.pop(news.key, None) is not None:
                self._mailbox.measures.messages_conflated += 1
            pending[news.key] = news
            if len(pending) > MOST_PENDING:
                self._want_whole()
        self._mailbox.wake(self)

    def hear_whole(self) -> None:
        """So much happened that only the whole tells it."""
        self._want_whole()
        self._mailbox.wake(self)

    def hear_age(self) -> None:
        """Somebody keeps it now, or nobody does."""
        self._mailbox.wake(self)

    def _want_whole(self) -> None:
        self._mailbox.measures.messages_conflated += len(self._pending)
        self._pending.clear()
        self._is_whole_wanted = True

    def take(self, into: list[Message], room: int) -> int:
        """Move what waits into a list until about so many bytes are there; return how many are left free."""
        topic, pending = self.topic, self._pending
        if self._is_whole_wanted:
            whole = topic.whole()
            if whole is None:
                return room  # it comes with the first news
            self._is_whole_wanted = False
            self._seq, self._told_age = topic.seq, topic.is_stale
            into.append(whole)
            room -= len(whole.text)
        while pending and room > 0:
            news = pending.pop(next(iter(pending)))
            message = news.message
            if topic.counts:
                message = message.after_skipped(news.seq - self._seq - 1)
                self._seq = news.seq
            into.append(message)
            room -= len(message.text)
        if not pending and topic.is_stale is not self._told_age:
            self._told_age = topic.is_stale
            into.append(Message.of(Stale(topic.name) if topic.is_stale else Fresh(topic.name)))
        return room

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits."""
        return not self._pending


class Mailbox:
    """Everything that one client has yet to hear.

    Args:
        measures: Where it is counted what was replaced.

    Attributes:
        measures: The same.
        subscriptions: By the name of their topic.
        wants_generations: Whether it hears of generations that begin later, too.
        closing: Why the client is to be told goodbye once nothing waits; empty: it is not.
        is_dismissed: Whether it hears nothing but that.
    """

    def __init__(self, measures: Measures) -> None:
        self.measures = measures
        self.subscriptions: dict[str, Subscription] = {}
        self.wants_generations = False
        self.closing = ""
        self.is_dismissed = False
        self._answers: deque[Message] = deque()
        self._touched: dict[Subscription, None] = {}
        self._beat = ""
        self._news = asyncio.Event()
        self._has_room = asyncio.Event()
        self._has_room.set()

    def subscribe(self, topic: Topic, resumed: Resumed | None) -> None:
        """Hear a topic from now on; whoever hears it already begins anew."""
        self.unsubscribe(topic.name)
        if self.is_dismissed:
            return
        one = Subscription(topic, self, resumed)
        self.subscriptions[topic.name] = one
        topic.listeners.add(one)
        self.wake(one)

    def unsubscribe(self, name: str) -> Topic | None:
        """Hear a topic no more, nor what waits of it; return it where it was heard."""
        one = self.subscriptions.pop(name, None)
        if one is None:
            return None
        one.topic.listeners.discard(one)
        self._touched.pop(one, None)
        return one.topic

    def answer(self, message: Message) -> None:
        """Say this before anything else that waits."""
        if self.is_dismissed:
            return
        self._answers.append(message)
        if len(self._answers) >= MOST_ANSWERS:
            self._has_room.clear()
        self._news.set()

    async def room(self) -> None:
        """Return when there is room for further answers."""
        await self._has_room.wait()

    def beat(self, at: str) -> None:
        """Say that the connection lives, unless there is something else to say."""
        self._beat = at
        self._news.set()

    def close(self, reason: str) -> None:
        """Say goodbye."""
        self.closing = self.closing or reason
        self._news.set()

    def dismiss(self, reason: str) -> None:
        """Say goodbye at once: what waits is not told any more, nor anything that is asked from now on."""
        self.is_dismissed, self.wants_generations = True, False
        for name in tuple(self.subscriptions):
            self.unsubscribe(name)
        self._answers.clear()
        self._has_room.set()
        self.close(reason)

    def wake(self, subscription: Subscription) -> None:
        """Something of a subscription waits."""
        self._touched[subscription] = None
        self._news.set()

    async def news(self) -> None:
        """Return when something waits."""
        await self._news.wait()

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits."""
        return not self._touched and not self._answers

    def take(self) -> list[Message]:
        """Take what is to be sent next; see :attr:`is_empty` for whether that was all."""
        taken: list[Message] = []
        room = TAKEN_BYTES
        while self._answers and room > 0:
            message = self._answers.popleft()
            taken.append(message)
            room -= len(message.text)
        if not self._answers:
            self._has_room.set()
        while self._touched and room > 0:
            one = next(iter(self._touched))
            room = one.take(taken, room)
            if one.is_empty:
                del self._touched[one]
        if self._beat and not taken:
            taken.append(Message.of(Heartbeat(self._beat)))
        self._beat = ""
        if self.is_empty:
            self._news.clear()
        self.measures.messages_sent += len(taken)
        return taken
