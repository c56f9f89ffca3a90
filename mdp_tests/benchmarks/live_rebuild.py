"""Benchmark of the live buffers: what one round of updates of nine markets costs, and what it costs with frames.

Quote the ratios, since machines differ. Not here: the bus, the exchanges' streams.
"""

from __future__ import annotations

import random
import statistics
import time
import tracemalloc
from collections.abc import Callable

from mdp.domain.buffers import MarketBuffers
from mdp.domain.live import CandleState, LiveCandle
from mdp.domain.live_frames import to_frame
from mdp.domain.market import SPOT_MARKETS
from mdp.domain.resample import resample_all
from mdp.domain.timeframe import Timeframe

SIZE = 100
ROUNDS = 1_500
"""Minutes that are measured: more than a day, so that midnight, when every timeframe closes, is among them."""

_MINUTE = Timeframe.M1.microseconds
_START = 1_709_164_800_000_000
_HISTORY = 2 * 1_440


def minutes() -> list[LiveCandle]:
    """Closed minutes of a market in which every tenth is idle."""
    noise = random.Random(7)
    made = []
    for place in range(_HISTORY + ROUNDS):
        open_us, price = _START + place * _MINUTE, round(noise.uniform(90, 110), 2)
        volume = round(noise.expovariate(0.1), 8) if place % 10 else 0.0
        prices = (price, price + 1, price - 1, price) if volume else (price,) * 4
        amounts = (volume, volume * price, noise.randrange(1, 99) if volume else 0)
        closed_us = open_us + _MINUTE
        made.append(LiveCandle(open_us, *prices, *amounts, 1, CandleState.CLOSED, "stream", closed_us))
    return made


def run() -> dict[str, dict[str, float]]:
    """Measure rounds of forming, closed and confirmed minutes, and the same rebuild by frames."""
    held, candles = _megabytes_held(), minutes()
    markets = [MarketBuffers(market, SIZE) for market in SPOT_MARKETS]
    seeded = _ms(lambda: [market.seed(Timeframe.M1, candles[:_HISTORY]) for market in markets]) / len(markets)
    timed: dict[str, list[float]] = {"forming": [], "closed": [], "confirmed": []}
    for candle in candles[_HISTORY:]:
        for state in timed:
            said = candle._replace(state=CandleState(state))
            timed[state].append(_ms(lambda said=said: [market.take(said) for market in markets]))
    frames = [to_frame(market, Timeframe.M1, candles[-SIZE - 1 :]) for market in SPOT_MARKETS]
    timed["by frames"] = [_ms(lambda: [resample_all(frame) for frame in frames]) for _ in range(50)]
    print(f"\n{len(markets)} markets, buffers of {SIZE}, {held:.1f} MB held and {seeded:.0f} ms to fill each")
    print("\n| all 54 buffers after a minute each | p50, CPU ms | p99, ms | most, ms |\n|---|---:|---:|---:|")
    found = {}
    for name, values in timed.items():
        figures = [statistics.median(values), statistics.quantiles(values, n=100)[98], max(values)]
        print(f"| {name} | {' | '.join(f'{figure:.3f}' for figure in figures)} |")
        found[name] = dict(zip(("p50_ms", "p99_ms", "max_ms"), figures, strict=True))
    wrong = sum(market.counts.inconsistent for market in markets)
    print(f"\n{sum(market.counts.checked for market in markets)} closed candles checked, {wrong} inconsistent")
    return {**found, "market": {"held_mb": held, "seeded_ms": seeded}}


def _megabytes_held() -> float:
    """Memory of one market's buffers, with the minutes they hold, just before midnight, when they are most."""
    tracemalloc.start()
    buffers = MarketBuffers(SPOT_MARKETS[0], SIZE)
    buffers.seed(Timeframe.M1, minutes()[:_HISTORY])
    held = tracemalloc.get_traced_memory()[0] / 2**20
    tracemalloc.stop()
    return held


def _ms(work: Callable[[], object]) -> float:
    started = time.process_time()  # not of the clock: what other processes take is not ours
    work()
    return (time.process_time() - started) * 1e3


if __name__ == "__main__":
    run()
