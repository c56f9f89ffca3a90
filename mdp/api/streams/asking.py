"""What a client of a WebSocket says, understood or refused in words; the connection goes on.

Not here: the connection (``routes``).
"""

from __future__ import annotations

import time

import msgspec

from mdp.api.streams.catalogue import UnknownTopic
from mdp.api.streams.hub import Client, Hub, now_text
from mdp.api.streams.messages import (
    MOST_TOPICS,
    Ask,
    Message,
    Pong,
    Refused,
    Said,
    Subscribed,
    Unsubscribed,
    read_ask,
)
from mdp.api.streams.topics import Resumed, Topic

MOST_BYTES = 65_536
"""Of one message of a client."""

_BURST, _PER_S = 200.0, 20.0
"""Messages of one client: so many at once, and so many a second in the long run."""


class TooFast(Exception):
    """A client says too much."""


class Asking:
    """What one client says.

    Args:
        hub: Of the process.
        client: Who says it.
    """

    def __init__(self, hub: Hub, client: Client) -> None:
        self._hub = hub
        self._client = client
        self._left, self._asked_at = _BURST, time.monotonic()

    def hear(self, text: str) -> None:
        """Do what is asked and answer.

        Raises:
            TooFast: it is said too much.
        """
        self._count()
        if len(text) > MOST_BYTES:
            return self._answer(Refused(f"a message has at most {MOST_BYTES} bytes"))
        try:
            ask = read_ask(text)
        except (msgspec.DecodeError, RecursionError, UnicodeEncodeError) as error:
            said = str(error)[:300] if isinstance(error, msgspec.DecodeError) else "it cannot be read"
            return self._answer(Refused(f'expected JSON such as {{"op": "subscribe", "topics": [...]}}: {said}'))
        if ask.op == "ping":
            return self._answer(Pong(now_text(), ask.id))
        if not ask.topics:
            return self._answer(Refused("topics: expected at least one, got none", id=ask.id))
        return self._subscribe(ask) if ask.op == "subscribe" else self._unsubscribe(ask)

    def _count(self) -> None:
        now = time.monotonic()
        self._left = min(_BURST, self._left + (now - self._asked_at) * _PER_S) - 1
        self._asked_at = now
        if self._left < 0:
            raise TooFast(f"more than {_PER_S:g} messages a second")

    def _subscribe(self, ask: Ask) -> None:
        hub, client = self._hub, self._client
        topics = self._find(ask)
        heard = client.mailbox.subscriptions.keys() | topics.keys()
        if len(heard) > MOST_TOPICS:
            said = f"a connection hears at most {MOST_TOPICS} topics, with these it would be {len(heard)}"
            self._answer(Refused(said, id=ask.id))
            return
        found = {name: topics[name].since_seq(seq) for name, seq in ask.since.items() if name in topics}
        resumed = {name: one for name, one in found.items() if one is not None}
        self._answer(_subscribed(topics, resumed, hub.heartbeat_s, ask))
        hub.subscribe(client, topics.values(), resumed)
        if "generation.*" in ask.topics:
            hub.subscribe_generations(client)

    def _unsubscribe(self, ask: Ask) -> None:
        mailbox = self._client.mailbox
        if "generation.*" in ask.topics:
            mailbox.wants_generations = False
        gone = [name for name in self._find(ask) if mailbox.unsubscribe(name) is not None]
        self._answer(Unsubscribed(gone, ask.id))

    def _find(self, ask: Ask) -> dict[str, Topic]:
        """Return topics by name; those that are none are answered."""
        found: dict[str, Topic] = {}
        for pattern in ask.topics:
            try:
                found |= {topic.name: topic for topic in self._hub.catalogue.find(pattern)}
            except UnknownTopic as error:
                self._answer(Refused(error.detail, error.topic, error.allowed, ask.id))
        return found

    def _answer(self, said: Said) -> None:
        self._client.mailbox.answer(Message.of(said))


def _subscribed(topics: dict[str, Topic], resumed: dict[str, Resumed], heartbeat_s: float, ask: Ask) -> Subscribed:
    waiting = [name for name, topic in topics.items() if topic.whole() is None]
    return Subscribed([*topics], heartbeat_s, [*resumed], waiting, ask.id)
