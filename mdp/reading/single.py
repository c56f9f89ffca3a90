"""The candles of one market at one timeframe: ``mdp.read``.

Not here: several markets side by side (``aligned``), earlier states and snapshots (``view``).
"""

from __future__ import annotations

import polars as pl

from mdp.config.settings import Settings, load_settings
from mdp.domain.timeframe import Timeframe
from mdp.errors import InputError
from mdp.reading.arguments import Moment, parse_market, parse_timeframe, parse_window
from mdp.reading.view import open_view


def read(
    market: str,
    timeframe: str,
    start: Moment,
    end: Moment,
    *,
    as_of: Moment | None = None,
    snapshot: str | None = None,
    settings: Settings | None = None,
) -> pl.DataFrame:
    """Read the stored candles of one market, or the minutes of a volatility index.

    Args:
        market: For example ``binance:BTC-USDT`` or ``deribit:BTC-DVOL``.
        timeframe: ``1m``, ``5m``, ``15m``, ``1h``, ``4h`` or ``1d``; an index has ``1m`` only.
        start: First instant, included.
        end: Last instant, excluded.
        as_of: What was stored at that time, whatever was corrected or filled in since; a date is its UTC midnight.
            Longer candles are made of the minutes as they were, those only whose time was over. Before anything was
            collected there is nothing.
        snapshot: What the snapshot of that name holds.
        settings: Instead of those of the environment.

    Returns:
        The candles that open inside ``[start, end)``. What is not stored is absent; nothing is filled in.

    Shape:
        ``CANDLE_SCHEMA``, or ``DVOL_SCHEMA`` for an index; sorted by ``open_time``, unique.

    Raises:
        InputError: names the argument that is wrong, what came and what is expected: also an ``as_of`` that lies in the
            future or of which an index cannot tell what it was, and what a snapshot does not hold.
        StorageError: the store cannot be read, or there is no such snapshot.

    Examples:
        ``mdp.read("binance:BTC-USDT", "1h", "2024-12-30", "2024-12-31", as_of="2025-01-15T12:00Z")``
    """
    settings = settings or load_settings()
    wanted, grid, window = parse_market(market, settings), parse_timeframe(timeframe), parse_window(start, end)
    if wanted.is_volatility_index and grid is not Timeframe.M1:
        raise InputError("timeframe", got=timeframe, expected=f"1m, the only timeframe of the index {wanted}")
    return open_view(settings, as_of=as_of, snapshot=snapshot).rows(wanted, grid, window)
