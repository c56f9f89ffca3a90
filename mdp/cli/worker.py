"""A worker of ``mdp backfill``: executes Dagster runs one after the other, as its parent orders.

Each line on stdin is an order, each line on stdout a message, both JSON. Without orders it prepares Dagster's storage,
marks the runs of dead processes as failed and ends. Not here: what to order (``backfill``).
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from datetime import date
from typing import IO, Any

import msgspec

from mdp.bus.counted import bring_counts
from mdp.cli.workers import NO_DAEMON
from mdp.config.settings import Settings, load_settings
from mdp.definitions import defs
from mdp.defs.cores import yield_to_others
from mdp.defs.launching import fail_lost, fail_orphans, launch_range, opened_instance, owned
from mdp.domain.market import Market
from mdp.logs import bound, configure_logs


class Order(msgspec.Struct, frozen=True):
    """Run the job of a market over some days, both included."""

    run_id: str
    market: str
    first: str
    last: str
    resumes: bool = False


def _private_channel() -> IO[bytes]:
    """Take stdout for the messages alone: whatever a library prints goes to stderr, which is the log."""
    channel = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return channel


def _prepare(settings: Settings) -> None:
    yield_to_others(settings.cpu_share)
    configure_logs(settings)
    bring_counts(settings)


def main() -> None:
    """Work until stdin ends."""
    channel = _private_channel()

    def say(**message: Any) -> None:
        channel.write(msgspec.json.encode(message) + b"\n")
        channel.flush()

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    settings = load_settings()
    _prepare(settings)
    definitions = defs()
    locks = settings.run_dir / "runs"
    logging.getLogger("dagster").setLevel(logging.ERROR)
    with opened_instance(settings.run_dir) as instance:
        fail_orphans(instance, locks)
        if NO_DAEMON in sys.argv:
            fail_lost(instance)
        say(kind="ready")
        for line in sys.stdin.buffer:
            order = msgspec.json.decode(line, type=Order)
            with owned(order.run_id, locks), bound(run_id=order.run_id):
                outcome = launch_range(
                    definitions,
                    instance,
                    market=Market.parse(order.market),
                    first=date.fromisoformat(order.first),
                    last=date.fromisoformat(order.last),
                    run_id=order.run_id,
                    on_materialized=lambda asset, partition: say(kind="durable", asset=asset, partition=partition),
                    resumes=order.resumes,
                )
            say(
                kind="ended",
                run_id=order.run_id,
                succeeded=outcome.succeeded,
                error=outcome.error,
                retried=outcome.retried,
            )


if __name__ == "__main__":
    main()
