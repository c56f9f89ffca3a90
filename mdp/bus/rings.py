"""A buffer as bytes: a header and one row of fixed size for each slot, at ``(open / length) mod (size + 1)``.

A row counts only if its open time lies within the last ``size`` + 1 slots of the newest one. So a late, repeated or
corrected candle overwrites its own row and no other, a jump over many slots needs no clearing, and a reader needs one
``GET``. Little-endian. Not here: writing it in one step with everything else (``live_script``).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from math import isfinite, nan

from mdp.domain.live import Buffer, CandleState, LiveCandle
from mdp.domain.market import Market
from mdp.domain.timeframe import Timeframe
from mdp.errors import InputError

MAGIC = b"MDR1"
"""First bytes of a ring of this layout; anything else counts as no ring."""

HEADER = struct.Struct("<4sIqqq")
"""Magic, size, seq, newest open time, written: times in microseconds."""

ROW = struct.Struct("<qddddddqqHBB")
"""Open time, open, high, low, close, volume, quote volume, trades, received, minutes, state, source.

NaN is a volume, and -1 are trades, that the exchange does not give. State 0: no candle was ever written here.
"""

_STATES = (None, CandleState.FORMING, CandleState.CLOSED, CandleState.CONFIRMED, CandleState.CORRECTED)
_SOURCES = ("stream", "rest", "archive", "resampled")
_STATE_CODES = {state: code for code, state in enumerate(_STATES) if state is not None}
_SOURCE_CODES = {source: code for code, source in enumerate(_SOURCES)}


def pack_row(candle: LiveCandle) -> bytes:
    """Return the row of a candle.

    Raises:
        InputError: a figure that is no number, or a state or source that nobody knows.
    """
    open_us, first, high, low, close, volume, quote_volume, trades, minutes, state, source, received_us = candle
    if not isfinite(first + high + low + close + (volume or 0.0) + (quote_volume or 0.0)):
        raise InputError("candle", got=candle, expected="prices and volumes that are finite numbers")
    try:
        return ROW.pack(
            open_us,
            first,
            high,
            low,
            close,
            nan if volume is None else volume,
            nan if quote_volume is None else quote_volume,
            -1 if trades is None else trades,
            received_us,
            minutes,
            _STATE_CODES[state],
            _SOURCE_CODES[source],
        )
    except (KeyError, struct.error) as error:
        expected = f"whole times, trades and minutes, a state of CandleState, a source among {', '.join(_SOURCES)}"
        raise InputError("candle", got=candle, expected=f"{expected} ({error})") from error


def pack_rows(candles: Iterable[LiveCandle], size: int, slot_us: int) -> tuple[bytes, int]:
    """Return all rows of a ring, and the newest open time; 0 without any candle.

    Args:
        candles: In any order; of one slot the last one counts, and what is older than the ring covers is left out.
        size: Slots before the newest one.
        slot_us: Length of a candle.
    """
    known = {candle.open_us: candle for candle in candles}
    newest_us = max(known, default=0)
    rows = bytearray(ROW.size * (size + 1))
    for open_us, candle in known.items():
        if open_us >= newest_us - size * slot_us:
            at = open_us // slot_us % (size + 1) * ROW.size
            rows[at : at + ROW.size] = pack_row(candle)
    return bytes(rows), newest_us


def unpack_ring(ring: bytes | None, market: Market, timeframe: Timeframe) -> Buffer | None:
    """Return the buffer that a ring holds; None for none, or one of a layout that this version does not know."""
    if ring is None or len(ring) < HEADER.size:
        return None
    magic, size, seq, newest_us, written_us = HEADER.unpack_from(ring)
    if magic != MAGIC or len(ring) != HEADER.size + (size + 1) * ROW.size:
        return None
    slot_us = timeframe.microseconds
    # the row after the newest one is the oldest: from there on, and then from the start, they ascend
    after = HEADER.size + (newest_us // slot_us % (size + 1) + 1) * ROW.size
    in_order = ring[after:] + ring[HEADER.size : after]
    oldest_us = newest_us - size * slot_us
    candles = [
        LiveCandle(
            row[0],
            row[1],
            row[2],
            row[3],
            row[4],
            row[5] if row[5] == row[5] else None,  # NaN is not itself
            row[6] if row[6] == row[6] else None,
            row[7] if row[7] >= 0 else None,
            row[9],
            state,
            _SOURCES[row[11]],
            row[8],
        )
        for row in ROW.iter_unpack(in_order)
        if row[0] >= oldest_us and (state := _STATES[row[10]]) is not None
    ]
    return Buffer(market, timeframe, size, tuple(candles), seq, written_us)
