"""What is told of one market of a feed.

Not here: its shape (``health``), who tells it (``feed``).
"""

from __future__ import annotations

from mdp.live.health import MarketHealth, State
from mdp.live.market_feed import MarketFeed


def health_of(feed: MarketFeed) -> MarketHealth:
    """Return how a market is."""
    now, tally, counts = feed.now_us(), feed.tally, feed.buffers.counts
    heard_us = feed.watch.heard_us
    return MarketHealth(
        market=str(feed.market),
        state=_state(feed, now),
        newest_us=feed.buffers.newest_us,
        confirmed_until_us=feed.buffers.confirmed_until_us,
        update_age_s=None if heard_us is None else round((now - heard_us) / 1e6, 3),
        closed_lag_ms=tally.closed_lag_ms,
        lag_ms=tally.lag_ms,
        detail="; ".join(filter(None, (feed.trouble, feed.rest_trouble))),
        updates=tally.updates,
        reconnects=tally.reconnects,
        silences=feed.watch.silences,
        corrections=tally.corrections,
        absent=tally.absent,
        rejected=tally.rejected,
        rest_requests=tally.rest_requests,
        rest_failures=tally.rest_failures,
        unconfirmed=len(feed.buffers.unconfirmed(now - feed.means.settle_us)),
        pending_entries=feed.publisher.pending_entries,
        lost_entries=feed.publisher.lost_entries,
        stored_differs=tally.stored_differs,
        checked=counts.checked,
        inconsistent=counts.inconsistent,
        late=counts.late,
        repeated=counts.repeated,
        out_of_order=counts.out_of_order,
        refused=counts.refused,
    )


def _state(feed: MarketFeed, now_us: int) -> State:
    if feed.is_refused:  # also while the stream works: nothing is confirmed then
        return "refused"
    if feed.watch.is_streaming(now_us, feed.pace):
        return "streaming" if feed.is_seeded else "seeding"
    return "polling" if feed.is_seeded else "seeding"
