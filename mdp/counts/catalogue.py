"""All that is counted, by name: the names are those that Prometheus reads, less their ``_total``.

Values of labels come from our own code and settings, never from what an exchange or a client sent: there are few of
them, whatever happens. Not here: counting (``counting``).
"""

from __future__ import annotations

from typing import NamedTuple


class Counter(NamedTuple):
    """Something that only grows.

    Attributes:
        name: Without ``_total``.
        help: One sentence.
        labels: Their names, in the order in which values are given.
    """

    name: str
    help: str
    labels: tuple[str, ...]


class Level(NamedTuple):
    """Something that was so when it was last looked at; the fields are those of a counter."""

    name: str
    help: str
    labels: tuple[str, ...]


_FETCHES = (
    Counter(
        "mdp_fetch_requests",
        "Requests sent to an exchange, by outcome: answered, cancelled, or the name of our error.",
        ("exchange", "outcome"),
    ),
    Counter("mdp_fetch_seconds", "Seconds from sending a request to having read its answer.", ("exchange",)),
    Counter("mdp_fetch_bytes", "Bytes of answers to these requests, unpacked.", ("exchange",)),
    Counter("mdp_fetch_retries", "Requests that were sent again, by the error that was the reason.",
            ("exchange", "reason")),
    Counter("mdp_fetch_budget_waited_seconds", "Seconds that requests waited for the budget.", ("exchange",)),
    Counter("mdp_fetch_candles", "Candles that were collected, before they are judged.", ("exchange", "source")),
    Counter("mdp_fetch_slices", "Slices that were asked for, by outcome: collected, or the name of our error.",
            ("exchange", "outcome")),
)  # fmt: skip

_ARCHIVES = (
    Counter(
        "mdp_archive_requests",
        "Files of an archive that were asked for, by outcome: answered, absent, cancelled, or the name of our error.",
        ("exchange", "outcome"),
    ),
    Counter("mdp_archive_seconds", "Seconds from asking for a file to having it, waits for bandwidth included.",
            ("exchange",)),
    Counter("mdp_archive_bytes", "Bytes of files of an archive, packed.", ("exchange",)),
)  # fmt: skip

_STORES = (
    Counter(
        "mdp_store_writes",
        "Writes to a table, by outcome: stored, unchanged, or the name of our error.",
        ("table", "outcome"),
    ),
    Counter("mdp_store_rows", "Rows that were written; those of rejected_* and revisions are counted the same.",
            ("table",)),
    Counter("mdp_store_seconds", "Seconds that writes took, failed ones included.", ("table",)),
    Counter("mdp_partitions_stored", "Days of a market that became durable.", ("asset",)),
    Counter("mdp_step_failures", "Steps of runs that failed or have to be tried again, by error.", ("error",)),
)  # fmt: skip

COUNTERS: dict[str, Counter] = {one.name: one for one in (*_FETCHES, *_ARCHIVES, *_STORES)}

LEVELS: dict[str, Level] = {
    one.name: one
    for one in (
        Level("mdp_coverage_ratio", "Minutes present ÷ expected, when coverage was last reported.", ("market",)),
        Level(
            "mdp_missing_candles",
            "Minutes without a candle, by cause, when coverage was last reported; permanent ones are not unknown.",
            ("market", "cause"),
        ),
        Level(
            "mdp_partitions_not_collected",
            "Days of a market whose latest attempt failed, when last reported.",
            ("market",),
        ),
        Level("mdp_coverage_reported_timestamp_seconds", "When coverage was last reported.", ()),
    )
}
