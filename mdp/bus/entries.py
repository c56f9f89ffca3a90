"""Entries for storage as bytes, and how many may wait.

Not here: the stream they wait in (``live_script``), judging and storing them (``pipeline``).
"""

from __future__ import annotations

import msgspec

from mdp.domain.live import CandleState, Entry, LiveCandle
from mdp.domain.market import Market

MOST_ENTRIES = 200_000
"""So many may wait: a week of nine markets at about 26,000 a day, and a tenth of the embedded server's memory.

Beyond it the oldest are dropped and counted; what storage lacks is then found as missing days by healing.
"""

ABANDONED_MS = 3_000
"""Whoever took entries and did not finish them within this time is taken to be gone."""


class _Packed(msgspec.Struct, array_like=True):
    market: str
    candle: tuple[int, float, float, float, float, float | None, float | None, int | None, int, str, str, int] | None
    absent_us: tuple[int, ...]
    requests: int
    told_us: int
    detail: str


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Packed).decode


def pack_entry(entry: Entry) -> bytes:
    """Return an entry as bytes."""
    # in the order of the fields of _Packed
    return _encode((str(entry.market), entry.candle, entry.absent_us, entry.requests, entry.told_us, entry.detail))


def unpack_entry(packed: bytes) -> Entry:
    """Return the entry.

    Raises:
        ValueError: another version wrote it, or it is damaged.
    """
    found = _decode(packed)  # msgspec's error is a ValueError
    candle = found.candle
    return Entry(
        Market.parse(found.market),
        None if candle is None else LiveCandle(*candle[:9], CandleState(candle[9]), *candle[10:]),
        found.absent_us,
        found.requests,
        found.told_us,
        found.detail,
    )
