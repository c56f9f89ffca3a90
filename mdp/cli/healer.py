"""The process of ``mdp heal``: executes one Dagster run, as its parent orders on stdin.

Each line on stdout is a message in JSON. Not here: what is ordered and shown (``heal``).
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from typing import Any

import msgspec

from mdp.bus.counted import bring_counts
from mdp.cli.heal import Order
from mdp.config.settings import load_settings
from mdp.definitions import defs
from mdp.defs.cores import yield_to_others
from mdp.defs.heal_launching import launch_heal
from mdp.defs.healing import HealConfig
from mdp.defs.launching import fail_orphans, opened_instance, owned
from mdp.logs import bound, configure_logs


def main() -> None:
    """Heal, and say what became durable and what it came to."""
    # stdout is for the messages alone: whatever a library prints goes to stderr, which is the log
    channel = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def say(**message: Any) -> None:
        channel.write(msgspec.json.encode(message) + b"\n")
        channel.flush()

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    settings = load_settings()
    yield_to_others(settings.cpu_share)
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    configure_logs(settings)
    bring_counts(settings)
    definitions = defs()
    locks = settings.run_dir / "runs"
    logging.getLogger("dagster").setLevel(logging.ERROR)
    with opened_instance(settings.run_dir) as instance:
        fail_orphans(instance, locks)
        with owned(order.run_id, locks), bound(run_id=order.run_id):
            ended = launch_heal(
                definitions,
                instance,
                HealConfig(markets=list(order.markets), start=order.start, end=order.end),
                run_id=order.run_id,
                on_materialized=lambda asset, partition: say(asset=asset, partition=partition),
            )
    say(error=ended.error, report=ended.report)


if __name__ == "__main__":
    main()
