"""Numbers that bots send, as bounds that storage understands.

Not here: how an exchange words that one is wrong (``binance``, ``bybit``, ``okx``).
"""

from __future__ import annotations

from mdp.api.compat.candles import NEVER_US


def us_of_ms(value: int | None, otherwise_us: int) -> int:
    """Return milliseconds as microseconds, none later than there are times; ``otherwise_us`` where none were sent."""
    return otherwise_us if value is None else min(value * 1_000, NEVER_US)


def whole(text: str | None) -> int | None:
    """Read a whole number that is not negative; None where it is absent or empty.

    Raises:
        ValueError: something else.
    """
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 20):
        raise ValueError(text[:50])
    return int(text)
