"""Do the minutes of one symbol at several exchanges tell of one market? Level, distance and time, pair by pair.

Pairs, and not the distance from a median: of three exchanges the median of the other two is their mean, which one bad
exchange spoils for both good ones. An exchange is named when it disagrees with more than half of the others; a pair
may disagree without either being named. Not here:
one exchange for itself (``plausibility``), where the minutes come from (``pipeline.checking.agreement``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

MIN_MINUTES = 60
"""Fewer minutes in common tell nothing of prices."""

MIN_MOVES = 240
"""Fewer moves in common tell nothing of shifts."""

LEVEL_FLOOR, LEVEL_CEILING = 0.002, 0.01
"""Bounds of the bound on the median distance: two real exchanges differ by a few basis points at most."""

SPREADS = 10
"""The median distance may be so many times the spread of the two exchanges that agree best."""

FAR = 0.01
"""A minute whose closes are further apart than this share of the price is far off."""

FAR_SHARE = 0.01
"""Share of the minutes that may be far off."""

MAX_LAG = 720
"""Minutes by which candles may be shifted and still be found: twelve hours, the most that two time zones differ."""

MIN_CORRELATION = 0.30
"""Moves that correlate less at every shift are of no one market. Chance: up to 0.22 in 190 pairs of unrelated days."""

LAG_MARGIN = 0.20
"""A shift is named when the moves correlate by so much more with it than without."""

MOVES_OVER_SPREAD = 2
"""Moves so many times the spread of two exchanges that agree must correlate; smaller ones drown in it."""

_CLIP = 6.0
"""Moves beyond so many usual ones count as so many: two unrelated crashes must not make a shift."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two exchanges compared.

    Attributes:
        one: Name of the first.
        other: Name of the second.
        minutes: That both have.
        level: Median of the logarithm of the first's closes over the second's.
        spread: Median distance from that median: how far the two are apart from minute to minute.
        far: Share of the minutes that are further apart than ``FAR``.
        p99: Distance, as a share of the price, that 99 % of the minutes keep within.
        lag: Minutes by which the first's candles must be moved back so that its moves fit the second's best.
        correlation: Of the moves as they are; NaN where there are too few, or none moves.
        best: Of the moves with that lag; at ``lag`` 0 the same.
        move: Usual move of a minute, the smaller of both.
        activity: Correlation of the logarithms of their volumes; NaN where one has none that vary.
    """

    one: str
    other: str
    minutes: int
    level: float
    spread: float
    far: float
    p99: float
    lag: int
    correlation: float
    best: float
    move: float
    activity: float


@dataclass(frozen=True, slots=True)
class Standing:
    """What comparing one exchange with all others of its symbol came to.

    Attributes:
        name: Of the exchange.
        pairs: Compared with it.
        disagreements: What disagrees, with whom.
        reasons: Why it is named: the same, but empty where it agrees with at least half of them.
    """

    name: str
    pairs: tuple[Pair, ...]
    disagreements: tuple[str, ...]
    reasons: tuple[str, ...]


def compare(closes: Mapping[str, Floats], volumes: Mapping[str, Floats]) -> list[Pair]:
    """Compare every two exchanges.

    Args:
        closes: By exchange, one for each minute of a window; NaN where it has none.
        volumes: Likewise.

    Returns:
        The pairs that have at least ``MIN_MINUTES`` in common.
    """
    pairs = []
    moves = {name: _moves(series) for name, series in closes.items()}
    for one, other in combinations(sorted(closes), 2):
        with np.errstate(all="ignore"):
            ratio = np.log(closes[one] / closes[other])
        ratio = ratio[np.isfinite(ratio)]
        if len(ratio) < MIN_MINUTES:
            continue
        level, distance = float(np.median(ratio)), np.abs(np.expm1(ratio))
        by_lag = _correlations(moves[one], moves[other])
        best = MAX_LAG if np.isnan(by_lag).all() else int(np.nanargmax(by_lag))
        pairs.append(Pair(
            one, other, len(ratio), level, float(np.median(np.abs(ratio - level))), float((distance > FAR).mean()),
            float(np.quantile(distance, 0.99)), best - MAX_LAG, float(by_lag[MAX_LAG]), float(by_lag[best]),
            min(_usual(moves[one]), _usual(moves[other])), _activity(volumes[one], volumes[other]),
        ))  # fmt: skip
    return pairs


def judge(pairs: Iterable[Pair]) -> list[Standing]:
    """Say of each exchange whether it disagrees with more than half of the others, and in what.

    Of two exchanges that disagree both are named: which of them is wrong, two cannot tell.

    Returns:
        One for each exchange of a pair, by name.
    """
    pairs = list(pairs)
    spread = min((pair.spread for pair in pairs), default=0.0)
    standings = []
    for name in sorted({name for pair in pairs for name in (pair.one, pair.other)}):
        own = [pair if pair.one == name else _turned(pair) for pair in pairs if name in (pair.one, pair.other)]
        disagreeing = tuple(reason for pair in own if (reason := disagreement(pair, spread)))
        named = disagreeing if len(disagreeing) * 2 > len(own) else ()
        standings.append(Standing(name, tuple(own), disagreeing, named))
    return standings


def disagreement(pair: Pair, spread: float) -> str:
    """Say in what the first of a pair disagrees with the second, the plainest reason first; empty when in nothing.

    Args:
        pair: They.
        spread: Of the two exchanges of the symbol that agree best.
    """
    reasons = []
    bound = level_bound(spread)
    if pair.lag and pair.best >= MIN_CORRELATION and pair.best - pair.correlation >= LAG_MARGIN:
        reasons.append(f"candles look shifted by {describe_lag(pair.lag)} (moves correlate {pair.best:.2f}, as they "
                       f"are {pair.correlation:.2f})")  # fmt: skip
    elif pair.best < MIN_CORRELATION and pair.move > MOVES_OVER_SPREAD * spread:
        reasons.append(f"moves have nothing in common (correlation {pair.correlation:.2f}, {pair.best:.2f} at best)")
    if abs(pair.level) > bound:
        reasons.append(f"price level is {np.expm1(pair.level):+.2%} (at most ±{bound:.2%})")
    if pair.far > FAR_SHARE:
        reasons.append(f"{pair.far:.1%} of the minutes are more than {FAR:.0%} apart (at most {FAR_SHARE:.0%})")
    return f"against {pair.other}: {'; '.join(reasons)}" if reasons else ""


def level_bound(spread: float) -> float:
    """Return how far the median distance of two exchanges may be from none, given the spread of those that agree."""
    return float(np.clip(SPREADS * spread, LEVEL_FLOOR, LEVEL_CEILING))


def describe_lag(minutes: int) -> str:
    """Write a shift in hours and minutes.

    Examples:
        >>> describe_lag(480), describe_lag(-90), describe_lag(-1)
        ('+8 h', '-1 h 30 min', '-1 min')
    """
    hours, rest = divmod(abs(minutes), 60)
    parts = [f"{hours} h"] * bool(hours) + [f"{rest} min"] * bool(rest)
    return f"{'-' if minutes < 0 else '+'}{' '.join(parts) or '0 min'}"


def _turned(pair: Pair) -> Pair:
    """The same pair, seen from the other exchange."""
    return Pair(
        pair.other, pair.one, pair.minutes, -pair.level, pair.spread, pair.far, pair.p99, -pair.lag, pair.correlation,
        pair.best, pair.move, pair.activity,
    )  # fmt: skip


def _moves(closes: Floats) -> Floats:
    """Logarithmic move of each minute, NaN where one of its two closes is missing; clipped."""
    with np.errstate(all="ignore"):
        moves = np.diff(np.log(closes), prepend=np.nan)
    moves[~np.isfinite(moves)] = np.nan
    bound = _CLIP * _usual(moves)
    return np.clip(moves, -bound, bound) if bound else moves


def _usual(moves: Floats) -> float:
    known = np.abs(moves[np.isfinite(moves)])
    return float(known.mean()) if len(known) else 0.0


def _correlations(one: Floats, other: Floats) -> Floats:
    """Correlation of ``one`` moved back by each lag from ``-MAX_LAG`` to ``MAX_LAG`` minutes with ``other``.

    Of all lags at once, by Fourier transforms: as many sums over the minutes that both have. A lag with fewer than
    ``MIN_MOVES`` of them, or without any change in them, has NaN.
    """
    size = 1 << int(len(one) + MAX_LAG).bit_length()
    has = [np.isfinite(moves) for moves in (one, other)]
    # moved to a mean near 0 and a scale near 1, so that the sums keep their digits
    left, right = (
        np.where(ok, moves, 0.0) / (_usual(moves) or 1.0) for ok, moves in zip(has, (one, other), strict=True)
    )
    ones, lefts, squares = (np.fft.rfft(np.asarray(part, float), size) for part in (has[0], left, left**2))
    ones_, rights, squares_ = (np.fft.rfft(np.asarray(part, float), size) for part in (has[1], right, right**2))

    def summed(first: npt.NDArray[np.complex128], second: npt.NDArray[np.complex128]) -> Floats:
        turned = np.fft.irfft(first * np.conj(second), size)
        return np.asarray(np.r_[turned[-MAX_LAG:], turned[: MAX_LAG + 1]])

    count = np.rint(summed(ones, ones_))
    sum_left, sum_right = summed(lefts, ones_), summed(ones, rights)
    covariance = count * summed(lefts, rights) - sum_left * sum_right
    spread_left = count * summed(squares, ones_) - sum_left**2
    spread_right = count * summed(ones, squares_) - sum_right**2
    with np.errstate(all="ignore"):
        correlation = covariance / np.sqrt(spread_left * spread_right)
    is_known = (count >= MIN_MOVES) & (spread_left > 1e-6) & (spread_right > 1e-6)
    return np.where(is_known & np.isfinite(correlation), correlation, np.nan)


def _activity(one: Floats, other: Floats) -> float:
    both = np.isfinite(one) & np.isfinite(other)
    logs = (
        [np.log1p(series[both] / (np.nanmedian(series[both]) or 1.0)) for series in (one, other)] if both.any() else []
    )
    if not logs or any(part.std() < 1e-9 for part in logs):
        return float("nan")
    return float(np.corrcoef(logs[0], logs[1])[0, 1])
