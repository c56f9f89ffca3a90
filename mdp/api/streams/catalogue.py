"""Which topics there are, and what a pattern means.

Not here: what happens on them (``hub``).
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Sequence
from typing import Literal

from mdp.api.mirror import Mirror
from mdp.api.streams.topics import BufferTopic, CandleTopic, StateTopic, Topic
from mdp.domain.timeframe import Timeframe

GENERATION = re.compile(r"generation\.[A-Za-z0-9_-]{1,64}")

_MOST_GENERATIONS = 1_000
_SHOWN = 100


class UnknownTopic(Exception):
    """There is no such topic.

    Attributes:
        topic: As it was asked for, cut.
        detail: What was expected.
        allowed: What there is, as patterns.
    """

    def __init__(self, topic: str, expected: str, allowed: Sequence[str]) -> None:
        self.topic = topic[:_SHOWN]
        self.expected = expected
        self.detail = f"there is no topic {self.topic!r}: expected {expected}"
        self.allowed = list(allowed)
        super().__init__(self.detail)


class Catalogue:
    """All topics of a service.

    Args:
        mirror: Its buffers.
        is_live: Whether feeds may keep them.

    Attributes:
        candles: By market and timeframe.
        buffers: The same.
        feeds: By exchange.
    """

    def __init__(self, mirror: Mirror, *, is_live: bool) -> None:
        places = mirror.places.items() if is_live else ()
        self._is_live = is_live
        self.candles = {key: CandleTopic(*key, place) for key, place in places}
        self.buffers = {key: BufferTopic(*key, place) for key, place in places}
        self.feeds = {market.exchange.value: StateTopic(f"feeds.{market.exchange.value}") for market, _ in self.candles}
        self._generations: OrderedDict[str, StateTopic] = OrderedDict()
        fixed: list[Topic] = [*self.candles.values(), *self.buffers.values(), *self.feeds.values()]
        self._fixed = {topic.name: topic for topic in fixed}
        self._allowed = self._patterns()

    def find(self, pattern: str) -> list[Topic]:
        """Return the topics of a pattern; with ``generation.*`` those there are now.

        Raises:
            UnknownTopic: there is none.
        """
        found = self._fixed.get(pattern)
        if found is not None:
            return [found]
        if pattern == "generation.*":
            return [*self._generations.values()]
        if GENERATION.fullmatch(pattern):
            return [self.generation(pattern)]
        parts = pattern.split(".")
        matching = [topic for name, topic in self._fixed.items() if "*" in parts and _fits(name.split("."), parts)]
        if not matching:
            raise UnknownTopic(pattern, self._expected(parts[0]), self._allowed)
        return matching

    def generation(self, name: str) -> StateTopic:
        """Return the topic of a generation, which need not be known."""
        found = self._generations.get(name)
        if found is None:
            found = self._generations[name] = StateTopic(name)
            self._forget_generations()
        return found

    def forget_states(self, kind: Literal["feeds", "generation"]) -> None:
        """Forget how feeds or generations were."""
        for topic in (self.feeds if kind == "feeds" else self._generations).values():
            topic.forget()

    def _forget_generations(self) -> None:
        if len(self._generations) > _MOST_GENERATIONS:
            unheard = [name for name, topic in self._generations.items() if not topic.listeners]
            for name in unheard[: len(self._generations) - _MOST_GENERATIONS]:
                del self._generations[name]

    def _patterns(self) -> list[str]:
        markets = {f"{market.exchange.value}.{market.symbol_key}": None for market, _ in self.candles}
        kinds = ("candles", "buffers")
        patterns = [f"{kind}.{market}.{timeframe}" for kind in kinds for market in markets for timeframe in ("*",)]
        return [*patterns, *(topic.name for topic in self.feeds.values()), "generation.*"]

    def _expected(self, kind: str) -> str:
        if not self._is_live:
            return "generation.<id>, for the service runs in mode backtest, where no feed keeps buffers"
        if kind in {"candles", "buffers"}:
            return f"{kind}.<exchange>.<symbol>.<timeframe> of a market there is and one of {', '.join(Timeframe)}"
        if kind == "feeds":
            return f"feeds.<exchange> with one of {', '.join(self.feeds)}"
        if kind == "generation":
            return "generation.<id>"
        return "candles.…, buffers.…, feeds.<exchange> or generation.<id>"


def _fits(name: Sequence[str], pattern: Sequence[str]) -> bool:
    return len(name) == len(pattern) and all(
        given in ("*", part) for part, given in zip(name, pattern, strict=True)
    )  # fmt: skip
