"""``mdp watch``: live candles on a terminal as one table, in a pipe as lines of JSON.

Not here: following them (``mdp.reading.following``).
"""

from __future__ import annotations

import select
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from rich.console import Console
from rich.live import Live
from rich.table import Table

from mdp.domain.interval import format_time
from mdp.domain.live import CandleState
from mdp.domain.market import Market
from mdp.domain.timeframe import EPOCH
from mdp.reading.buffers import follow
from mdp.reading.candle_buffer import CandleBuffer
from mdp.reading.following import Update

_DRAWN_EVERY_S = 0.2
_COLOURS = {CandleState.FORMING: "dim", CandleState.CLOSED: "yellow", CandleState.CORRECTED: "magenta"}


def watch_markets(markets: Sequence[str] | None, timeframe: str) -> None:
    """Show live candles until Ctrl-C.

    Raises:
        InputError: a market or the timeframe is wrong.
        ConfigError: the mode is ``backtest``.
        BusUnavailable: nobody runs the bus; says what to start.
    """
    found = follow(markets or None, timeframe)
    try:
        if sys.stdout.isatty():
            _draw(found)
        else:
            _write_lines(found)
    finally:
        found.close()  # type: ignore[attr-defined]  # it is a generator


def _write_lines(found: Iterable[Update]) -> None:
    for update in found:
        sys.stdout.write(msgspec.json.encode(as_line(update)).decode() + "\n")
        sys.stdout.flush()
        if _reader_has_left():
            return


def _reader_has_left() -> bool:
    """A pipe without a reader swallows what is written (``streams``); one that watches would go on for ever."""
    try:
        asked = select.poll()
        asked.register(sys.stdout.fileno(), select.POLLERR)
        return bool(asked.poll(0))
    except (OSError, ValueError):  # not a file of the system: nobody can leave it
        return False


def as_line(update: Update) -> dict[str, Any]:
    """Return an update for machines; the values of its candle are left out where only the reason is news."""
    line: dict[str, Any] = {
        "market": str(update.market),
        "timeframe": update.timeframe.value,
        "seq": update.buffer.seq,
        "reason": update.reason,
    }
    if update.candle is not None:
        values = update.candle._asdict()
        times = {"open_time": _time(values.pop("open_us")), "received_at": _time(values.pop("received_us"))}
        line |= {"open_time": times["open_time"], **values, "received_at": times["received_at"]}
    if update.missed is not None:
        line["missed"] = [format_time(update.missed.start), format_time(update.missed.end)]
    return line


def _draw(found: Iterable[Update]) -> None:
    newest: dict[Market, CandleBuffer] = {}
    drawn_at = 0.0
    with Live(table(newest), console=Console(), auto_refresh=False, transient=False) as screen:
        for update in found:
            newest[update.market] = update.buffer
            now = time.monotonic()
            if now - drawn_at >= _DRAWN_EVERY_S or update.reason != "changed":
                drawn_at = now
                screen.update(table(newest), refresh=True)


def table(buffers: Mapping[Market, CandleBuffer]) -> Table:
    """Draw the newest candle of each buffer and how sure it is; what fits a terminal of 100 columns."""
    drawn = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("market", "opened", "state"):
        drawn.add_column(name, no_wrap=True)
    for name in ("close", "change", "high", "low", "volume", "closed"):
        drawn.add_column(name, justify="right", no_wrap=True)
    drawn.add_column("", no_wrap=True)
    for market in sorted(buffers):
        found = buffers[market]
        if not found.candles:
            continue
        candle = found.candles[-1]
        drawn.add_row(
            str(market), _time(candle.open_us)[:16].replace("T", " "), candle.state.value,
            _price(candle.close), _change(found), _price(candle.high), _price(candle.low),
            "" if candle.volume is None else f"{candle.volume:,.3f}", f"{len(found.closed)}/{found.size}",
            "STALE: the bus is away" if found.is_stale else "",
            style="red" if found.is_stale else _COLOURS.get(candle.state, ""),
        )  # fmt: skip
    return drawn


def _change(found: CandleBuffer) -> str:
    """How far the newest close lies from the one before, in the candle before."""
    before = found.candles[-2].close if len(found.candles) > 1 else 0.0
    return f"{found.candles[-1].close / before - 1:+.3%}" if before else ""


def _price(value: float) -> str:
    return f"{value:,.2f}" if value >= 1 else f"{value:.6g}"


def _time(microseconds: int) -> str:
    return format_time(EPOCH + EPOCH.resolution * microseconds)
