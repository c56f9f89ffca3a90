"""``mdp metrics``: what Prometheus reads of the platform, for machines on which no service runs.

Not here: gathering and naming it (``reading.metrics``).
"""

from __future__ import annotations

import asyncio
import sys

from mdp.bus.live import open_live_reader
from mdp.config.settings import Settings, load_settings
from mdp.errors import BusUnavailable
from mdp.reading.metrics import Found, find, platform_exposition


def show_metrics() -> None:
    """Print the metrics; a bus that is away is one of them."""
    sys.stdout.write(platform_exposition(asyncio.run(_find(load_settings()))))


async def _find(settings: Settings) -> Found:
    try:
        async with open_live_reader(settings) as bus:
            return await find(settings, bus)
    except BusUnavailable:
        return await find(settings, None)
