"""What people read of live trading: a flush as metadata of ``live_buffers``, how late each market is, what changed.

Not here: storing (``live_run``), what feeds tell (``live.health``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from mdp.defs.metadata import records_table
from mdp.domain.interval import format_time
from mdp.domain.market import Market
from mdp.live.health import FeedHealth, MarketHealth
from mdp.pipeline.live_report import Kept, MarketKept
from mdp.ports.live import Backlog

PROMISE_S = 90.0
"""The newest minute of a market opened at most so long ago, by the market's clock: it is forming, or just closed."""

BACKLOG_S = 180.0
"""What closed is stored within so long, or three flushes where that is more."""

_SPARK = "▁▂▃▄▅▆▇█"
_SHOWN = 30


@dataclass(frozen=True, slots=True)
class Lateness:
    """How one market keeps its promise.

    Attributes:
        market: Which.
        lag_s: Seconds of the market since its newest minute opened; None where nobody knows.
        why: What is wrong; empty when nothing is.
    """

    market: str
    lag_s: float | None
    why: str


def lateness(markets: Iterable[Market], feeds: Mapping[str, FeedHealth]) -> list[Lateness]:
    """Judge each market by what its feed tells of it."""
    return [_late(market, feeds.get(market.exchange.value)) for market in markets]


def _late(market: Market, feed: FeedHealth | None) -> Lateness:
    if feed is None:
        return Lateness(str(market), None, "no feed runs")
    own = health_of(feed, market)
    if own is None or own.newest_us is None:
        return Lateness(str(market), None, own.detail if own and own.detail else "its feed has no minute of it yet")
    lag_s = (feed.market_us - own.newest_us) / 1e6
    late = f"its newest minute opened {lag_s:.0f} s ago" if lag_s > PROMISE_S else ""
    return Lateness(str(market), lag_s, late or (f"refused: {own.detail}" if own.state == "refused" else ""))


def health_of(feed: FeedHealth, market: Market) -> MarketHealth | None:
    """Return what a feed tells of one of its markets."""
    return next((one for one in feed.markets if one.market == str(market)), None)


def flush_metadata(
    kept: Sequence[Kept],
    markets: Sequence[Market],
    feeds: Mapping[str, FeedHealth],
    backlog: Backlog | None,
    *,
    problem: str = "",
    lags: Sequence[float] = (),
) -> dict[str, Any]:
    """Return what a flush came to and how the markets are.

    Args:
        kept: The report of each batch.
        markets: Of the settings.
        feeds: What feeds tell, by exchange.
        backlog: What waits now; None where nobody could tell.
        problem: Why something was not stored.
        lags: The largest lag at each of the last flushes, oldest first.
    """
    reports: dict[Market, list[MarketKept]] = {}
    for one in (one for batch in kept for one in batch.markets):
        reports.setdefault(one.market, []).append(one)
    found: dict[str, Any] = {
        "markets": records_table(_COLUMNS, [_record(one, reports.get(one, []), feeds) for one in markets]),
        "stored": _sum(kept, "stored"),
        "revised": _sum(kept, "revised"),
        "rejected": _sum(kept, "rejected"),
        "absent": _sum(kept, "absent"),
        "storing took (s)": round(sum(one.took_s for one in kept), 3),
        "feeds": feeds_table(feeds.values()),
    }
    if backlog is not None:
        found["backlog"] = backlog.entries
    if problem:
        found["not stored"] = problem
    if lags:
        found["largest lag (s)"] = round(lags[-1], 1)
        found["lag of the last flushes"] = dg.MetadataValue.md(f"`{sparkline(lags)}` up to {max(lags[-_SHOWN:]):.0f} s")
    return found


_COLUMNS = (
    "market", "state", "newest", "confirmed_until", "lag_s", "stored", "revised", "rejected", "absent", "buckets",
    "reconnects", "silences", "corrections", "unconfirmed", "inconsistent", "detail",
)  # fmt: skip


def _record(market: Market, reports: Sequence[MarketKept], feeds: Mapping[str, FeedHealth]) -> tuple[Any, ...]:
    feed = feeds.get(market.exchange.value)
    own = None if feed is None else health_of(feed, market)
    lag_s = _late(market, feed).lag_s
    counts = [sum(getattr(one, name) for one in reports) for name in ("stored", "revised", "absent", "buckets")]
    stored, revised, absent, buckets = counts
    rejected = sum(sum(one.rejected.values()) for one in reports)
    told = [own.reconnects, own.silences, own.corrections, own.unconfirmed, own.inconsistent] if own else [None] * 5
    return (
        str(market), own.state if own else "no feed", _time(own.newest_us if own else None),
        _time(own.confirmed_until_us if own else None), None if lag_s is None else round(lag_s, 1),
        stored, revised, rejected, absent, buckets, *told, own.detail if own else "",
    )  # fmt: skip


def feeds_table(feeds: Iterable[FeedHealth]) -> dg.TableMetadataValue:
    """Return the processes as a table."""
    columns = ("exchange", "host", "pid", "since", "rss_mb", "cpu_s", "bus_losses", "lost_entries", "rest_requests")
    rows = [
        (one.exchange, one.host, one.pid, _time(one.started_us), round(one.rss_mb, 1), round(one.cpu_s, 1),
         one.bus_losses, sum(market.lost_entries for market in one.markets),
         sum(market.rest_requests for market in one.markets))
        for one in feeds
    ]  # fmt: skip
    return records_table(columns, rows)


def sparkline(values: Sequence[float]) -> str:
    """Draw the last values as a line of bars: the lowest bar is nothing, the highest the largest of them.

    >>> sparkline([0.0, 30.0, 60.0])
    '▁▄█'
    """
    shown = values[-_SHOWN:]
    top = max(shown, default=0.0) or 1.0
    return "".join(_SPARK[int(max(0.0, value) / top * (len(_SPARK) - 1))] for value in shown)


def changed(before: Mapping[str, FeedHealth], now: Mapping[str, FeedHealth]) -> list[tuple[bool, str]]:
    """Say what a person should know of what changed in the feeds since they were looked at last.

    Returns:
        Sentences, and whether each is a warning.
    """
    said = []
    for exchange, feed in now.items():
        old = before.get(exchange)
        same = old is not None and old.holder == feed.holder
        earlier = {one.market: one for one in old.markets} if old is not None and same else {}
        for one in feed.markets:
            said += _changed_market(earlier.get(one.market), one)
    return said


def _changed_market(old: MarketHealth | None, new: MarketHealth) -> list[tuple[bool, str]]:
    said = []
    if old is None or old.state != new.state:
        why = f": {new.detail}" if new.detail else ""
        is_bad = new.state in ("polling", "refused")
        if is_bad or (old is not None and new.state == "streaming"):
            said.append((is_bad, f"{new.market} is {new.state}{why}"))
    for name, words in _COUNTED.items():
        more = getattr(new, name) - (getattr(old, name) if old is not None else 0)
        if more > 0:
            said.append((name in _GRAVE, f"{new.market}: {more} {words}"))
    return said


_COUNTED = {
    "silences": "streams were silent while REST knew more, and were opened anew",
    "corrections": "finished minutes were given other values",
    "absent": "minutes that the exchange does not have",
    "lost_entries": "entries were given up because the bus was away for too long; healing will find them",
    "inconsistent": "longer candles did not equal their minutes",
    "stored_differs": "minutes in storage differ from the buffer",
}
_GRAVE = {"lost_entries", "inconsistent", "stored_differs", "absent", "silences"}


def _sum(kept: Iterable[Kept], name: str) -> int:
    return sum(one.total(name) for one in kept)


def _time(moment_us: int | None) -> str:
    return "" if moment_us is None else format_time(datetime.fromtimestamp(moment_us // 1_000_000, UTC))
