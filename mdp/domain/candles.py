"""The schemas of all tables of candles, and what a frame must look like to be one of them.

Not here: whether a row is a good candle (``rules``), where tables are kept (``storage``).
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from mdp.errors import SchemaMismatch

TIME = pl.Datetime("us", "UTC")

_KEY: dict[str, pl.DataType] = {"exchange": pl.String(), "symbol": pl.String(), "timeframe": pl.String()}
_PRICES: dict[str, pl.DataType] = {name: pl.Float64() for name in ("open", "high", "low", "close")}
_AMOUNTS: dict[str, pl.DataType] = {"volume": pl.Float64(), "quote_volume": pl.Float64(), "trades": pl.Int64()}

CANDLE_SCHEMA = pl.Schema(
    {
        **_KEY,
        "open_time": TIME,
        **_PRICES,
        **_AMOUNTS,
        "minutes": pl.Int32(),
        "source": pl.String(),
        "ingested_at": TIME,
    }
)
"""An accepted candle. Key: exchange, symbol (``BTC-USDT``), timeframe, open_time; sorted by open_time, unique.

``quote_volume`` and ``trades`` are null where the exchange does not give them. ``minutes`` is how many minutes the
candle holds (1 at 1m). ``source`` is ``rest``, ``archive`` or ``stream`` at 1m and ``resampled`` above. At 1m
``source`` and ``ingested_at`` are of the answer that first gave these values: given again, they change neither.
"""

RAW_SCHEMA = pl.Schema(
    {
        **_KEY,
        "window_start": TIME,
        "open_time": TIME,
        **_PRICES,
        **_AMOUNTS,
        "closed": pl.Boolean(),
        "source": pl.String(),
        "fetched_at": TIME,
    }
)
"""A candle as the exchange answered it, unjudged. ``window_start`` is the UTC day it was asked for.

``closed`` is whether the exchange had finished the candle when it answered: its own flag, or its clock.
A volatility index has null ``volume``, ``quote_volume`` and ``trades``.
"""

REJECTED_SCHEMA = pl.Schema({**RAW_SCHEMA, "failed_rules": pl.List(pl.String())})
"""A raw row that broke at least one rule, with the names of all rules it broke."""

DVOL_SCHEMA = pl.Schema(
    {
        **_KEY,
        "open_time": TIME,
        "dvol": pl.Float64(),
        "hour_open_time": TIME,
        "age_minutes": pl.Int32(),
        "source": pl.String(),
        "ingested_at": TIME,
    }
)
"""DVOL by the minute, percent: the close of the last candle that was closed at ``open_time``, and its age.

``hour_open_time`` is the open time of that candle, an hour unless the resolution is 1m; a column is never renamed. Its
length is ``open_time - hour_open_time - age_minutes``.
"""

GAP_SCHEMA = pl.Schema(
    {
        **_KEY,
        "start": TIME,
        "end": TIME,
        "slots": pl.Int64(),
        "cause": pl.String(),
        "source": pl.String(),
        "seen_at": TIME,
        "first_seen_at": TIME,
        "sightings": pl.Int64(),
        "is_permanent": pl.Boolean(),
        "detail": pl.String(),
    }
)
"""A maximal run of slots without a candle inside one judged day, with one cause and one history: ``[start, end)``.

``source`` is what was asked last (``rest``, ``archive``, ``archive+rest``), ``seen_at`` when, ``first_seen_at`` when
the slots were first found missing. ``sightings`` counts the times they were, far enough apart in time to be witnesses
of their own; ``is_permanent`` from the second on, unless the exchange contradicts itself: its last answer broke a
rule, or its own longer candle holds more. ``detail`` is where a known cause is written. The evidence of every
sighting is in ``gap_sightings``. What was stored before sightings were counted has null in the last four columns.
"""

SIGHTING_SCHEMA = pl.Schema(
    {
        **_KEY,
        "start": TIME,
        "end": TIME,
        "slots": pl.Int64(),
        "finding": pl.String(),
        "source": pl.String(),
        "requests": pl.Int64(),
        "files": pl.List(pl.String()),
        "fetched_at": TIME,
        "detail": pl.String(),
    }
)
"""One run of slots, each time it was asked for and not given: what was asked, of whom, when.

``finding`` is ``absent``: the answer held no candle; ``rejected``: it held a row that broke a rule; or what the
exchange's own 5m candle over the slots says: ``no_trades``: it holds no more than the minutes that are there;
``traded``: it holds more; ``absent_at_5m``: there is none. ``files`` names the bulk files that were read, with their
checksums, ``requests`` counts those to the API, ``detail`` names the rules, or tells the figures of a second opinion.
"""

REVISION_SCHEMA = pl.Schema(
    {
        **_KEY,
        "open_time": TIME,
        **{f"old_{name}": dtype for name, dtype in {**_PRICES, **_AMOUNTS, "source": pl.String()}.items()},
        **{f"new_{name}": dtype for name, dtype in {**_PRICES, **_AMOUNTS, "source": pl.String()}.items()},
        "revised_at": TIME,
        "old_ingested_at": TIME,
    }
)
"""A stored candle for which the exchange later gave other values; all ``new_`` null where it no longer gives it.

``old_ingested_at`` is when the old values were received, ``revised_at`` when they ceased to be what is stored: with
both, a table can be read as of any time. The former is null in what was stored before it was recorded.
"""

FETCH_SCHEMA = pl.Schema(
    {
        **_KEY,
        "window_start": TIME,
        "window_end": TIME,
        "rows": pl.Int64(),
        "digest": pl.String(),
        "requests": pl.Int64(),
        "source": pl.String(),
        "fetched_at": TIME,
    }
)
"""One asked day of one market, each time it was asked: when, how many rows came, and their digest.

``requests`` were answered for the fetch the day was part of, which may be a whole month.
"""

FAILED_FETCH_SCHEMA = pl.Schema(
    {
        **_KEY,
        "window_start": TIME,
        "window_end": TIME,
        "error": pl.String(),
        "message": pl.String(),
        "retryable": pl.Boolean(),
        "attempts": pl.Int64(),
        "run_id": pl.String(),
        "failed_at": TIME,
    }
)
"""One day of one market that was asked for and not got: the name of our error, what it said, how often it was tried."""

ARCHIVE_FILE_SCHEMA = pl.Schema(
    {
        **_KEY,
        "window_start": TIME,
        "window_end": TIME,
        "path": pl.String(),
        "sha256": pl.String(),
        "is_verified": pl.Boolean(),
        "size": pl.Int64(),
        "rows": pl.Int64(),
        "fetched_at": TIME,
    }
)
"""One of an exchange's bulk files, each time rows were taken from it; ``window_start`` is its first day that was asked.

``sha256`` is of the file as received; ``is_verified`` says that the exchange's own checksum agreed.
"""

VALUE_COLUMNS: tuple[str, ...] = (*_PRICES, *_AMOUNTS)
"""What a candle says, as opposed to which candle it is and where it came from."""


def require_schema(frame: pl.DataFrame, schema: pl.Schema, table: str) -> None:
    """Refuse a frame whose columns, order or types differ from ``schema``.

    Raises:
        SchemaMismatch: lists every missing, unexpected and differently typed column.
    """
    found, wanted = frame.schema, schema
    if list(found.items()) == list(wanted.items()):
        return
    differences = [f"{name}: missing, expected {dtype}" for name, dtype in wanted.items() if name not in found]
    differences += [f"{name}: not expected" for name in found if name not in wanted]
    differences += [
        f"{name}: expected {dtype}, got {found[name]}"
        for name, dtype in wanted.items()
        if name in found and found[name] != dtype
    ]
    raise SchemaMismatch(table, differences or [f"columns in another order: {', '.join(found)}"])


def empty(schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """Return a frame of ``schema`` without rows."""
    return pl.DataFrame(schema=pl.Schema(schema))
