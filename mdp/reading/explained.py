"""Everything that is known of one candle: ``mdp.explain``.

Not here: finding it out (``pipeline.explaining``), showing it (``cli.explain``).
"""

from __future__ import annotations

from datetime import UTC, datetime

from mdp.config.reference import load_reference
from mdp.config.settings import Settings, load_settings
from mdp.pipeline.explaining import explain_candle
from mdp.pipeline.explanation import Explanation
from mdp.reading.arguments import Moment, parse_market, parse_moment, parse_timeframe
from mdp.storage import open_store


def explain(market: str, time: Moment, *, timeframe: str = "1m", settings: Settings | None = None) -> Explanation:
    """Tell everything that is known of one candle, or of one minute of a volatility index, there or missing.

    Args:
        market: For example ``binance:BTC-USDT`` or ``deribit:BTC-DVOL``.
        time: Any instant of the candle; it is floored to the candle's open time.
        timeframe: Of the candle; an index has ``1m`` only.
        settings: Instead of those of the environment.

    Raises:
        InputError: names the argument that is wrong, what came and what is expected.
        StorageError: the store cannot be read.
    """
    settings = settings or load_settings()
    wanted, grid, moment = parse_market(market, settings), parse_timeframe(timeframe), parse_moment("time", time)
    return explain_candle(
        open_store(settings),
        wanted,
        grid,
        moment,
        markets=settings.markets,
        reference=load_reference(),
        now=datetime.now(UTC),
    )
