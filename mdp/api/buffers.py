"""The route of live buffers, as FastAPI knows it; what is usual is answered before it comes here.

Not here: that (``quick_answers``), how a buffer is spelled (``buffer_bodies``).
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from mdp.api.buffer_bodies import COLUMNS, FORMS, SpelledBuffer, as_document
from mdp.api.compression import choose_encoding
from mdp.api.conditional import matches
from mdp.api.formats import MEDIA_TYPES, Format, FormatText, choose_format
from mdp.api.parameters import only_known_parameters
from mdp.api.problems import Problem, documented, not_found, unavailable
from mdp.api.surroundings import Around, Surroundings
from mdp.domain.live import Buffer, CandleState, LiveCandle
from mdp.domain.market import MARKETS, Market
from mdp.domain.timeframe import Timeframe
from mdp.reading.buffers import to_start

router = APIRouter(tags=["Buffers"], dependencies=[Depends(only_known_parameters)])

PATH = "/api/v1/market-data/{exchange}/{symbol}/buffer/{timeframe}"


class BufferDocument(BaseModel):
    """The last candles of a market and timeframe, the forming one included."""

    exchange: str
    symbol: str
    timeframe: str
    size: int
    seq: int
    written_at: str
    is_stale: bool
    columns: list[str]
    rows: list[list[str | float | int | None]]


_MINUTE = 1_735_553_700_000_000
_EXAMPLE = as_document(
    Buffer(
        MARKETS[0],
        Timeframe.M1,
        100,
        (
            LiveCandle(_MINUTE, 93_576.0, 93_610.1, 93_560.5, 93_601.9, 12.31, 1_152_051.2, 1_904, 1,
                       CandleState.CONFIRMED, "rest", _MINUTE + 70_000_000),
            LiveCandle(_MINUTE + 60_000_000, 93_601.9, 93_602.0, 93_598.4, 93_600.0, 0.62, 58_031.7, 88, 1,
                       CandleState.FORMING, "stream", _MINUTE + 63_250_000),
        ),
        48_211,
        _MINUTE + 63_250_000,
    )
)  # fmt: skip

_HEADERS = {
    "ETag": {"description": "Of this version, in this form.", "schema": {"type": "string"}},
    "X-MDP-Seq": {"description": "Grows by one with each change of the buffer.", "schema": {"type": "integer"}},
    "X-MDP-Stale": {"description": "Whether nobody keeps the buffer now.", "schema": {"enum": ["true", "false"]}},
}
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_OK = {
    "description": f"The buffer. Columns: {', '.join(COLUMNS)}.",
    "headers": _HEADERS,
    "content": {
        "application/json": {"example": _EXAMPLE},
        **{MEDIA_TYPES[format_]: _BINARY for format_ in Format if format_ is not Format.JSON},
    },
}


@router.get(
    PATH,
    summary="The live buffer of a market",
    response_model=BufferDocument,
    responses={
        200: _OK,
        304: {"description": "The version of `If-None-Match` is the newest."},
        **documented(404, 406, 409),
    },
)
@router.head(PATH, include_in_schema=False)
async def buffer(
    around: Around,
    request: Request,
    exchange: Annotated[str, Path(examples=["binance"])],
    symbol: Annotated[str, Path(examples=["BTC-USDT"])],
    timeframe: Annotated[str, Path(examples=["1m"])],
    format_: FormatText = None,
) -> Response:
    """The last closed candles (100, unless set otherwise) and the forming one, from memory.

    `is_stale` is true while no feed keeps it or the bus is away: then it may be old. A candle's `state` says how sure
    it is: `forming`, `closed`, `confirmed` by REST, or `corrected`. A slot that the exchange left out is not there.
    """
    form = choose_format(request, format_)
    spelled = _find(around, exchange, symbol, timeframe)
    headers = request.headers
    answer = spelled.answer(FORMS.index((form, choose_encoding(headers.get("accept-encoding")))))
    if answer is None:
        raise unavailable(_why_not(around, around.market(exchange, symbol), timeframe))
    if matches(headers.get("if-none-match"), answer.etag.decode()):
        return _response(304, b"", answer.unchanged_headers)
    return _response(200, b"" if request.method == "HEAD" else answer.body, answer.headers)


def _response(status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> Response:
    response = Response(body, status)
    response.raw_headers = headers
    return response


def _find(around: Surroundings, exchange: str, symbol: str, timeframe: str) -> SpelledBuffer:
    market = around.market(exchange, symbol)
    if timeframe not in list(Timeframe):
        raise not_found("timeframe", timeframe, f"one of {', '.join(Timeframe)}", list(Timeframe))
    if around.settings.mode != "live":
        said = "the service runs in mode backtest, where no feed keeps buffers; ask history for any past candle"
        raise Problem(409, "no-live-buffers", "There are no live buffers here", said)
    return around.spelled[market, Timeframe(timeframe)]


def _why_not(around: Surroundings, market: Market, timeframe: str) -> str:
    if not around.mirror.is_connected:
        return f"{market} {timeframe}: nobody keeps it now: no feed runs, or the bus is away; {to_start(market)}"
    return f"{market} {timeframe}: no feed has written this buffer yet; {to_start(market)}"
