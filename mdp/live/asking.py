"""When REST is asked about one market, and when its stream counts as dead. Pure: the market's time is handed in.

REST never stops because a stream exists: it confirms each minute once it has settled, keeps the buffers alive while the
stream is down, and is the witness against a stream that is silent.
Not here: sending the request, reading the answer (``market_feed``).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from mdp.domain.live import LiveCandle

SECOND_US = 1_000_000


class Reason(StrEnum):
    """Why REST is asked."""

    CONFIRM = "confirm"
    DOWN = "stream down"
    SILENT = "stream silent"


@dataclass(frozen=True, slots=True)
class Pace:
    """How often, in microseconds of the market.

    However fast the market's clock runs, no wait is shorter in real time than a stream needs to be read.

    Attributes:
        silence_us: A stream that gives nothing for so long is doubted.
        grace_us: So long it has to give what REST had, before it counts as dead.
        poll_us: Between two questions while the stream does not work.
        again_us: Before a minute that REST does not have finished yet is asked for again.
    """

    silence_us: int
    grace_us: int
    poll_us: int
    again_us: int

    @classmethod
    def at_speed(cls, speed: float, silence_s: float) -> Pace:
        """Return the pace for a market's clock that runs so many times as fast as ours."""

        def us(market_s: float, least_real_s: float) -> int:
            return round(max(market_s, least_real_s * speed) * SECOND_US)

        return cls(us(silence_s, 0.5), us(1, 0.2), us(2, 0.25), us(2, 0.25))


class Watch:
    """What is known of one stream's silence, and of REST against it.

    Attributes:
        heard_us: The market's time of the stream's last update; None before the first.
        silences: How often it counted as dead.
    """

    def __init__(self) -> None:
        self.heard_us: int | None = None
        self.silences = 0
        self._connected_us: int | None = None
        self._told: LiveCandle | None = None
        self._ahead: tuple[LiveCandle, int] | None = None
        self._asked_us = 0
        self._patience = 1
        self._is_up = False

    def connecting(self, now_us: int) -> None:
        """Say that it is being subscribed to; from now on silence counts."""
        self._connected_us, self._told, self._ahead, self._is_up = now_us, None, None, False

    def disconnected(self) -> None:
        """Say that it broke: REST is due at once."""
        self._connected_us, self._ahead, self._is_up = None, None, False
        self._asked_us = 0

    def is_streaming(self, now_us: int, pace: Pace) -> bool:
        """Tell whether it gives updates, or has a market in which nothing happens."""
        return self._is_up and (self._ahead is None or self.silent_us(now_us) < pace.silence_us)

    def heard(self, candle: LiveCandle, now_us: int) -> None:
        """Note an update of the stream."""
        self.heard_us = now_us
        self._told = candle
        self._is_up = True
        if self._ahead is not None and not is_ahead(self._ahead[0], candle):
            self._ahead = None
        if self._ahead is None:
            self._patience = 1

    def silent_us(self, now_us: int) -> int:
        """Return for how long it has said nothing: 0 while it is not connected."""
        if self._connected_us is None:
            return 0
        return max(0, now_us - max(self._connected_us, self.heard_us or 0))

    def due(self, now_us: int, pace: Pace) -> Reason | None:
        """Tell whether REST is to be asked because of the stream, now."""
        if now_us < self._asked_us:  # the market's clock was set back
            self._asked_us = 0
        is_silent = self.silent_us(now_us) >= pace.silence_us  # also if it was accepted and never spoke
        if self._is_up and not is_silent:
            return None
        wait_us = pace.grace_us if self._ahead is not None else pace.poll_us
        if now_us - self._asked_us < wait_us:
            return None
        return Reason.SILENT if is_silent else Reason.DOWN

    def asked(self, now_us: int) -> None:
        """Note that REST is asked."""
        self._asked_us = now_us

    def is_dead(self, newest: LiveCandle | None, now_us: int, pace: Pace) -> bool:
        """Judge a silent stream by the newest minute that REST knows; True: open it anew.

        REST is ahead by nature: a stream tells every second or two. So the stream is dead only if what REST knew is
        still not told a while later. A market in which nothing happens is left alone, also if much happened before the
        stream was opened: the first answer while it has not spoken tells where it began. A stream that is opened
        anew in vain is given twice as long each time, up to 32 times: REST keeps the buffers alive meanwhile.
        """
        if newest is None:
            return False
        if self._told is None:  # not a word since it was opened: what REST knows beyond this it does not tell
            self._told = newest
            return False
        if self.silent_us(now_us) < pace.silence_us * self._patience:
            return False
        if self._ahead is None:
            if is_ahead(newest, self._told):
                self._ahead = (newest, now_us)
            return False
        if now_us - self._ahead[1] < pace.grace_us:
            return False
        self._ahead = None
        self.silences += 1
        self._patience = min(self._patience * 2, 32)
        return True


def is_ahead(rest: LiveCandle, told: LiveCandle) -> bool:
    """Tell whether REST knows more than a stream told: a newer minute, or more of the same one."""
    if rest.open_us != told.open_us:
        return rest.open_us > told.open_us
    pairs = ((rest.volume, told.volume), (rest.trades, told.trades))
    known = [(mine, other) for mine, other in pairs if mine is not None and other is not None]
    if known:
        return any(mine > other for mine, other in known)
    return rest[1:5] != told[1:5]  # an index has no volume


def confirmation_start(unconfirmed: tuple[int, ...], now_us: int, settle_us: int, last: int, step_us: int) -> int:
    """Return from which open time on a confirmation asks: the first that is due, and the last settled minutes anyway.

    Args:
        unconfirmed: Open times that are due, ascending.
        now_us: The market's time.
        settle_us: The exchange's settling time.
        last: How many settled minutes are asked for again.
        step_us: Length of a minute.
    """
    settled = now_us - settle_us
    again = settled - settled % step_us - last * step_us
    return min(unconfirmed[0], again) if unconfirmed else again
