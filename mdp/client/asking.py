"""Every question there is, made of checked arguments; both clients ask these.

Not here: asking (``transport``), what the answers hold (``values``, ``tables``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import quote

import msgspec

from mdp.client import quality
from mdp.client.arguments import Moment, as_currency, as_market, as_moment, as_timeframe, as_window, market_path
from mdp.client.errors import BadAnswer, describe, retry_after_s
from mdp.client.messages import read_buffer
from mdp.client.paging import Pages
from mdp.client.questions import ARROW, JSON, Question, Reply
from mdp.client.tables import as_schema, read_table
from mdp.client.values import (
    Generation,
    MarketEntry,
    MarketList,
    Readiness,
    SnapshotList,
    SnapshotManifest,
    SnapshotSummary,
)
from mdp.domain.interval import Interval, format_time
from mdp.domain.live import Buffer
from mdp.domain.market import Exchange, Market
from mdp.domain.timeframe import Timeframe
from mdp.errors import InputError

if TYPE_CHECKING:
    import polars as pl

Value = TypeVar("Value")


class Tagged(NamedTuple):
    """A buffer and the tag of this version of it; empty where none was sent."""

    etag: str
    buffer: Buffer


Parameters = tuple[tuple[str, str], ...]


def history(
    market: str | Market,
    timeframe: str | Timeframe,
    start: Moment,
    end: Moment | None,
    *,
    snapshot: str | None,
    as_of: Moment | None,
    page_rows: int | None,
) -> Pages:
    """Stored candles, page by page."""
    whose, length, window = as_market(market), as_timeframe(timeframe), as_window(start, end)
    if whose.is_volatility_index:
        raise InputError(
            "market", got=str(whose), expected=f"a traded market; for an index use dvol({whose.base!r}, …)"
        )
    parameters = (
        ("timeframe", length.value),
        *_bounds(window, is_open=end is None and snapshot is not None),
        *(() if snapshot is None else (("snapshot", snapshot),)),
        *(() if as_of is None else (("as_of", as_moment("as_of", as_of)),)),
        *(() if page_rows is None else (("limit", str(page_rows)),)),
    )
    same = {"exchange": whose.exchange.value, "symbol": whose.symbol_key, "timeframe": length.value}
    path = f"{market_path(whose)}/history"
    return Pages(path, parameters, window=window, schema=lambda: _schema("CANDLE_SCHEMA"), same=same)


def dvol(currency: str, start: Moment, end: Moment | None, *, snapshot: str | None, as_of: Moment | None) -> Pages:
    """The volatility index by the minute, page by page."""
    window = as_window(start, end)
    parameters = (
        *_bounds(window, is_open=end is None and snapshot is not None),
        *(() if snapshot is None else (("snapshot", snapshot),)),
        *(() if as_of is None else (("as_of", as_moment("as_of", as_of)),)),
    )
    same = {"exchange": Exchange.DERIBIT.value, "symbol": f"{as_currency(currency)}-DVOL", "timeframe": "1m"}
    path = f"/api/v1/dvol/{currency}"
    return Pages(path, parameters, window=window, schema=lambda: _schema("DVOL_SCHEMA"), same=same)


def gaps(market: str | Market, start: Moment | None, end: Moment | None) -> Question[pl.DataFrame]:
    """What is missing of a market, and why."""
    whose = as_market(market)
    return _table(f"{market_path(whose)}/gaps", _some_bounds(start, end), quality.gap_schema, {"market": str(whose)})


def revisions(market: str | Market, start: Moment | None, end: Moment | None) -> Question[pl.DataFrame]:
    """What the exchange changed afterwards."""
    whose = as_market(market)
    same = {"exchange": whose.exchange.value, "symbol": whose.symbol_key}
    path = f"{market_path(whose)}/revisions"
    return _table(path, _some_bounds(start, end), lambda: _schema("REVISION_SCHEMA"), same)


def coverage(market: str | Market | None, start: Moment | None, end: Moment | None) -> Question[pl.DataFrame]:
    """How much is stored, by market and day; None: of all markets."""
    whose = None if market is None else as_market(market)
    path = "/api/v1/coverage" if whose is None else f"{market_path(whose)}/coverage"
    same = {} if whose is None else {"market": str(whose)}
    return _table(path, _some_bounds(start, end), quality.day_schema, same)


def markets() -> Question[tuple[MarketEntry, ...]]:
    """What there is."""

    def read(reply: Reply) -> tuple[MarketEntry, ...]:
        return _decode(reply, MarketList).markets

    return Question("/api/v1/markets", read)


def buffer(market: Market, timeframe: Timeframe, held: Tagged | None) -> Question[Tagged]:
    """A live buffer and its tag; what is held already where it is still the same."""

    def read(reply: Reply) -> Tagged:
        if held is not None and reply.status == 304:
            return held
        return Tagged(reply.headers.get("etag", ""), read_buffer(reply.asked, _json(reply).body))

    path = f"{market_path(market)}/buffer/{timeframe.value}"
    if held is None or not held.etag:
        return Question(path, read)
    return Question(path, read, headers={"if-none-match": held.etag}, also_good=frozenset({304}))


def generate(market: str | Market, start: Moment, end: Moment) -> Question[Generation]:
    """Have missing days collected."""
    path = f"{market_path(as_market(market))}/generate"
    return Question(path, _read_generation, _bounds(as_window(start, end)), method="POST")


def generation(name: str) -> Question[Generation]:
    """How a generation is getting on."""
    return Question(f"/api/v1/generations/{quote(name, safe='')}", _read_generation)


def snapshots() -> Question[tuple[SnapshotSummary, ...]]:
    """Which snapshots there are."""

    def read(reply: Reply) -> tuple[SnapshotSummary, ...]:
        return _decode(reply, SnapshotList).snapshots

    return Question("/api/v1/snapshots", read)


def snapshot(name: str) -> Question[SnapshotManifest]:
    """What a snapshot holds."""
    return Question(f"/api/v1/snapshots/{quote(name, safe='')}", _reader(SnapshotManifest))


def report(path: str, parameters: Parameters = ()) -> Question[dict[str, Any]]:
    """A report, as the service documents it."""
    return Question(path, _reader(dict[str, Any]), parameters)


def readiness() -> Question[Readiness]:
    """Whether the service can do its work; an answer, whatever it is, is one."""

    def read(reply: Reply) -> Readiness:
        return Readiness(reply.status == 200, _decode(reply, dict[str, Any]))

    return Question("/readyz", read, also_good=frozenset({503}))


def _table(
    path: str, parameters: Parameters, schema: Callable[[], Mapping[str, pl.DataType]], same: Mapping[str, str]
) -> Question[pl.DataFrame]:
    def read(reply: Reply) -> pl.DataFrame:
        return as_schema(reply, read_table(reply), schema(), same)

    return Question(path, read, parameters, accept=ARROW)


def _schema(name: str) -> Mapping[str, pl.DataType]:
    # polars comes with it, so it is loaded when the first table comes
    from mdp.domain import candles

    found: Mapping[str, pl.DataType] = getattr(candles, name)
    return found


def _some_bounds(start: Moment | None, end: Moment | None) -> Parameters:
    if start is not None and end is not None:
        return _bounds(as_window(start, end))
    given = (("start", start), ("end", end))
    return tuple((name, as_moment(name, moment)) for name, moment in given if moment is not None)


def _bounds(window: Interval, *, is_open: bool = False) -> Parameters:
    """What says the window; without an end where the service knows it: that of a snapshot."""
    end = () if is_open else (("end", format_time(window.end)),)
    return ("start", format_time(window.start)), *end


def _read_generation(reply: Reply) -> Generation:
    return msgspec.structs.replace(_decode(reply, Generation), retry_after_s=retry_after_s(reply.headers))


def _reader(kind: type[Value]) -> Any:
    return lambda reply: _decode(reply, kind)


def _decode(reply: Reply, kind: type[Value]) -> Value:
    try:
        return msgspec.json.decode(_json(reply).body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadAnswer(
            reply.asked, f"{error}; got {describe(reply.headers, reply.body)}", status=reply.status
        ) from error


def _json(reply: Reply) -> Reply:
    kind = reply.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != JSON and not kind.endswith("+json"):
        raise BadAnswer(reply.asked, f"expected {JSON}, got {describe(reply.headers, reply.body)}", status=reply.status)
    return reply
