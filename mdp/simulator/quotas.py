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
class Tally:
    """What one address did with one quota since the beginning.

    Attributes:
        asked: Requests.
        refused: Of these, how many were refused.
        highest: Highest use in any window.
    """

    asked: int = 0
    refused: int = 0
    highest: float = 0.0

    def count(self, used: float, *, is_allowed: bool) -> None:
        """Count one request, after which ``used`` is used in the window."""
        self.asked += 1
        self.refused += not is_allowed
        self.highest = max(self.highest, used)

    def describe(self, used: float) -> dict[str, float]:
        """Return it as ``/control/quotas`` shows it."""
        return {"used": used, "highest": self.highest, "asked": self.asked, "refused": self.refused}


@dataclass(slots=True)
class _WeightUse:
    minute: int = -1
    used: int = 0
    refused: int = 0
    bans: int = 0
    banned_until_s: float = 0.0
    tally: Tally = field(default_factory=Tally)


@dataclass(slots=True)
class WeightPerMinute:
    """Binance: weight per calendar minute, or several; who goes on after refusals is banned, longer each time.

    Attributes:
        clock: The real time, in seconds since the epoch: the minutes are those of UTC.
        limit: Weight in a window [rest-api.md "Limits"].
        patience: Refused requests in one minute before the ban. Chosen: the exchange publishes no number.
        shortest_ban_s: First ban; each further one lasts twice as long [rest-api.md: 2 minutes to 3 days].
        longest_ban_s: Longest ban.
        minutes: Length of the window; windows begin at its multiples since the epoch.
    """

    clock: Seconds
    limit: int = 6_000
    patience: int = 10
    shortest_ban_s: float = 120.0
    longest_ban_s: float = 259_200.0
    minutes: int = 1
    _uses: dict[str, _WeightUse] = field(default_factory=dict)

    def take(self, client: str, weight: int) -> WeightVerdict:
        """Count one request of ``client``; refused requests are counted too."""
        verdict = self._judge(client, weight)
        self._uses[client].tally.count(verdict.used, is_allowed=verdict.status == 200)
        return verdict

    def describe(self) -> dict[str, object]:
        """Return the use by every address."""
        window = int(self.clock() // (60 * self.minutes))
        uses = {c: use.tally.describe(use.used if use.minute == window else 0) for c, use in self._uses.items()}
        return {"limit": self.limit, "window_s": 60 * self.minutes, "clients": uses}

    def _judge(self, client: str, weight: int) -> WeightVerdict:
        now, length_s = self.clock(), 60 * self.minutes
        use = self._uses.setdefault(client, _WeightUse())
        if int(now // length_s) != use.minute:
            use.minute, use.used, use.refused = int(now // length_s), 0, 0
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
        return WeightVerdict(use.used, 429, _whole_seconds((use.minute + 1) * length_s - now))


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
    _tallies: dict[str, Tally] = field(default_factory=dict)

    def take(self, client: str) -> WindowVerdict:
        """Count one request of ``client``."""
        verdict = self._judge(client)
        used = len(self._asked.get(client, ()))
        self._tallies.setdefault(client, Tally()).count(used, is_allowed=verdict.is_allowed)
        return verdict

    def describe(self) -> dict[str, object]:
        """Return the use by every address."""
        since = self.clock() - self.window_s
        uses = {
            client: tally.describe(sum(at > since for at in self._asked.get(client, ())))
            for client, tally in self._tallies.items()
        }
        return {"limit": self.limit, "window_s": self.window_s, "clients": uses}

    def _judge(self, client: str) -> WindowVerdict:
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
    _tallies: dict[str, Tally] = field(default_factory=dict)

    def take(self, client: str) -> bool:
        """Tell whether one request of ``client`` is allowed; a refused one costs nothing."""
        left = self.left(client)
        is_allowed = left >= self.cost
        left -= self.cost if is_allowed else 0
        self._buckets[client] = (left, self.clock())
        self._tallies.setdefault(client, Tally()).count(self.size - left, is_allowed=is_allowed)
        return is_allowed

    def left(self, client: str) -> float:
        """Return the credits that an address has now."""
        now = self.clock()
        left, since = self._buckets.get(client, (self.size, now))
        return min(self.size, left + (now - since) * self.refill_per_s)

    def describe(self) -> dict[str, object]:
        """Return the use by every address: credits missing from its bucket."""
        uses = {client: tally.describe(self.size - self.left(client)) for client, tally in self._tallies.items()}
        return {"limit": self.size, "refill_per_s": self.refill_per_s, "cost": self.cost, "clients": uses}


def _whole_seconds(seconds: float) -> int:
    """Round up: a client that waits so long may ask again."""
    return max(1, -int(-seconds // 1))
