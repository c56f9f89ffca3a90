"""The verdict on live buffers: is every market as new as promised, and is what closed stored in time?

Not here: the check that asks for it (``assets.live``), the run that gives it as it goes (``live_surroundings``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mdp.defs.live_metadata import BACKLOG_S, PROMISE_S, Lateness
from mdp.defs.metadata import records_table
from mdp.live.health import FeedHealth
from mdp.ports.live import Backlog

CHECK = "buffers_are_fresh"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the promise is kept, and what shows it."""

    passed: bool
    metadata: Mapping[str, Any]


def verdict(
    late: Sequence[Lateness], backlog: Backlog | None, persist_every_s: float, feeds: Mapping[str, FeedHealth]
) -> Verdict:
    """Judge all markets and what waits for storage.

    Args:
        late: How each market keeps its promise.
        backlog: What waits; None where nobody could tell.
        persist_every_s: How often what closed is stored, in real seconds.
        feeds: What feeds tell: theirs is the market's time.
    """
    wrong = [f"{one.market}: {one.why}" for one in late if one.why]
    waits_s = waiting_s(backlog, feeds)
    bound_s = max(BACKLOG_S, 3 * persist_every_s)
    if waits_s is not None and waits_s > bound_s:
        wrong.append(f"storage: the oldest entry waits for {waits_s:.0f} s")
    rows = [
        (one.market, None if one.lag_s is None else round(one.lag_s, 1), PROMISE_S, one.why or "fresh") for one in late
    ]
    return Verdict(
        not wrong,
        {
            "lag": records_table(("market", "lag_s", "promise_s", "verdict"), rows),
            "wrong": "; ".join(wrong) or "nothing",
            "backlog": backlog.entries if backlog else 0,
            "oldest entry waits (s)": round(waits_s or 0.0, 1),
        },
    )


def waiting_s(backlog: Backlog | None, feeds: Mapping[str, FeedHealth]) -> float | None:
    """Return how long the oldest entry waits, in the market's time; None without any, or if no feed tells the time."""
    if backlog is None or backlog.oldest_us is None or not feeds:
        return None
    return max(0.0, (max(feed.market_us for feed in feeds.values()) - backlog.oldest_us) / 1e6)
