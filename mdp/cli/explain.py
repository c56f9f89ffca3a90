"""``mdp explain``: everything that is known of one candle, on a screen or as JSON.

Not here: finding it out (``pipeline.explaining``).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec
import polars as pl
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mdp.cli.output import print_table, shown
from mdp.domain.candles import VALUE_COLUMNS
from mdp.domain.interval import Interval, format_time
from mdp.domain.market import Market
from mdp.domain.timeframe import Timeframe
from mdp.pipeline.explanation import RULE_MEANINGS, Explanation, State
from mdp.reading import explain

_MOST_ROWS = 12
_MESSAGE_WIDTH = 60
_WEEK = timedelta(days=7)
_STATES: Mapping[State, str] = {
    State.GAP: "Not stored: it is recorded as a gap.",
    State.NOT_MADE: "Not stored, although minutes of it are: it was never resampled.",
    State.LOST: "Received, but not stored now: `mdp heal` makes it again.",
    State.UNJUDGED: "Not stored: its day was asked for, and no good answer for it, and no gap, is recorded. "
    "`mdp heal` judges the day again.",
    State.BEFORE_LISTING: "Not stored.",
    State.SEEN_MISSING: "Not stored: a feed asked for it, and the exchange gave none. Its day is not collected yet.",
    State.UNFETCHED: "Not stored, and nobody asked for it or got an answer.",
    State.FORMING: "Not stored: its time is not over yet.",
    State.TO_COME: "Not stored: its time is still to come.",
}


def show_explanation(market: str, time: str, timeframe: str, *, as_json: bool) -> None:
    """Print what is known of the candle that holds a time.

    Raises:
        InputError: an argument is wrong.
    """
    found = explain(market, time, timeframe=timeframe)
    if as_json:
        body = msgspec.json.encode(_plain(found), enc_hook=str)
        sys.stdout.buffer.write(msgspec.json.format(body, indent=2) + b"\n")
        return
    console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
    console.print(Text(f"{found.market} {found.timeframe} {format_time(found.slot.start)}", style="bold"))
    if found.is_floored:
        console.print(f"{format_time(found.asked)} lies inside this candle.")
    for title, content in _sections(found):
        console.print(Text(f"\n{title}", style="bold"))
        if isinstance(content, Table):
            print_table(content)
        else:
            console.print(content, soft_wrap=True)


def _sections(found: Explanation) -> Iterable[tuple[str, Table | Text]]:
    yield "CANDLE", _candle(found)
    if found.row is None or not found.gaps.is_empty():
        yield "GAP", _gap(found)
        yield "SEEN MISSING", _rows(found.sightings, ("fetched_at", "finding", "start", "end", "source", "requests"))
    yield (
        "ITS DAY WAS ASKED FOR",
        _rows(found.evidence.fetches, ("fetched_at", "timeframe", "source", "requests", "rows")),
    )
    if not found.evidence.failed.is_empty():
        yield "ATTEMPTS THAT FAILED", _rows(found.evidence.failed, ("failed_at", "error", "attempts", "message"))
    if not found.evidence.files.is_empty():
        yield "FILES OF THE EXCHANGE", _files(found.evidence.files)
    yield (
        "AS THE EXCHANGE ANSWERED",
        _rows(
            found.evidence.raw,
            ("open_time", "fetched_at", "source", "open", "high", "low", "close", "volume"),
        ),
    )
    if not found.evidence.rejected.is_empty():
        yield "REJECTED", _rejected(found.evidence.rejected)
    yield "REVISIONS", _revisions(found.evidence.revisions)
    if not found.market.is_volatility_index:
        yield "PART OF", _buckets(found)
    yield "GAPS AROUND", _around(found)
    yield "SNAPSHOTS THAT HOLD IT", _snapshots(found)
    if found.others:
        yield "OTHER EXCHANGES", _others(found)


def _candle(found: Explanation) -> Text | Table:
    if found.row is None:
        is_before = found.listed_at is not None and found.slot.end <= found.listed_at
        listed = f"Before the exchange listed the market, at {_text(found.listed_at)}. " if is_before else ""
        return Text(listed + _STATES[found.state])
    names = [name for name in found.row if name not in ("exchange", "symbol", "timeframe", "open_time")]
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    for name in names:
        table.add_row(name.replace("_", " "), Text(_text(found.row[name])))
    if found.timeframe is Timeframe.M1:
        table.add_row("equals what the exchange answered", Text(_as_answered(found)))
    return table


def _as_answered(found: Explanation) -> str:
    if found.answer is None or found.row is None:
        return "no good answer is stored" if found.is_collected else "received live, and its day is not collected yet"
    if found.equals_answer:
        return "yes"
    columns = {"dvol": "close"} if "dvol" in found.row else {name: name for name in VALUE_COLUMNS}
    differs = [
        f"{ours} {_number(found.answer[theirs])}"
        for ours, theirs in columns.items()
        if found.row[ours] != found.answer[theirs]
    ]
    return f"NO: it answered {', '.join(differs)}; `mdp heal` makes it again"


def _gap(found: Explanation) -> Text | Table:
    lines = [
        f"{format_time(row['start'])} to {format_time(row['end'])}, {_slots(row)}: "
        f"{row['cause'].replace('_', ' ')}{_permanence(row)}; last asked {_text(row['seen_at'])} of {row['source']}"
        + (f"; {row['detail']}" if row["detail"] else "")
        for row in found.gaps.iter_rows(named=True)
    ]
    if found.outage:
        lines.append(f"The exchange is known to have been down {found.outage.interval}: {found.outage.source}.")
    if found.listed_at and found.slot.start < found.listed_at:
        lines.append(f"The exchange listed the market later: {format_time(found.listed_at)}.")
    return Text("\n".join(shown(line) for line in lines) or "none is recorded")


def _slots(row: Mapping[str, Any]) -> str:
    return f"{row['slots']:,} {'slot' if row['slots'] == 1 else 'slots'} of {row['timeframe']}"


def _permanence(row: Mapping[str, Any]) -> str:
    times = row["sightings"]
    seen = "" if times is None else f", seen missing {({1: 'once', 2: 'twice'}).get(times, f'{times} times')}"
    return seen + {True: ", permanent", False: ", not permanent"}.get(row["is_permanent"], "")


def _files(files: pl.DataFrame) -> Text:
    lines = []
    for row in files.iter_rows(named=True):
        checked = "the exchange's checksum agrees" if row["is_verified"] else "no checksum of the exchange agreed"
        lines += [f"{row['path']}", f"  sha256 {row['sha256']}"]
        lines += [f"  {checked}; {row['rows']:,} rows, {row['size']:,} bytes, received {_text(row['fetched_at'])}"]
    return Text(shown("\n".join(lines)))


def _rejected(rejected: pl.DataFrame) -> Text:
    lines = []
    for row in rejected.iter_rows(named=True):
        prices = ", ".join(f"{name} {_text(row[name])}" for name in ("open", "high", "low", "close", "volume"))
        lines.append(f"{_text(row['open_time'])}, received {_text(row['fetched_at'])}: {prices}")
        lines += [f"  {name}: {RULE_MEANINGS.get(name, '')}" for name in row["failed_rules"]]
    return Text("\n".join(lines))


def _revisions(revisions: pl.DataFrame) -> Text:
    lines = []
    for row in revisions.iter_rows(named=True):
        changed = [name for name in (*VALUE_COLUMNS, "source") if row[f"old_{name}"] != row[f"new_{name}"]]
        lines.append(f"{_text(row['open_time'])} {row['timeframe']}, revised {_text(row['revised_at'])}:")
        lines += [f"  {name}: {_text(row[f'old_{name}'])} -> {_text(row[f'new_{name}'])}" for name in changed]
    return Text("\n".join(lines) or "none")


def _buckets(found: Explanation) -> Table:
    table = _table("timeframe", "open_time", "open", "high", "low", "close", "volume", "minutes", "equals its minutes")
    for one in found.buckets:
        values = [_text((one.row or {}).get(name)) for name in ("open", "high", "low", "close", "volume")]
        verdict = {True: "yes", False: "NO", None: "nothing is there"}[one.equals_minutes]
        if one.row is None and one.minutes:
            verdict = "NO: not made" if one.is_over else "not over yet"
        table.add_row(
            one.timeframe.value, _text(one.open_time), *values, f"{one.minutes}/{one.timeframe.minutes}", verdict
        )
    return table


def _around(found: Explanation) -> Text:
    before, after = (
        Interval(found.slot.start - _WEEK, found.slot.start),
        Interval(found.slot.end, found.slot.end + _WEEK),
    )
    lines = []
    for where, week, row in (("before", before, found.gap_before), ("after", after, found.gap_after)):
        said = (
            f"{format_time(row['start'])} to {format_time(row['end'])}, {row['cause'].replace('_', ' ')}" if row else ""
        )
        lines.append(f"{where}: {said or _unrecorded(week, found.listed_at)}")
    return Text("\n".join(lines))


def _unrecorded(week: Interval, listed_at: datetime | None) -> str:
    """What is known of a week in which no gap is recorded: before the listing nothing needs to be."""
    if listed_at is None or week.start >= listed_at:
        return "none is recorded in a week"
    whole = week.end <= listed_at
    return f"{'all of the week' if whole else 'part of the week'} is before the listing, {format_time(listed_at)}"


def _snapshots(found: Explanation) -> Text:
    lines = []
    for one in found.snapshots:
        said = "as it is stored now" if one.is_same else f"with other values: {_values(one.row)}"
        lines.append(f"{one.snapshot}: {'not stored then' if one.row is None and not one.is_same else said}")
    return Text("\n".join(lines) or "none")


def _others(found: Explanation) -> Table:
    table = _table("market", "open", "high", "low", "close", "volume", "source")
    for market, row in found.others.items():
        values = [_text(row[name]) if row else "" for name in ("open", "high", "low", "close", "volume", "source")]
        table.add_row(str(market), *map(Text, values if row else ["not stored", *[""] * 5]))
    return table


def _rows(rows: pl.DataFrame, names: Sequence[str]) -> Table | Text:
    if rows.is_empty():
        return Text("none")
    table = _table(*names)
    for row in rows.head(_MOST_ROWS).iter_rows(named=True):
        table.add_row(*(Text(_text(row[name])) for name in names))
    if len(rows) > _MOST_ROWS:
        table.caption = Text(f"and {len(rows) - _MOST_ROWS} more: --json has all")
    return table


def _table(*names: str) -> Table:
    """A table in which no number and no time is broken, however narrow the terminal: only a message has lines."""
    table = Table(box=None, pad_edge=False, header_style="dim", caption_justify="left", caption_style="")
    for name in names:
        is_message = name == "message"
        table.add_column(
            name.replace("_", " "), no_wrap=not is_message, max_width=_MESSAGE_WIDTH if is_message else None
        )
    return table


def _values(row: Mapping[str, Any] | None) -> str:
    return ", ".join(f"{name} {_text(row[name])}" for name in (*VALUE_COLUMNS, "dvol") if name in row) if row else ""


def _text(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    return f"{value:.12g}" if isinstance(value, float) else shown(str(value))


def _number(value: float | None) -> str:
    """Write a value with all its digits: two that differ must not look the same."""
    return _text(value) if value is None or float(f"{value:.12g}") == value else repr(value)


def _plain(value: Any) -> Any:
    """What JSON can hold: tables as lists of rows, dataclasses by field; times in UTC."""
    if isinstance(value, pl.DataFrame):
        return [_plain(row) for row in value.iter_rows(named=True)]
    if isinstance(value, Market):
        return str(value)
    if isinstance(value, Interval):
        return {"start": format_time(value.start), "end": format_time(value.end)}
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(inner) for inner in value]
    return format_time(value) if isinstance(value, datetime) else value
