"""Recorded days of Binance minutes: read from a folder, checked, kept as they are.

A folder holds ``binance/<MARKET_ID>/1m/<MARKET_ID>-1m-YYYY-MM-DD.csv.gz``: the exchange's own daily archive files (12
columns, no header, times in milliseconds or microseconds), compressed; and, optionally, a ``metadata.json`` beside
them with the SHA-256 of each file inside. Not here: days that were not recorded (``generator``).
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import polars as pl

from mdp.domain.market import Exchange
from mdp.errors import InputError
from mdp.simulator.candles import DAY_MS, Candles
from mdp.simulator.markets import MARKETS_BY_ID

CARRIED = Path(__file__).parent / "recorded"
"""The days that come with the package."""

_FIRST_MICROSECONDS = 100_000_000_000_000
"""Times at or above this are microseconds: Binance's files changed over on 2025-01-01."""

_WIRE_COLUMNS: tuple[str, ...] = (
    "open_ms",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "close_ms",
    "quote_volume",
    "trades",
    "taker_volume",
    "taker_quote_volume",
    "unused",
)
_DECIMALS = ("open", "high", "low", "close", "volume", "quote_volume", "taker_volume", "taker_quote_volume")
_WHOLE = ("open_ms", "close_ms", "trades")


@dataclass(frozen=True, slots=True)
class RecordedDays:
    """The recorded days of each Binance market.

    Attributes:
        by_market: Market id, then day (days since the epoch) to the minutes of that day, exactly as recorded.
    """

    by_market: Mapping[str, Mapping[int, Candles]]

    def of(self, exchange: Exchange, market_id: str) -> Mapping[int, Candles]:
        """Return the recorded days of one market; empty where nothing was recorded."""
        return self.by_market.get(market_id, {}) if exchange is Exchange.BINANCE else {}


def load_recorded_days(root: Path) -> RecordedDays:
    """Read every recorded day under ``root``.

    Raises:
        InputError: the folder is missing, holds no recorded day, or holds a file that cannot be read; it names it.
    """
    if not root.is_dir():
        raise _refuse(root, "an existing folder of recorded days")
    by_market: dict[str, dict[int, Candles]] = {}
    for market_id in MARKETS_BY_ID[Exchange.BINANCE]:
        folder = root / "binance" / market_id / "1m"
        digests = _read_digests(folder / "metadata.json")
        days = {_day_of(path): _read_day(path, digests.get(path.name)) for path in sorted(folder.glob("*.csv.gz"))}
        missing = digests.keys() - {path.name for path in folder.glob("*.csv.gz")}
        if missing:
            raise _refuse(folder / min(missing), "the file that metadata.json lists")
        if days:
            by_market[market_id] = days
    if not by_market:
        raise _refuse(root, "a folder with binance/BTCUSDT/1m/BTCUSDT-1m-YYYY-MM-DD.csv.gz files (ETHUSDT, SOLUSDT)")
    return RecordedDays(by_market)


def read_checked(path: Path, sha256: str | None) -> bytes:
    """Return the content of a gzip file.

    Args:
        path: The compressed file.
        sha256: What the content must hash to; None: not known.

    Raises:
        InputError: the file is missing, damaged, or not the one that was recorded.
    """
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise _refuse(path, f"a readable gzip file ({error or type(error).__name__})") from error
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise _refuse(path, f"content with the SHA-256 that metadata.json gives, {sha256[:16]}…")
    return content


def _read_digests(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    try:
        return {name: entry["sha256"] for name, entry in json.loads(path.read_text())["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _refuse(path, 'JSON such as {"files": {"<name>.csv.gz": {"sha256": "…"}}}') from error


def _day_of(path: Path) -> int:
    expected = f"{path.parent.parent.name}-1m-YYYY-MM-DD.csv.gz"
    match = re.fullmatch(rf"{path.parent.parent.name}-1m-(\d{{4}}-\d\d-\d\d)\.csv\.gz", path.name)
    try:
        day = date.fromisoformat(match[1]) if match else None
    except ValueError:
        day = None
    if day is None:
        raise _refuse(path, f"a name such as {expected}")
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) // 86_400


def _read_day(path: Path, sha256: str | None) -> Candles:
    content = read_checked(path, sha256)
    try:
        frame = pl.read_csv(
            content,
            has_header=False,
            new_columns=list(_WIRE_COLUMNS),
            schema_overrides=[pl.String] * len(_WIRE_COLUMNS),
        )
    except pl.exceptions.NoDataError:
        frame = pl.DataFrame(schema=dict.fromkeys(_WIRE_COLUMNS, pl.String))
    except pl.exceptions.PolarsError as error:
        raise _refuse(path, f"CSV with {len(_WIRE_COLUMNS)} columns ({error})") from error
    if tuple(frame.columns) != _WIRE_COLUMNS:
        raise _refuse(path, f"{len(_WIRE_COLUMNS)} columns, found {frame.width}")
    return _to_candles(frame, path)


def _to_candles(frame: pl.DataFrame, path: Path) -> Candles:
    well_formed = frame.select(
        *(pl.col(name).str.contains(r"^\d+$").fill_null(value=False) for name in _WHOLE),
        *(pl.col(name).str.contains(r"^\d+\.\d{8}$").fill_null(value=False) for name in _DECIMALS),
    )
    for name in well_formed.columns:
        broken = well_formed[name].not_().arg_true()
        if len(broken):
            kind = "a whole number" if name in _WHOLE else "a decimal with eight places"
            raise _refuse(path, f"{kind} as {name} in line {broken[0] + 1}")
    # the digits of a decimal with eight places are its number of 1e-8 units
    numbers = frame.select(
        *(pl.col(name).cast(pl.Int64) for name in _WHOLE),
        *(pl.col(name).str.replace(".", "", literal=True).cast(pl.Int64) for name in _DECIMALS),
    )
    for name in ("open_ms", "close_ms"):
        times = pl.col(name)
        numbers = numbers.with_columns(pl.when(times >= _FIRST_MICROSECONDS).then(times // 1_000).otherwise(times))
    order = ("open_ms", "close_ms", *_DECIMALS[:6], "trades", *_DECIMALS[6:])
    candles = Candles(np.ascontiguousarray(numbers.select(order).to_numpy().T.astype(np.int64)))
    _require_ascending_within_day(candles, path)
    return candles


def _require_ascending_within_day(candles: Candles, path: Path) -> None:
    open_ms = candles.open_ms
    if len(candles) and ((np.diff(open_ms) <= 0).any() or (open_ms // DAY_MS != _day_of(path)).any()):
        raise _refuse(path, "minutes of its own UTC day, ascending, each once")


def _refuse(path: Path, expected: str) -> InputError:
    return InputError("--data", got=str(path), expected=expected)
