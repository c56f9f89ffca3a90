"""Stretches without candles that nobody will ever fill: the exchange had none there, or never gave any.

Not here: why that is so (``domain.gaps``), what follows from it for an answer (``joining``).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from mdp.api.compat.lengths import Ints

Span = tuple[int, int]
"""Where a stretch begins and where it ends, in microseconds since the epoch."""


class Excuses:
    """Stretches, added up.

    Args:
        spans: Any order; may overlap.
    """

    def __init__(self, spans: Iterable[Span]) -> None:
        merged: list[list[int]] = []
        for first_us, end_us in sorted(spans):
            if merged and first_us <= merged[-1][1]:
                merged[-1][1] = max(merged[-1][1], end_us)
            else:
                merged.append([first_us, end_us])
        self._bounds = np.array(merged, dtype=np.int64).reshape(-1, 2)
        self._sums = np.append(0, np.cumsum(self._bounds[:, 1] - self._bounds[:, 0]))

    def within(self, first_us: Ints, end_us: Ints) -> Ints:
        """Return how much of each stretch they cover, in microseconds."""
        return self._before(end_us) - self._before(first_us)

    def _before(self, moments_us: Ints) -> Ints:
        begun = np.searchsorted(self._bounds[:, 0], moments_us, side="right")
        if not len(self._bounds):
            return np.zeros_like(moments_us)
        still_to_come = np.maximum(self._bounds[np.maximum(begun - 1, 0), 1] - moments_us, 0)
        return np.asarray(self._sums[begun] - np.where(begun > 0, still_to_come, 0))
