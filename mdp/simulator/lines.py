"""The line to each exchange: how long a round trip takes, how many bits it carries.

Not here: what goes over it (``wire``).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from random import Random
from typing import Annotated

from msgspec import Meta, Struct

from mdp.domain.market import Exchange
from mdp.errors import InputError

Milliseconds = Annotated[float, Meta(ge=0, le=60_000)]


class Line(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A line.

    Attributes:
        latency_ms: Round trip added to every request.
        jitter_ms: Up to so much more, evenly spread.
        bandwidth_mbit: Million bits a second, for all answers of the exchange together; None: no limit.
    """

    latency_ms: Milliseconds = 0.0
    jitter_ms: Milliseconds = 0.0
    bandwidth_mbit: Annotated[float, Meta(gt=0, le=1_000_000)] | None = None


class Lines:
    """The lines to all exchanges."""

    def __init__(self, seed: int = 0) -> None:
        self._lines = dict.fromkeys(Exchange, Line())
        self._busy_until_s = dict.fromkeys(Exchange, 0.0)
        self._chance = Random(seed)

    @property
    def settings(self) -> Mapping[Exchange, Line]:
        """The lines as they are set."""
        return self._lines

    def set(self, exchange: Exchange, line: Line) -> None:
        """Replace the line to an exchange."""
        self._lines[exchange] = line

    def set_all(self, line: Line) -> None:
        """Replace the lines to all exchanges."""
        self._lines = dict.fromkeys(Exchange, line)

    def round_trip_s(self, exchange: Exchange) -> float:
        """Return how long the next request is under way."""
        line = self._lines[exchange]
        return (line.latency_ms + (self._chance.uniform(0, line.jitter_ms) if line.jitter_ms else 0)) / 1_000

    async def carry(self, exchange: Exchange, size: int) -> None:
        """Return when the line has carried an answer of ``size`` bytes; answers go one after another."""
        bandwidth_mbit = self._lines[exchange].bandwidth_mbit
        if bandwidth_mbit is None:
            return
        now_s = asyncio.get_running_loop().time()
        end_s = max(now_s, self._busy_until_s[exchange]) + size * 8 / (bandwidth_mbit * 1_000_000)
        self._busy_until_s[exchange] = end_s
        await asyncio.sleep(end_s - now_s)


def read_line(latency_ms: float | None, jitter_ms: float | None, bandwidth_mbit: float | None) -> Line | None:
    """Return the line that a command line describes; None where it says nothing of it.

    Raises:
        InputError: names the argument that is wrong.
    """
    if latency_ms is None and jitter_ms is None and bandwidth_mbit is None:
        return None
    for name, value in (("--latency-ms", latency_ms), ("--jitter-ms", jitter_ms)):
        if value is not None and not 0 <= value <= 60_000:
            raise InputError(name, got=value, expected="milliseconds from 0 to 60000")
    if bandwidth_mbit is not None and not (math.isfinite(bandwidth_mbit) and bandwidth_mbit > 0):
        raise InputError("--bandwidth-mbit", got=bandwidth_mbit, expected="a number above 0")
    return Line(latency_ms=latency_ms or 0.0, jitter_ms=jitter_ms or 0.0, bandwidth_mbit=bandwidth_mbit)
