"""Binance's bulk files of candles on the wire: daily and monthly zips, each with its CHECKSUM.

Source: github.com/binance/binance-public-data, README (2026-07). The twelve columns of REST without a header; times in
milliseconds before 2025 and in microseconds from then on; a day is there from the next day on, a month from the first
Monday of the next month. Where it is silent (the hour of publication, a day without any candle) the choice is said in
the code. Not here: which candles there are (``history``), keeping files (``archive_shelf``).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import polars as pl
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from mdp.domain.market import Exchange
from mdp.domain.timeframe import Timeframe
from mdp.simulator.answers import eight_decimals
from mdp.simulator.archive_shelf import (
    BulkFile,
    Shelf,
    candles_of_file,
    day_ms,
    hand_out,
    next_month,
    no_such_key,
    pack,
    parse_day,
)
from mdp.simulator.binance import INTERVALS
from mdp.simulator.candles import Candles
from mdp.simulator.markets import MARKETS_BY_ID, SimulatedMarket
from mdp.simulator.simulation import Simulation

_FIRST_IN_MICROSECONDS = date(2025, 1, 1)
_CHECKSUM = ".CHECKSUM"
_HEADER = (
    b"open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,taker_buy_quote_volume,"
    b"ignore\n"
)
"""Spot files have none, unless it is scripted; this is that of the files of futures."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """One file by its name: whose candles, from which first day to which last day, exclusive."""

    market: SimulatedMarket
    timeframe: Timeframe
    name: str
    first: date
    end: date
    published: date


def routes(simulation: Simulation, shelf: Shelf | None = None) -> list[Route]:
    """Return the archive's one endpoint, to be mounted under its prefix."""
    kept = shelf or Shelf()

    async def endpoint(request: Request) -> Response:
        path = request.path_params["path"]
        wanted = _understand(path.removesuffix(_CHECKSUM))
        if wanted is None or not _is_published(wanted, simulation.clock()):
            return no_such_key(path)
        file = kept.get(path.removesuffix(_CHECKSUM), simulation.alterations.version, lambda: _make(simulation, wanted))
        if not file.content:
            return no_such_key(path)
        return _checksum(file, wanted.name) if path.endswith(_CHECKSUM) else hand_out(file)

    return [Route("/{path:path}", endpoint, methods=["GET"])]


def _understand(path: str) -> _Wanted | None:
    """Read ``data/spot/daily/klines/BTCUSDT/1m/BTCUSDT-1m-2025-01-15.zip`` or its monthly sibling."""
    parts = path.split("/")
    if len(parts) != 7 or parts[:2] != ["data", "spot"] or parts[3] != "klines":
        return None
    period, market_id, interval, name = parts[2], parts[4], parts[5], parts[6]
    market, timeframe = MARKETS_BY_ID[Exchange.BINANCE].get(market_id), INTERVALS.get(interval)
    stem = f"{market_id}-{interval}-"
    first = parse_day(name.removeprefix(stem).removesuffix(".zip"))
    if market is None or timeframe is None or first is None:
        return None
    spelled, end = (f"{first}", first + timedelta(days=1))
    published = end
    if period == "monthly":
        spelled, end = f"{first:%Y-%m}", next_month(first)
        published = end + timedelta(days=-end.weekday() % 7)
    elif period != "daily":
        return None
    return _Wanted(market, timeframe, name, first, end, published) if name == f"{stem}{spelled}.zip" else None


def _is_published(wanted: _Wanted, now_ms: int) -> bool:
    """From midnight on: the real hour is not documented. Nothing before the listing."""
    return now_ms >= day_ms(wanted.published) and day_ms(wanted.end) > wanted.market.first_candle_ms


def _make(simulation: Simulation, wanted: _Wanted) -> bytes:
    """The zip; nothing for a time without any candle, of which no file is published: chosen."""
    window_ms = day_ms(wanted.first), day_ms(wanted.end)
    candles = candles_of_file(simulation, wanted.market, wanted.timeframe, window_ms)
    if not len(candles):
        return b""
    text = print_csv(candles, in_microseconds=wanted.first >= _FIRST_IN_MICROSECONDS)
    if simulation.alterations.has_archive_header(wanted.market, *window_ms, simulation.clock()):
        text = _HEADER + text
    return pack(wanted.name.replace(".zip", ".csv"), text)


def print_csv(candles: Candles, *, in_microseconds: bool) -> bytes:
    """Print candles as the lines of a file, as the exchange does."""
    open_time, close_time = pl.col("open_ms"), pl.col("close_ms")
    if in_microseconds:
        open_time, close_time = open_time * 1_000, close_time * 1_000 + 999
    lines = candles.to_frame().select(
        open_time.alias("open_time"),
        *(eight_decimals(name).alias(name) for name in ("open", "high", "low", "close", "volume")),
        close_time.alias("close_time"),
        eight_decimals("quote_volume").alias("quote_volume"),
        "trades",
        *(eight_decimals(name).alias(name) for name in ("taker_volume", "taker_quote_volume")),
        pl.lit("0").alias("unused"),
    )
    return lines.write_csv(include_header=False).encode()


def _checksum(file: BulkFile, name: str) -> Response:
    return PlainTextResponse(f"{file.sha256}  {name}\n", media_type="binary/octet-stream")
