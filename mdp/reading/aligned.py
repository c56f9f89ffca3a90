"""Several markets on one clock: ``mdp.read_aligned``.

Not here: placing values at their slots (``domain.aligned``).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import polars as pl

from mdp.config.settings import Settings, load_settings
from mdp.domain.aligned import SlotGrid, whole_slots
from mdp.domain.candles import VALUE_COLUMNS
from mdp.domain.interval import Interval, format_time
from mdp.domain.market import Market
from mdp.domain.timeframe import Timeframe
from mdp.errors import InputError
from mdp.reading.arguments import Moment, parse_market, parse_timeframe, parse_window
from mdp.reading.view import View, open_view

MOST_SLOTS = 10_000_000
"""Slots of one answer, 19 years of 1m: each takes memory for every market, whether or not anything is stored."""


def read_aligned(
    markets: Sequence[str],
    timeframe: str,
    start: Moment,
    end: Moment,
    *,
    columns: Sequence[str] = ("close",),
    as_of: Moment | None = None,
    snapshot: str | None = None,
    settings: Settings | None = None,
) -> pl.DataFrame:
    """Read several markets side by side, one row for each slot of the clock.

    Args:
        markets: At least one, each once; indices too. The columns stand in this order.
        timeframe: ``1m``, ``5m``, ``15m``, ``1h``, ``4h`` or ``1d``.
        start: First instant, included.
        end: Last instant, excluded.
        columns: Of the candles: ``open``, ``high``, ``low``, ``close``, ``volume``, ``quote_volume``, ``trades``. An
            index has none of these; it gives ``dvol``.
        as_of: As for :func:`mdp.read`.
        snapshot: As for :func:`mdp.read`.
        settings: Instead of those of the environment.

    Returns:
        Every slot that opens inside ``[start, end)``, those still to come too, whether or not anything is stored there.
        A value that is not stored is null; nothing is filled in, neither forwards nor backwards. ``dvol`` is that of
        the slot's last minute: what was known of the index when that minute opened, whose close is the candle's.

    Shape:
        ``open_time``, then ``{market}.{column}`` such as ``binance:BTC-USDT.close`` or ``deribit:BTC-DVOL.dvol``;
        sorted by ``open_time``, unique. ``trades`` is ``Int64``, all other values ``Float64``.

    Raises:
        InputError: as for :func:`mdp.read`; no market, one named twice, an unknown column.
        InvariantViolation: the store holds a candle twice, or off the grid.
        StorageError: the store cannot be read, or there is no such snapshot.

    Examples:
        ``mdp.read_aligned(["binance:BTC-USDT", "okx:BTC-USDT"], "1h", "2024-12-30", "2024-12-31")``
    """
    settings = settings or load_settings()
    wanted = _each_once("markets", [str(parse_market(text, settings)) for text in _listed("markets", markets)])
    names = _columns(columns)
    grid, window = parse_timeframe(timeframe), parse_window(start, end)
    if window.slots(grid) > MOST_SLOTS:
        latest = format_time(window.start + MOST_SLOTS * grid.duration)
        raise InputError("end", got=format_time(window.end), expected=f"at most {latest}: {MOST_SLOTS:,} slots at once")
    view, slots = open_view(settings, as_of=as_of, snapshot=snapshot), SlotGrid(window, grid)
    placed = [slots.open_times]
    for market in map(Market.parse, wanted):
        read = _last_minutes if market.is_volatility_index else _values
        rows = read(view, market, grid, window, names)
        own = [name for name in rows.columns if name != "open_time"]
        values = slots.place(rows["open_time"], [rows[name] for name in own])
        placed += [column.alias(f"{market}.{name}") for name, column in zip(own, values, strict=True)]
    return pl.DataFrame(placed)


def _values(view: View, market: Market, timeframe: Timeframe, window: Interval, names: list[str]) -> pl.DataFrame:
    return view.rows(market, timeframe, window, columns=["open_time", *names]).select("open_time", *names)


def _last_minutes(view: View, market: Market, timeframe: Timeframe, window: Interval, _: list[str]) -> pl.DataFrame:
    """The value of the last minute of each slot, under the open time of the slot."""
    ahead: timedelta = timeframe.duration - Timeframe.M1.duration
    minutes = view.rows(market, Timeframe.M1, whole_slots(window, timeframe), columns=["open_time", "dvol"])
    opened = pl.col("open_time") - ahead
    is_last = opened.dt.epoch("us") % timeframe.microseconds == 0
    return minutes.filter(is_last).select(opened.alias("open_time"), "dvol")


def _columns(columns: Sequence[str]) -> list[str]:
    names = _each_once("columns", _listed("columns", columns))
    unknown = [name for name in names if name not in VALUE_COLUMNS]
    if unknown:
        raise InputError("columns", got=unknown[0], expected=f"some of {', '.join(VALUE_COLUMNS)}")
    return names


def _listed(field: str, texts: Sequence[str]) -> list[str]:
    """A single text is a sequence of texts too, of its letters: it is meant as one."""
    listed = [texts] if isinstance(texts, str) else list(texts)
    if not listed:
        raise InputError(field, got="none", expected="at least one")
    return listed


def _each_once(field: str, names: list[str]) -> list[str]:
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise InputError(field, got=f"{twice[0]} twice", expected="each once")
    return names
