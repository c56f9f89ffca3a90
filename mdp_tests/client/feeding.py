"""A feed of one market that does what a test says, on a real bus.

Not here: the service that hears it (``serving``).
"""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta

from mdp.bus.live import open_live_bus
from mdp.domain.live import CandleState, Change, LiveCandle
from mdp.domain.timeframe import EPOCH, Timeframe
from mdp_tests.client.serving import DAYS, START
from mdp_tests.support.builders import MARKET

FIRST = DAYS * 1440
"""The first live minute, counted as stored ones are: the lake ends before it."""


class Feed:
    """Writes minutes to the bus as a feed does, from a thread of its own, and holds the feed's lease."""

    def __init__(self, settings):
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._opened = open_live_bus(settings)
        self._bus = self._run(self._opened.__aenter__())
        self.next = FIRST
        self.come()

    def _run(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    def come(self):
        """Keep the buffers."""
        self._lease = self._run(self._bus.lease("feed/binance", "test", for_s=600))

    def leave(self):
        """Keep them no more."""
        self._run(self._lease.release())

    def close_minutes(self, number):
        """Let so many further minutes form and close; REST confirms each while the next one forms."""
        for one in range(self.next, self.next + number):
            self._tell(one, CandleState.FORMING)
            if one > FIRST:
                self._tell(one - 1, CandleState.CONFIRMED)
            self._tell(one, CandleState.CLOSED)
        self.next += number

    def _tell(self, number, state):
        self._run(self._bus.publish(MARKET, [Change(Timeframe.M1, live(number, state))]))

    def close(self):
        self._run(self._opened.__aexit__(None, None, None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def live(number, state):
    open_us = (START + timedelta(minutes=number) - EPOCH) // EPOCH.resolution
    close = 100 + number / FIRST  # as the lake has it, so that it does not matter who tells it
    return LiveCandle(open_us, close, close, close, close, 2.0, 200.0, 7, 1, state, "stream", open_us + 60_000_000)
