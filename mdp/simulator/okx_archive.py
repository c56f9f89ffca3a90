"""OKX's bulk files of one-minute candles on the wire: daily and monthly zips, and the index that lists them.

A day or a month is one of UTC+8, and is there two days after its end.
Source: OKX API guide "Get historical market data" (2026-07) for the index; the addresses and the columns of the files
as third parties published them. Chosen, because neither says it: the hour of publication (midnight UTC+8), which files
``begin`` and ``end`` select (those whose day or month holds a moment between them, both included), the code of a
refusal. Not here: which candles there are (``history``), keeping files (``archive_shelf``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import islice

import polars as pl
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mdp.domain.market import Exchange
from mdp.domain.timeframe import Timeframe
from mdp.simulator.answers import answer, client_of, shortest_decimal
from mdp.simulator.archive_shelf import (
    Shelf,
    candles_of_file,
    day_ms,
    hand_out,
    next_month,
    no_such_key,
    pack,
    parse_day,
)
from mdp.simulator.candles import DAY_MS, Candles
from mdp.simulator.levels import END_DAY
from mdp.simulator.markets import MARKETS_BY_ID, SimulatedMarket
from mdp.simulator.simulation import Simulation

INDEX = "public/market-data-history"
"""The end of the index's path."""

MOST_AT_ONCE = 20
"""Days or months that one call of the index may span."""

_ROOT = "cdn/okex/traderecords/candlesticks"
_EAST_MS = 8 * 3_600_000
_LATE = timedelta(days=2)
_MONTHLY, _DAILY = "monthly", "daily"


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """One file: whose candles, from which first day of UTC+8 to which last day, exclusive."""

    market: SimulatedMarket
    kind: str
    first: date

    @property
    def end(self) -> date:
        """The first day that is not in it."""
        return next_month(self.first) if self.kind == _MONTHLY else self.first + timedelta(days=1)

    @property
    def stem(self) -> str:
        """Its name, without the ending."""
        spelled = f"{self.first:%Y-%m}" if self.kind == _MONTHLY else f"{self.first}"
        return f"{self.market.market_id}-candlesticks-{spelled}"

    @property
    def path(self) -> str:
        """Where it is, below the archive's address."""
        folder = f"{self.first:%Y%m}" if self.kind == _MONTHLY else f"{self.first:%Y%m%d}"
        return f"{_ROOT}/{self.kind}/{folder}/{self.stem}.zip"

    @property
    def first_ms(self) -> int:
        """The moment at which it begins."""
        return day_ms(self.first) - _EAST_MS

    @property
    def end_ms(self) -> int:
        """The moment at which it ends."""
        return day_ms(self.end) - _EAST_MS

    def is_published(self, now_ms: int) -> bool:
        """Tell whether it is there; the day T is two days later, and nothing is there of before the listing."""
        published_ms = day_ms(self.end - timedelta(days=1) + _LATE) - _EAST_MS
        is_simulated = self.end_ms <= END_DAY * DAY_MS
        return now_ms >= published_ms and self.end_ms > self.market.first_candle_ms and is_simulated


def routes(simulation: Simulation, shelf: Shelf | None = None) -> list[Route]:
    """Return the archive's one endpoint, to be mounted under its prefix."""
    kept = shelf or Shelf()

    async def endpoint(request: Request) -> Response:
        path = request.path_params["path"]
        file = _understand(path)
        if file is None or not file.is_published(simulation.clock()):
            return no_such_key(path)
        return hand_out(kept.get(path, simulation.alterations.version, lambda: _make(simulation, file)))

    return [Route("/{path:path}", endpoint, methods=["GET"])]


def _understand(path: str) -> PublishedFile | None:
    parts = path.removeprefix(f"{_ROOT}/").split("/")
    if len(parts) != 3 or parts[0] not in (_MONTHLY, _DAILY):
        return None
    market_id, _, spelled = parts[2].removesuffix(".zip").partition("-candlesticks-")
    market, first = MARKETS_BY_ID[Exchange.OKX].get(market_id), parse_day(spelled)
    if market is None or first is None:
        return None
    file = PublishedFile(market, parts[0], first)
    return file if file.path == path else None


def _make(simulation: Simulation, file: PublishedFile) -> bytes:
    candles = candles_of_file(simulation, file.market, Timeframe.M1, (file.first_ms, file.end_ms))
    return pack(f"{file.stem}.csv", print_csv(candles, file.market.market_id))


def print_csv(candles: Candles, market_id: str) -> bytes:
    """Print candles as the lines of a file, header first, as the exchange does."""
    lines = candles.to_frame().select(
        pl.lit(market_id).alias("instrument_name"),
        *(shortest_decimal(name).alias(name) for name in ("open", "high", "low", "close")),
        shortest_decimal("volume").alias("vol"),
        shortest_decimal("quote_volume").alias("vol_ccy"),
        shortest_decimal("quote_volume").alias("vol_quote"),
        pl.col("open_ms").alias("open_time"),
        pl.lit("1").alias("confirm"),
    )
    return lines.write_csv().encode()


def listed(market: SimulatedMarket, kind: str, begin_ms: int, end_ms: int) -> Iterator[PublishedFile]:
    """Yield the files of days or months that hold a moment from ``begin_ms`` to ``end_ms``, both included."""
    file = PublishedFile(
        market, kind, _east_date(begin_ms).replace(day=1) if kind == _MONTHLY else _east_date(begin_ms)
    )
    while file.first_ms <= end_ms:
        yield file
        file = PublishedFile(market, kind, file.end)


def index_route(simulation: Simulation) -> Route:
    """Return the index's endpoint, to stand among those of the exchange's API."""

    async def endpoint(request: Request) -> Response:
        if not simulation.quotas.okx[INDEX].take(client_of(request)).is_allowed:
            return _index_answer([], "50011", "Too Many Requests", status=429)
        now_ms = simulation.clock()
        try:
            market, kind, begin_ms, end_ms = _wanted(request.query_params)
        except _Refused as refused:
            return _index_answer([], refused.code, str(refused), status=400)
        files = [file for file in listed(market, kind, begin_ms, min(end_ms, now_ms)) if file.is_published(now_ms)]
        archive_url = str(request.base_url.replace(path="/okx-archive", query="", fragment=""))
        return _index_answer(_describe(files, kind, now_ms, archive_url))

    return Route(f"/api/v5/{INDEX}", endpoint, methods=["GET"])


class _Refused(Exception):
    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def _wanted(params: QueryParams) -> tuple[SimulatedMarket, str, int, int]:
    for name, known in (("module", "2"), ("instType", "SPOT")):
        if params.get(name) != known:  # the other modules and types are not simulated
            raise _Refused("51000", f"Parameter {name} error")
    market = MARKETS_BY_ID[Exchange.OKX].get(params.get("instIdList", ""))
    if market is None:
        raise _Refused("51001", "Instrument ID doesn't exist.")
    kind = params.get("dateAggrType", "")
    if kind not in (_MONTHLY, _DAILY):
        raise _Refused("51000", "Parameter dateAggrType error")
    begin, end = params.get("begin", ""), params.get("end", "")
    if not (re.fullmatch(r"\d{13}", begin) and re.fullmatch(r"\d{13}", end) and int(begin) <= int(end)):
        raise _Refused("51000", "Parameter begin or end error")
    if len(list(islice(listed(market, kind, int(begin), int(end)), MOST_AT_ONCE + 1))) > MOST_AT_ONCE:
        raise _Refused("51000", f"Parameter end error: at most {MOST_AT_ONCE} files")
    return market, kind, int(begin), int(end)


def _index_answer(data: object, code: str = "0", message: str = "", status: int = 200) -> Response:
    return answer({"code": code, "msg": message, "data": data}, status=status)


def _describe(files: list[PublishedFile], kind: str, now_ms: int, archive_url: str) -> list[dict[str, object]]:
    listing: dict[str, object] = {"ts": str(now_ms), "totalSizeMB": "", "dateAggrType": kind, "details": []}
    if files:
        group = {
            "instId": files[0].market.market_id,
            "instFamily": "",
            "instType": "SPOT",
            "dateRangeStart": str(files[0].first_ms),
            "dateRangeEnd": str(files[-1].first_ms),
            "groupSizeMB": "",
            "groupDetails": [_entry(file, archive_url) for file in reversed(files)],
        }
        listing["details"] = [group]
    return [listing]


def _entry(file: PublishedFile, archive_url: str) -> dict[str, str]:
    url = f"{archive_url}/{file.path}"
    return {"filename": f"{file.stem}.zip", "dateTs": str(file.first_ms), "sizeMB": "", "url": url}


def _east_date(moment_ms: int) -> date:
    return datetime.fromtimestamp((moment_ms + _EAST_MS) // 1_000, tz=UTC).date()
