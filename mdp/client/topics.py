"""Which topics a program wants.

Not here: what comes on them (``tracking``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from mdp.client.arguments import as_list, as_market, as_timeframe
from mdp.client.tracking import topic_of
from mdp.domain.market import Market
from mdp.domain.timeframe import Timeframe
from mdp.errors import InputError


def topics_of(
    markets: str | Market | Sequence[str | Market] | None,
    timeframes: str | Timeframe | Sequence[str | Timeframe],
    topics: str | Sequence[str],
) -> list[str]:
    """Return topics to subscribe to, each once.

    Args:
        markets: None: all of them, unless topics are given.
        timeframes: One or several.
        topics: Beside those of candles, spelled as the service spells them.

    Raises:
        InputError: a market or timeframe is wrong, or nothing is wanted.
    """
    lengths = [as_timeframe(cast("str", one)) for one in as_list(timeframes)]
    further = [str(topic) for topic in as_list(topics)]
    if markets is None:
        candles = [] if further else [f"candles.*.*.{length.value}" for length in lengths]
    else:
        whose = [as_market(cast("str", one)) for one in as_list(markets)]
        candles = [topic_of(market, length) for market in whose for length in lengths]
    found = list(dict.fromkeys([*candles, *further]))
    if not found:
        raise InputError("markets", got=markets, expected="at least one market and timeframe, or a topic")
    return found
