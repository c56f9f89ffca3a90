"""What a feed tells of itself, once a second, under ``feed/<exchange>`` on the bus.

Not here: who says it (``feed``), who shows it (``cli``, ``defs``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

State = Literal["seeding", "streaming", "polling", "refused"]
"""``seeding``: buffers are being filled. ``streaming``: updates come. ``polling``: the stream is down or silent, REST
keeps the buffers alive. ``refused``: REST refuses the market, so that nothing is confirmed even where the stream works;
it is tried again, in the end every ten minutes."""


class MarketHealth(msgspec.Struct, frozen=True, forbid_unknown_fields=False):
    """One market of a feed. Counts are since the feed began; ``_us`` are microseconds since the epoch, UTC.

    Attributes:
        market: Such as ``binance:BTC-USDT``.
        state: What it lives from.
        newest_us: Open time of the newest minute; None before the first.
        confirmed_until_us: Every earlier minute of the buffer is confirmed, or known to be absent.
        update_age_s: Seconds of the market since the stream gave anything; None before the first.
        closed_lag_ms: How long after its close the stream's newest closed minute was known here, in milliseconds of the
            market; None where the stream told none.
        lag_ms: How long after the exchange sent it the last update came; a clock that is wrong counts.
        detail: Why the stream, or REST, does not work; empty when both do.
        updates: Messages of the stream.
        reconnects: How often the stream was opened again.
        silences: How often it was closed because REST knew more.
        corrections: Finished minutes that were given other values.
        absent: Minutes that the exchange does not have.
        rejected: Minutes that break a rule.
        rest_requests: Requests that were answered.
        rest_failures: Fetches that failed.
        unconfirmed: Minutes of the buffer that REST has yet to confirm.
        pending_entries: Entries that wait for the bus.
        lost_entries: Entries that were given up because the bus was away for too long; healing finds them.
        stored_differs: Minutes that storage held otherwise than the buffer, when they were last compared.
        checked: Longer candles compared with their minutes.
        inconsistent: How many of these comparisons failed.
        late: Minutes that came after later ones.
        repeated: Minutes that said what was known.
        out_of_order: Minutes that came after younger or surer news of them.
        refused: Minutes that no buffer takes: they break a rule, or open in the future.
    """

    market: str
    state: State
    newest_us: int | None = None
    confirmed_until_us: int | None = None
    update_age_s: float | None = None
    closed_lag_ms: float | None = None
    lag_ms: float | None = None
    detail: str = ""
    updates: int = 0
    reconnects: int = 0
    silences: int = 0
    corrections: int = 0
    absent: int = 0
    rejected: int = 0
    rest_requests: int = 0
    rest_failures: int = 0
    unconfirmed: int = 0
    pending_entries: int = 0
    lost_entries: int = 0
    stored_differs: int = 0
    checked: int = 0
    inconsistent: int = 0
    late: int = 0
    repeated: int = 0
    out_of_order: int = 0
    refused: int = 0


class FeedHealth(msgspec.Struct, frozen=True, forbid_unknown_fields=False):
    """One feed.

    Attributes:
        exchange: Whose.
        holder: Of the lease ``feed/<exchange>``.
        pid: Of its process.
        host: Its machine.
        started_us: When it began, by the machine's clock.
        market_us: The market's time when this was told.
        is_stopping: Whether it ends now.
        markets: One by one.
        rss_mb: Memory that it holds, in millions of bytes.
        cpu_s: Seconds of CPU used so far.
        bus_losses: How often the bus was away.
    """

    exchange: str
    holder: str
    pid: int
    host: str
    started_us: int
    market_us: int
    is_stopping: bool
    markets: tuple[MarketHealth, ...]
    rss_mb: float
    cpu_s: float
    bus_losses: int = 0


_decoder = msgspec.json.Decoder(FeedHealth)


def told_under(exchange: str) -> str:
    """Return the name under which the feed of an exchange tells its health; its lease has the same name."""
    return f"feed/{exchange}"


def write_health(health: FeedHealth) -> bytes:
    """Spell it as JSON."""
    return msgspec.json.encode(health)


def read_health(said: bytes) -> FeedHealth:
    """Read what a feed told.

    Raises:
        ValueError: it is not what a feed tells; a feed of another version may run.
    """
    try:
        return _decoder.decode(said)
    except msgspec.DecodeError as error:
        raise ValueError(f"health of a feed: expected what this version tells, got {said[:200]!r}: {error}") from error


def read_feeds(told: Mapping[str, bytes]) -> tuple[dict[str, FeedHealth], list[str]]:
    """Return what feeds tell, by exchange, and what could not be read."""
    feeds, unreadable = {}, []
    for name, said in told.items():
        try:
            health = read_health(said)
        except ValueError as error:
            unreadable.append(f"{name}: {error}")
        else:
            feeds[health.exchange] = health
    return feeds, unreadable
