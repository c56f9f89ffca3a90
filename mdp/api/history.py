"""``…/history``: stored candles of a window, page by page, and the closed ones of the live buffer after them.

Not here: reading a page (``reading.pages``), making what is missing (``generations``), gaps and coverage (``reports``).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field, WithJsonSchema
from starlette.requests import Request
from starlette.responses import Response

from mdp.api.callers import Scope, require
from mdp.api.formats import Format, FormatText, choose_format
from mdp.api.generations import begin
from mdp.api.paging import Cursor, next_link, read_cursor
from mdp.api.parameters import (
    TIME_SCHEMA,
    EndText,
    ExchangeText,
    LimitText,
    RequiredStart,
    SymbolText,
    limit_of,
    moment_of,
    only_known_parameters,
    present_end,
    time_parameter,
    timeframe_of,
    window_of,
)
from mdp.api.problems import wrong_parameter
from mdp.api.row_answers import IMMUTABLE, REVALIDATED, Rows, answer_rows, documented_rows
from mdp.api.surroundings import Around, Surroundings
from mdp.domain.interval import Interval, format_time
from mdp.domain.market import Market
from mdp.domain.timeframe import Timeframe
from mdp.pipeline.manifests import Manifest
from mdp.pipeline.snapshots import manifest_of, require_held
from mdp.ports import DVOL, OHLCV, Slice
from mdp.reading.pages import Page, Wanted, read_page
from mdp.reading.view import view_of

router = APIRouter(tags=["History"], dependencies=[Depends(only_known_parameters)])

TimeframeText = Annotated[
    str | None,
    Query(description="Length of the candles; an index has `1m` only, which need not be said.", examples=["1h"]),
    WithJsonSchema({"type": "string", "enum": [*Timeframe]}),
]
CursorText = Annotated[
    str | None, Query(description="`next_cursor` of the page before; all else as for that one.", max_length=200)
]
SnapshotText = Annotated[
    str | None,
    Query(
        description="What the snapshot of that name holds, instead of what is stored now. `NAME@ID`, with the first 12 "
        "or more characters of its id, is refused when the name means another snapshot by now, and may be kept for "
        "ever.",
        examples=["paper-2025"],
        max_length=200,
    ),
]
AsOfText = Annotated[
    str | None,
    time_parameter("What was stored at that time, whatever was corrected or filled in since.", "2025-01-15T12:00Z"),
    WithJsonSchema(TIME_SCHEMA),
]
ModeText = Annotated[
    str | None,
    Query(
        description="`retrieve` gives what is there. `generate` launches a backfill of the days that are missing, as "
        "`POST …/generate` does; it needs a key with that scope.",
    ),
    WithJsonSchema({"type": "string", "enum": ["retrieve", "generate"], "default": "retrieve"}),
]

COLUMNS = (
    "open_time", "open", "high", "low", "close", "volume", "quote_volume", "trades", "minutes", "source", "ingested_at",
)  # fmt: skip


class HistoryPage(BaseModel):
    """One page of rows, ascending by ``open_time``."""

    exchange: str
    symbol: str
    timeframe: str
    start: Annotated[str, Field(description="First instant of the window, of all pages.")]
    end: Annotated[str, Field(description="Where the window ends, excluded; what `end` was by default, too.")]
    snapshot: Annotated[str | None, Field(description="What was asked for.")] = None
    as_of: Annotated[str | None, Field(description="What was asked for.")] = None
    unstored: Annotated[int, Field(description="So many of the last rows are of the live buffer, not stored yet.")]
    next_cursor: Annotated[str | None, Field(description="`cursor` of the next page; null: this is the last.")] = None
    columns: list[str]
    rows: Annotated[list[list[Any]], Field(description="In the order of `columns`.")]


EXAMPLE = {
    "exchange": "binance", "symbol": "BTC-USDT", "timeframe": "1h", "start": "2024-12-30T00:00:00Z",
    "end": "2024-12-30T01:00:00Z", "snapshot": None, "as_of": None, "unstored": 0, "next_cursor": None,
    "columns": list(COLUMNS),
    "rows": [["2024-12-30T00:00:00Z", 93738.19, 94034.26, 93500.01, 93771.5, 689.75, 64707530.2, 180442, 60,
              "resampled", "2026-01-02T03:04:05Z"]],
}  # fmt: skip

PAGE_HEADERS = ("Link", "X-MDP-Next-Cursor", "X-MDP-Unstored")


@dataclass(frozen=True, slots=True)
class Asked:
    """A question for history, understood but for its time.

    Attributes:
        market: Whose.
        timeframe: Of the rows.
        start: Text, as it came.
        end: Text; None: the present, or where the snapshot ends.
        limit: Rows at most.
        cursor: Of the page before.
        snapshot: Name, with or without an id.
        as_of: When.
    """

    market: Market
    timeframe: Timeframe
    start: str
    end: str | None
    limit: int
    cursor: str | None
    snapshot: str | None = None
    as_of: datetime | None = None


@router.head("/api/v1/market-data/{exchange}/{symbol}/history", include_in_schema=False)
@router.get(
    "/api/v1/market-data/{exchange}/{symbol}/history",
    summary="Stored candles of a window",
    response_class=Response,
    responses=documented_rows(HistoryPage, EXAMPLE, headers=PAGE_HEADERS),
)
async def history(
    request: Request,
    around: Around,
    exchange: ExchangeText,
    symbol: SymbolText,
    start: RequiredStart,
    timeframe: TimeframeText = None,
    end: EndText = None,
    limit: LimitText = None,
    cursor: CursorText = None,
    snapshot: SnapshotText = None,
    as_of: AsOfText = None,
    mode: ModeText = None,
    format_: FormatText = None,
) -> Response:
    """Give the candles that open inside `[start, end)`, oldest first.

    Unless it is given, `end` is now, or where the snapshot ends. What is not stored is absent: nothing is filled in.
    Candles that have closed but are not stored yet, up to a minute's worth, come from the live buffer when neither
    `snapshot` nor `as_of` is asked for; a forming one never does.

    While there is more, `next_cursor` and `Link` lead to the next page; all pages together are exactly what one answer
    would be.
    """
    market = around.market(exchange, symbol)
    if mode not in (None, "retrieve", "generate"):
        raise wrong_parameter("mode", mode, "retrieve or generate", ["retrieve", "generate"])
    if mode == "generate":
        return await _generate(request, around, market, window_of(start, end, present_end()))
    asked = Asked(
        market, timeframe_of(timeframe, market), start, end, limit_of(limit, around.settings.api.max_rows), cursor,
        snapshot, None if as_of is None else moment_of("as_of", as_of),
    )  # fmt: skip
    return await answer(request, around, asked, choose_format(request, format_))


async def answer(request: Request, around: Surroundings, asked: Asked, format_: Format) -> Response:
    """Answer a question for rows of a market.

    Raises:
        Problem: 400, the window, the cursor or the snapshot is wrong.
        MdpError: storage cannot answer.
    """
    return await around.in_thread(partial(_read_and_answer, request, around, asked, format_))


def _read_and_answer(request: Request, around: Surroundings, asked: Asked, format_: Format) -> Response:
    window_of(asked.start, asked.end, present_end())  # what is wrong with it is told before a snapshot is looked for
    snapshot = _snapshot(around, asked.snapshot)
    window = window_of(asked.start, asked.end, present_end() if snapshot is None else snapshot.manifest.end)
    if snapshot is not None:  # of the whole window, not of a page that somebody comes to later
        table = DVOL if asked.market.is_volatility_index else OHLCV
        require_held(snapshot.manifest, table, Slice(asked.market, (asked.timeframe,), window))
    question = _question(asked, window, snapshot)
    rest = window
    if asked.cursor is not None:
        cursor = read_cursor(asked.cursor, question, window)
        window = Interval(window.start, cursor.end)
        rest = Interval(cursor.after + datetime.resolution, cursor.end)
    # Taken before storage is read: what leaves the buffer meanwhile is stored.
    buffer = around.mirror.find(asked.market, asked.timeframe)
    view = view_of(around.store, as_of=asked.as_of, snapshot=None if snapshot is None else snapshot.manifest.name)
    wanted = Wanted(asked.market, asked.timeframe, rest, asked.limit, asked.cursor is None)
    page = read_page(view, wanted, buffer)
    following = None
    if page.has_more:
        following = Cursor(page.rows["open_time"][-1], window.end).spell(question)
    return answer_rows(request, format_, _rows(request, asked, window, page, following, snapshot))


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """A snapshot that is asked for: what it holds, and whether the question names its identity."""

    manifest: Manifest
    is_pinned: bool


def _snapshot(around: Surroundings, text: str | None) -> _Snapshot | None:
    if text is None:
        return None
    name, at, pinned = text.partition("@")
    manifest = manifest_of(around.store, name)
    if at and (len(pinned) < _SHORTEST_ID or not manifest.id.startswith(pinned)):
        raise wrong_parameter("snapshot", text, f"{name}@{manifest.id[:_SHORTEST_ID]}, which is its id now")
    return _Snapshot(manifest, bool(at))


_SHORTEST_ID = 12


def _question(asked: Asked, window: Interval, snapshot: _Snapshot | None) -> str:
    """All that must be the same for a cursor to be of use; an end that was not given is in the cursor."""
    end = "now" if asked.end is None else format_time(window.end)
    as_of = "" if asked.as_of is None else format_time(asked.as_of)
    held = "" if snapshot is None else f"{snapshot.manifest.name}@{snapshot.manifest.id}"
    return "\n".join([str(asked.market), asked.timeframe, format_time(window.start), end, held, as_of])


def _rows(
    request: Request, asked: Asked, window: Interval, page: Page, following: str | None, snapshot: _Snapshot | None
) -> Rows:
    headers = {"x-mdp-unstored": str(page.unstored)}
    if following is not None:
        headers |= {"link": next_link(request, following), "x-mdp-next-cursor": following}
    head = {
        "exchange": asked.market.exchange.value,
        "symbol": asked.market.symbol_key,
        "timeframe": asked.timeframe.value,
        "start": format_time(window.start),
        "end": format_time(window.end),
        "snapshot": asked.snapshot,
        "as_of": None if asked.as_of is None else format_time(asked.as_of),
        "unstored": page.unstored,
        "next_cursor": following,
    }
    frame = page.rows.drop("exchange", "symbol", "timeframe")
    is_for_ever = snapshot is not None and snapshot.is_pinned
    return Rows(frame, head, headers, IMMUTABLE if is_for_ever else REVALIDATED)


async def _generate(request: Request, around: Surroundings, market: Market, window: Interval) -> Response:
    if request.method == "HEAD":
        raise wrong_parameter("mode", "generate", "retrieve: a HEAD request begins nothing", ["retrieve"])
    require(request.scope.get("mdp.caller"), Scope.GENERATE)
    return await begin(around, market, window)
