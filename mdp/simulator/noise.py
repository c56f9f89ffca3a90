"""Random numbers that can be had in any order: a hash of a key and a position, never a stream.

Not here: what the numbers are used for (``levels``, ``paths``, ``generator``).
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_STEP = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def key_of(*parts: object) -> np.uint64:
    """Return a 64-bit key for a purpose, such as ``key_of(seed, "BTC", "moves")``."""
    text = "\x1f".join(str(part) for part in parts)
    return np.uint64(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little"))


def _bits(key: np.uint64, start: int, count: int) -> npt.NDArray[np.uint64]:
    """SplitMix64 (Steele, Lea, Flood 2014) evaluated at positions instead of in sequence."""
    state = (np.arange(start, start + count, dtype=np.uint64) + np.uint64(1)) * _STEP + key
    state = (state ^ (state >> np.uint64(30))) * _MIX_1
    state = (state ^ (state >> np.uint64(27))) * _MIX_2
    return np.asarray(state ^ (state >> np.uint64(31)))


def uniforms(key: np.uint64, start: int, count: int) -> Floats:
    """Return numbers evenly spread over ``[0, 1)``, one for each position from ``start``."""
    return np.asarray((_bits(key, start, count) >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def normals(key: np.uint64, start: int, count: int) -> Floats:
    """Return nearly normal numbers (mean 0, variance 1, never beyond 3.5), one for each position from ``start``.

    Sums of four uniform numbers rather than logarithms and cosines: the same on every machine to the last bit.
    """
    quarters = _bits(key, start, count).view(np.uint16).reshape(count, 4)
    return np.asarray((quarters.sum(axis=1, dtype=np.int64) - 131_070) * (3**0.5 / 65_536))


def smooth(key: np.uint64, start: int, count: int, spacing: int) -> Floats:
    """Return noise that changes slowly: normal numbers every ``spacing`` positions, straight lines between them."""
    first = start // spacing
    knots = normals(key, first, (start + count - 1) // spacing - first + 2)
    return np.interp(np.arange(start, start + count) / spacing - first, np.arange(len(knots)), knots)
