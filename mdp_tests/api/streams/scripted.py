"""A hub whose mirror hears what a test says, and a client that believes only what it is told.

Not here: a real bus and a real server (``test_real_streams``).
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

from mdp.api.measures import Measures
from mdp.api.mirror import Mirror
from mdp.api.streams.hub import Hub
from mdp.api.streams.mailboxes import Mailbox
from mdp.config.settings import load_settings
from mdp.domain.candle_buffer import CandleBuffer
from mdp.domain.live import CandleState
from mdp.reading.following import Update
from mdp_tests.api.live_service import FORMING, M1, live_candle
from mdp_tests.support.builders import MARKET

CANDLES, BUFFERS = "candles.binance.BTC-USDT.1m", "buffers.binance.BTC-USDT.1m"
CLOSED = CandleState.CLOSED
SIZE = 100


class Scene:
    """A hub, and what its mirror hears of one buffer.

    Args:
        data_dir: Is not written to.
        api: Settings of the service.
    """

    def __init__(self, data_dir, **api):
        self.settings = load_settings(data_dir=data_dir, simulated=True, markets=(str(MARKET),), api=api)
        self.mirror = Mirror(self.settings, None)
        self.measures = Measures()
        self.closing = asyncio.Event()
        self.hub = Hub(self.settings, None, self.mirror, self.measures, self.closing)

    @property
    def buffer(self):
        return self.mirror.find(MARKET, M1)

    def topic(self, name=CANDLES):
        [found] = self.hub.catalogue.find(name)
        return found

    def begin(self, count=3, seq=10):
        """The buffer is read for the first time."""
        candles = tuple(live_candle(number, 100.0 + number, CLOSED) for number in range(count))
        self._hear(candles[-1], CandleBuffer(MARKET, M1, SIZE, candles, seq, candles[-1].received_us), "read")
        return self

    def change(self, number, close, state=FORMING):
        """One candle changes, as it happens."""
        self._hear(*self._with(number, close, state), "changed")

    def lose(self, *changes):
        """Changes were lost on the way, so that the buffer is read again: each that differs is told."""
        heard = [self._with(*change, keep=True) for change in changes]
        for candle, _ in heard:
            self._hear(candle, self.buffer, "read")

    def age(self):
        """Nobody keeps the buffer any more."""
        self._hear(None, replace(self.buffer, is_stale=True), "stale")

    def come_back(self):
        """It is kept again, and nothing had changed."""
        self._hear(None, replace(self.buffer, is_stale=False), "read")

    def listen(self, name=CANDLES, resumed=None):
        """A mailbox that hears a topic."""
        mailbox = Mailbox(self.measures)
        mailbox.subscribe(self.topic(name), resumed)
        return mailbox

    def _with(self, number, close, state=FORMING, *, keep=False):
        candle = live_candle(number, close, state)
        held = {one.open_us: one for one in self.buffer.candles} | {candle.open_us: candle}
        candles = tuple(held[one] for one in sorted(held))[-(SIZE + 1) :]
        new = replace(self.buffer, candles=candles, seq=self.buffer.seq + 1, is_stale=False)
        if keep:
            self.mirror.places[MARKET, M1].buffer = new
        return candle, new

    def _hear(self, candle, buffer, reason):
        self.mirror._take(Update(MARKET, M1, candle, buffer, reason))


class Believer:
    """Knows of a buffer only what it was told, and checks that nothing was lost.

    Args:
        seq: The last one that it knows.
    """

    def __init__(self, seq=None):
        self.seq = seq
        self.rows = {}
        self.ends = []
        self.is_stale = None

    def hear(self, mailbox):
        """Take everything that waits."""
        while True:
            for message in mailbox.take():
                self.believe(json.loads(message.text))
            if mailbox.is_empty:
                return self

    def believe(self, message):
        if message["type"] == "snapshot":
            self.seq, self.is_stale = message["seq"], message["is_stale"]
            for row in message["rows"]:
                self._know(dict(zip(message["columns"], row, strict=True)))
        elif message["type"] == "candle":
            assert message["seq"] == self.seq + 1 + message.get("skipped", 0), "something was lost"
            self.seq = message["seq"]
            self._know(message)
        else:
            self.is_stale = {"stale": True, "fresh": False}[message["type"]]

    def _know(self, candle):
        said = (candle["close"], candle["state"])
        if self.rows.get(candle["open_time"]) != said and candle["state"] != "forming":
            self.ends.append((candle["open_time"], *said))
        self.rows[candle["open_time"]] = said


def said(mailbox):
    """Everything that waits, as values."""
    found = []
    while not mailbox.is_empty:
        found += [json.loads(message.text) for message in mailbox.take()]
    return found


def kinds(mailbox):
    return [one["type"] for one in said(mailbox)]
