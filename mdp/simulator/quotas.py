"""How often one address may ask, as each exchange counts it.

Pure: each quota is told the time by the clock it was given, which is the real one when serving; the simulated clock
drives candles, never quotas. Not here: what a refusal looks like on the wire (``binance``, ``bybit``, ``okx``,
``deribit``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

Seconds = Callable[[], float]
"""Tells the real time in seconds, from any fixed instant."""


class WeightVerdict(NamedTuple):
    """What Binance says to one request.

    Attributes:
        used: Weight used in this minute, this request included.
        status: 200, 429 (too much in this minute) or 418 (banned).
        retry_after_s: Whole seconds until asking makes sense again; 0 where allowed.
    """

    used: int
    status: int
    retry_after_s: int


@dataclass(slots=True)
class _WeightUse:
    minute: int = -1
    used: int = 0
    refused: int = 0
    bans: int = 0
    banned_until_s: float = 0.0


@dataclass(slots=True)
class WeightPerMinute:
    """Binance: weight per calendar minute; who goes on after refusals is banned, longer each time.

    Attributes:
        clock: The real time.
        limit: Weight a minute [rest-api.md "Limits"].
        patience: Refused requests in one minute before the ban. Chosen: the exchange publishes no number.
        shortest_ban_s: First ban; each further one lasts twice as long [rest-api.md: 2 minutes to 3 days].
        longest_ban_s: Longest ban.
    """

    clock: Seconds
    limit: int = 6_000
    patience: int = 10
    shortest_ban_s: float = 120.0
    longest_ban_s: float = 259_200.0
    _uses: dict[str, _WeightUse] = field(default_factory=dict)

    def take(self, client: str, weight: int) -> WeightVerdict:
        """Count one request of ``client``; refused requests are counted too."""
        now = self.clock()
        use = self._uses.setdefault(client, _WeightUse())
        if int(now // 60) != use.minute:
            use.minute, use.used, use.refused = int(now // 60), 0, 0
        use.used += weight
        if now < use.banned_until_s:
            return WeightVerdict(use.used, 418, _whole_seconds(use.banned_until_s - now))
        if use.used <= self.limit:
            return WeightVerdict(use.used, 200, 0)
        use.refused += 1
        if use.refused > self.patience:
            ban_s = min(self.shortest_ban_s * 2**use.bans, self.longest_ban_s)
            use.bans += 1
            use.banned_until_s = now + ban_s
            return WeightVerdict(use.used, 418, _whole_seconds(ban_s))
        return WeightVerdict(use.used, 429, _whole_seconds((use.minute + 1) * 60 - now))


class WindowVerdict(NamedTuple):
    """What Bybit or OKX says to one request.

    Attributes:
        is_allowed: Whether it is answered.
        left: Requests left in the window after this one.
        reset_s: Seconds until a request is allowed; 0 where this one was.
    """

    is_allowed: bool
    left: int
    reset_s: float


@dataclass(slots=True)
class RequestsPerWindow:
    """Bybit and OKX: requests in any window of a given length, whenever it starts.

    Attributes:
        clock: The real time.
        limit: Requests in a window.
        window_s: Its length.
        ban_s: How long a breach closes the door (Bybit: ten minutes [docs/v5/rate-limit]); 0: only until the window
            has room again. Refused requests are not counted.
    """

    clock: Seconds
    limit: int
    window_s: float
    ban_s: float = 0.0
    _asked: dict[str, deque[float]] = field(default_factory=dict)
    _banned_until_s: dict[str, float] = field(default_factory=dict)

    def take(self, client: str) -> WindowVerdict:
        """Count one request of ``client``."""
        now = self.clock()
        banned_until_s = self._banned_until_s.get(client, now)
        if now < banned_until_s:
            return WindowVerdict(is_allowed=False, left=0, reset_s=banned_until_s - now)
        asked = self._asked.setdefault(client, deque())
        while asked and asked[0] <= now - self.window_s:
            asked.popleft()
        if len(asked) < self.limit:
            asked.append(now)
            return WindowVerdict(is_allowed=True, left=self.limit - len(asked), reset_s=0.0)
        if self.ban_s:
            self._banned_until_s[client] = now + self.ban_s
            return WindowVerdict(is_allowed=False, left=0, reset_s=self.ban_s)
        return WindowVerdict(is_allowed=False, left=0, reset_s=asked[0] + self.window_s - now)


@dataclass(slots=True)
class Credits:
    """Deribit: a bucket of credits that refills steadily; each request costs some.

    Attributes:
        clock: The real time.
        size: Credits in a full bucket [support article 25944617523357].
        refill_per_s: Credits that come back each second.
        cost: Credits of one non-matching request.
    """

    clock: Seconds
    size: float = 50_000.0
    refill_per_s: float = 10_000.0
    cost: float = 500.0
    _buckets: dict[str, tuple[float, float]] = field(default_factory=dict)

    def take(self, client: str) -> bool:
        """Tell whether one request of ``client`` is allowed; a refused one costs nothing."""
        now = self.clock()
        left, since = self._buckets.get(client, (self.size, now))
        left = min(self.size, left + (now - since) * self.refill_per_s)
        is_allowed = left >= self.cost
        self._buckets[client] = (left - self.cost if is_allowed else left, now)
        return is_allowed


def _whole_seconds(seconds: float) -> int:
    """Round up: a client that waits so long may ask again."""
    return max(1, -int(-seconds // 1))
