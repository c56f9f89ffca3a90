"""A bus that remembers what was written, and can be away. Not here: the real one (``mdp.bus``)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from mdp.errors import BusUnavailable


@dataclass
class ScriptedLease:
    bus: ScriptedBus
    name: str
    holder: str

    async def renew(self) -> bool:
        self.bus.require()
        return self.bus.holders.get(self.name) == self.holder

    async def release(self) -> None:
        if self.bus.holders.get(self.name) == self.holder:
            del self.bus.holders[self.name]


@dataclass
class ScriptedBus:
    epoch: str = "one"
    is_away: bool = False
    holders: dict[str, str] = field(default_factory=dict)
    steps: list[tuple[Any, ...]] = field(default_factory=list)
    may_answer: asyncio.Event | None = None

    def require(self) -> None:
        if self.is_away:
            raise BusUnavailable("away")

    async def publish(self, market, changes, entries=()) -> None:
        if self.may_answer is not None:
            await self.may_answer.wait()
        self.require()
        self.steps.append(("publish", tuple(changes), tuple(entries)))

    async def rewrite(self, market, buffers) -> None:
        self.require()
        self.steps.append(("rewrite", dict(buffers)))

    async def lease(self, name, holder, *, for_s):
        self.require()
        if self.holders.setdefault(name, holder) != holder:
            return None
        return ScriptedLease(self, name, holder)

    async def holder_of(self, name):
        return self.holders.get(name)

    @property
    def entries(self) -> list[Any]:
        return [entry for step in self.steps if step[0] == "publish" for entry in step[2]]

    @property
    def changes(self) -> list[Any]:
        return [change for step in self.steps if step[0] == "publish" for change in step[1]]
