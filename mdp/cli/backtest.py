"""``mdp backtest`` and ``mdp read --missing``: is a range of the past whole, and what a backtest reads of it.

Not here: what a backtest may see (``mdp.reading``), the backfill that fills a range (``backfill``).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import msgspec
from rich.table import Table

from mdp.cli.output import print_table
from mdp.cli.read import write_candles
from mdp.domain.interval import Interval, format_time
from mdp.domain.market import Market
from mdp.errors import Incomplete
from mdp.reading import Missing, WhenMissing, backtest, require_whole

INCOMPLETE = 3


def check_range(
    markets: Sequence[str] | None,
    start: str,
    end: str,
    *,
    timeframes: Sequence[str] | None,
    as_of: str | None,
    snapshot: str | None,
    generates: bool,
    as_json: bool,
) -> int:
    """Say of each market whether a backtest may use a range, fill it first where that is asked; return the exit code.

    Raises:
        InputError: an argument is wrong; nothing was started.
        Incomplete: it could not be filled.
    """
    asked: dict[str, Any] = {"timeframes": timeframes, "as_of": as_of, "snapshot": snapshot}
    if generates:
        try:
            backtest(markets, start, end, missing="generate", **asked)
        except Incomplete as error:
            if error.retryable:  # it was not even tried to the end; else what is left is listed below
                raise
    found = backtest(markets, start, end, missing="allow", **asked)
    if as_json:
        body = _as_json(found.window, found.markets, found.coverage)
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(body), indent=2) + b"\n")
    else:
        print_table(_table(found.window, found.markets, found.coverage))
        _list_what_is_left(found.coverage)
    return 0 if _is_whole(found.coverage) else INCOMPLETE


def read_as_backtest(
    market: str,
    timeframe: str,
    start: str,
    end: str,
    format_: str,
    output: Path | None,
    *,
    missing: str,
    as_of: str | None = None,
    snapshot: str | None = None,
) -> int:
    """Write the candles that a backtest sees of one market; return the exit code.

    Raises:
        InputError: an argument is wrong.
    """
    try:
        found = backtest(
            market,
            start,
            end,
            timeframes=[timeframe],
            missing=cast(WhenMissing, missing),
            as_of=as_of,
            snapshot=snapshot,
        )
    except Incomplete as error:
        for line in (str(error), *getattr(error, "__notes__", [])):
            sys.stderr.write(f"mdp: {line}\n")
        return INCOMPLETE
    write_candles(found.candles(market, timeframe), format_, output)
    return 0


def _is_whole(missing: Iterable[Missing]) -> bool:
    try:
        require_whole(missing)
    except Incomplete:
        return False
    return True


def _counts(window: Interval, market: Market, missing: Iterable[Missing]) -> tuple[int, int, int, int]:
    """Minutes of the range: all, there, missing and explained, missing and not explained."""
    expected = window.duration // timedelta(minutes=1)
    of_minutes = [one for one in missing if one.market == market and not one.is_stale]
    explained = sum(one.minutes for one in of_minutes if one.is_explained)
    left = sum(one.minutes for one in of_minutes if not one.is_explained)
    return expected, expected - explained - left, explained, left


def _table(window: Interval, markets: Sequence[Market], missing: Sequence[Missing]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("market", no_wrap=True)
    for name in ("minutes", "present", "explained", "missing"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for market in markets:
        numbers = [f"{number:,}" for number in _counts(window, market, missing)]
        is_whole = _is_whole(one for one in missing if one.market == market)
        table.add_row(str(market), *numbers, "whole" if is_whole else "NOT WHOLE")
    return table


def _list_what_is_left(missing: Iterable[Missing]) -> None:
    for one in missing:
        if not one.is_explained:
            sys.stdout.write(f"MISSING {one}: {one.minutes} minutes, {one.cause}\n")


def _as_json(window: Interval, markets: Sequence[Market], missing: Sequence[Missing]) -> dict[str, Any]:
    names = ("minutes", "present", "explained", "missing")
    return {
        "start": format_time(window.start),
        "end": format_time(window.end),
        "whole": _is_whole(missing),
        "markets": [
            {"market": str(market), **dict(zip(names, _counts(window, market, missing), strict=True))}
            for market in markets
        ],
        "missing": [
            {
                "market": str(one.market),
                "start": format_time(one.interval.start),
                "end": format_time(one.interval.end),
                "minutes": one.minutes,
                "cause": one.cause,
                "permanent": one.is_permanent,
                "explained": one.is_explained,
                "detail": one.detail,
            }
            for one in missing
        ],
    }
