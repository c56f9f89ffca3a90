"""The exchange's time, when the clock of this machine is wrong: told by when the stream says it sent its messages.

Not here: the clock itself (``ports.MarketClock``), reading the exchange's clock by REST (``exchanges.clocks``).
"""

from __future__ import annotations

TRUSTED_US = 2_000_000
"""So far apart the clocks may seem without ours being called wrong: messages take their time."""

MEASURED_TRUSTED_US = 5_000_000
"""The same where REST read the exchange's clock, in real time: over a slow connection that is wrong by seconds."""

_SPAN_US = 60_000_000


class ExchangeTime:
    """How far the exchange's clock is before ours, by the second quickest message of the last minute or two.

    Not by the quickest: a single message with a wrong time would move our clock. Where the exchange does not say when
    it sent its messages, the clock that REST read counts, and that no minute opens in the exchange's future.
    """

    def __init__(self) -> None:
        self._best: list[int] = []
        self._before: list[int] = []
        self._since_us = 0
        self._last_us: int | None = None
        self._measured_us = 0
        self._is_told = False

    def measured(self, ahead_us: int, speed: float) -> None:
        """Note what REST read: the exchange's time less ours.

        Args:
            ahead_us: The difference.
            speed: Of the market's clock: the faster, the more of it passes while an answer is on its way.
        """
        self._measured_us = ahead_us if abs(ahead_us) > MEASURED_TRUSTED_US * max(1.0, speed) else 0

    def heard(self, event_us: int, now_us: int, *, open_us: int = 0, is_told: bool = True) -> None:
        """Note when the exchange says it sent a message that is here now.

        Args:
            event_us: When it was sent; the same again is the same message, which counts once.
            now_us: Our time.
            open_us: When its minute opens.
            is_told: Whether the exchange itself said ``event_us``; else it is when the message came.
        """
        if event_us == self._last_us:
            return
        self._last_us = event_us
        self._is_told = self._is_told or is_told
        ahead_us = (max(event_us, open_us) if is_told else open_us) - now_us
        if not 0 <= now_us - self._since_us < _SPAN_US:
            self._before, self._best, self._since_us = self._best, [], now_us
        self._best = sorted([*self._best, ahead_us])[-2:]

    @property
    def ahead_us(self) -> int:
        """Add this to our time; 0 while our clock is right as far as anybody can tell."""
        known = [two[0] for two in (self._best, self._before) if len(two) > 1]
        if not (known and self._is_told):
            known.append(self._measured_us)
        ahead_us = max(known)
        return ahead_us if abs(ahead_us) > TRUSTED_US else 0
