"""The least of four exchanges that a source can be tested against: their wire formats, bounds, caps and orders.

Written from the exchanges' documents, not from our parsers. Not here: the HTTP server (``support.scripted_exchange``).
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import NamedTuple

from mdp.domain.market import Exchange, Market
from mdp.domain.timeframe import Timeframe
from mdp_tests.support.scripted_exchange import Reply, Request

NOW = datetime(2024, 12, 31, 12, 0, 30, tzinfo=UTC)
"""What the scripted exchanges' clocks say."""

NEWEST_HELD = 1_440
"""How many candles OKX's ``candles`` reaches back."""


class Row(NamedTuple):
    """A candle on the wire: everything but the time as text."""

    open_ms: int
    open: str
    high: str
    low: str
    close: str
    volume: str
    quote_volume: str
    trades: int


@cache
def row_at(open_ms: int) -> Row:
    """Return a candle that depends on its time alone; no two neighbours are alike."""
    price = 40_000 + (open_ms // 1_000) % 977 / 10
    volume = 1 + (open_ms // 60_000) % 89 / 8
    return Row(
        open_ms, f"{price:.2f}", f"{price + 5:.2f}", f"{price - 5:.2f}", f"{price + 1:.2f}",
        f"{volume:.8f}", f"{volume * price:.8f}", 10 + open_ms // 60_000 % 50,
    )  # fmt: skip


@dataclass(slots=True)
class Book:
    """What a scripted exchange knows.

    Attributes:
        step_ms: Length of its candles.
        first_ms: Its listing: there is nothing before.
        now_ms: Its time.
        missing: Open times that it does not have.
        extra: Rows beside those of the grid.
    """

    step_ms: int = 60_000
    first_ms: int = 0
    now_ms: int = int(NOW.timestamp() * 1_000)
    missing: set[int] = field(default_factory=set)
    extra: list[Row] = field(default_factory=list)

    def between(self, first_ms: int, last_ms: int) -> list[Row]:
        """Return the candles that open from ``first_ms`` to ``last_ms``, both inclusive, oldest first."""
        start = -(-max(first_ms, self.first_ms) // self.step_ms) * self.step_ms
        end = min(last_ms, self.now_ms)
        rows = [row_at(ms) for ms in range(start, end + 1, self.step_ms) if ms not in self.missing]
        return sorted(rows + [row for row in self.extra if first_ms <= row.open_ms <= end])


class Wire(ABC):
    """One exchange's way of speaking."""

    exchange: Exchange
    market: Market
    timeframe = Timeframe.M1
    time_path: str
    max_rows: int

    def __init__(self) -> None:
        self.book = Book(step_ms=self.timeframe.milliseconds)

    def is_time(self, request: Request) -> bool:
        return request.path.endswith(self.time_path)

    def answer(self, request: Request) -> Reply:
        return Reply(self.time() if self.is_time(request) else self.candles(request))

    @abstractmethod
    def time(self) -> str: ...

    @abstractmethod
    def candles(self, request: Request) -> str: ...

    @abstractmethod
    def wrap(self, rows: Sequence[object]) -> str:
        """Put rows of this wire into a whole body."""

    @abstractmethod
    def spell(self, row: Row) -> list[object]:
        """Write one candle."""


class BinanceWire(Wire):
    exchange = Exchange.BINANCE
    market = Market.parse("binance:BTC-USDT")
    time_path = "/api/v3/time"
    max_rows = 1_000

    def time(self) -> str:
        return json.dumps({"serverTime": self.book.now_ms})

    def candles(self, request: Request) -> str:
        query = request.query
        assert (request.path, query["symbol"]) == ("/binance/api/v3/klines", "BTCUSDT")
        assert query["interval"] == self.timeframe
        rows = self.book.between(int(query["startTime"]), int(query["endTime"]))
        return self.wrap([self.spell(row) for row in rows[: int(query["limit"])]])  # the oldest

    def wrap(self, rows: Sequence[object]) -> str:
        return json.dumps(rows)

    def spell(self, row: Row) -> list[object]:
        last = row.open_ms + self.book.step_ms - 1
        return [row.open_ms, *row[1:6], last, row.quote_volume, row.trades, "0.5", "20000.0", "0"]


class BybitWire(Wire):
    exchange = Exchange.BYBIT
    market = Market.parse("bybit:BTC-USDT")
    time_path = "/v5/market/time"
    max_rows = 1_000

    def time(self) -> str:
        return json.dumps({"retCode": 0, "retMsg": "OK", "result": {}, "retExtInfo": {}, "time": self.book.now_ms})

    def candles(self, request: Request) -> str:
        query = request.query
        assert request.path == "/bybit/v5/market/kline"
        assert (query["category"], query["symbol"], query["interval"]) == ("spot", "BTCUSDT", "1")
        rows = self.book.between(int(query["start"]), int(query["end"]))
        return self.wrap([self.spell(row) for row in reversed(rows[-int(query["limit"]) :])])  # the newest

    def wrap(self, rows: Sequence[object]) -> str:
        result = {"category": "spot", "symbol": "BTCUSDT", "list": rows}
        return json.dumps({"retCode": 0, "retMsg": "OK", "result": result, "retExtInfo": {}, "time": self.book.now_ms})

    def spell(self, row: Row) -> list[object]:
        return [str(row.open_ms), *row[1:7]]


class OkxWire(Wire):
    exchange = Exchange.OKX
    market = Market.parse("okx:BTC-USDT")
    time_path = "/api/v5/public/time"
    max_rows = 300

    def time(self) -> str:
        return json.dumps({"code": "0", "msg": "", "data": [{"ts": str(self.book.now_ms)}]})

    def candles(self, request: Request) -> str:
        query, book = request.query, self.book
        assert (query["instId"], query["bar"]) == ("BTC-USDT", "1m")
        rows = book.between(int(query["before"]) + 1, int(query["after"]) - 1)
        if request.path == "/okx/api/v5/market/candles":
            rows = [row for row in rows if row.open_ms > book.now_ms - NEWEST_HELD * book.step_ms]
        else:
            assert request.path == "/okx/api/v5/market/history-candles"
            rows = [row for row in rows if row.open_ms + 2 * book.step_ms <= book.now_ms]
        return self.wrap([self.spell(row) for row in reversed(rows[-int(query["limit"]) :])])  # the newest

    def wrap(self, rows: Sequence[object]) -> str:
        return json.dumps({"code": "0", "msg": "", "data": rows})

    def spell(self, row: Row) -> list[object]:
        is_closed = row.open_ms + self.book.step_ms <= self.book.now_ms
        return [str(row.open_ms), *row[1:7], row.quote_volume, "1" if is_closed else "0"]


class DeribitWire(Wire):
    exchange = Exchange.DERIBIT
    market = Market.parse("deribit:BTC-DVOL")
    timeframe = Timeframe.H1
    time_path = "/api/v2/public/get_time"
    max_rows = 1_000
    rows_given = 1_000

    def time(self) -> str:
        return json.dumps({"jsonrpc": "2.0", "result": self.book.now_ms, "usIn": 1, "usOut": 2, "testnet": False})

    def candles(self, request: Request) -> str:
        query = request.query
        assert request.path == "/deribit/api/v2/public/get_volatility_index_data"
        assert (query["currency"], query["resolution"]) == ("BTC", "3600")
        rows = self.book.between(int(query["start_timestamp"]), int(query["end_timestamp"]))
        given = rows[-self.rows_given :]  # the newest; the next page begins with the oldest of them
        return self.wrap([self.spell(row) for row in given], given[0].open_ms if len(given) < len(rows) else None)

    def wrap(self, rows: Sequence[object], continuation: int | None = None) -> str:
        result = {"data": rows, "continuation": continuation}
        return json.dumps({"jsonrpc": "2.0", "result": result, "usIn": 1, "usOut": 2, "usDiff": 1, "testnet": False})

    def spell(self, row: Row) -> list[object]:
        return [row.open_ms, *(float(price) / 1_000 for price in row[1:5])]


WIRES: tuple[type[Wire], ...] = (BinanceWire, BybitWire, OkxWire, DeribitWire)

Script = list[Reply | Callable[[Request], Reply] | None]
"""What the first requests for candles are answered with; None: as usual."""


@dataclass(slots=True)
class Scripted:
    """Answers as a wire does, but for the first requests for candles, which follow a script."""

    wire: Wire
    script: Script = field(default_factory=list)
    asked: list[Request] = field(default_factory=list)

    def __call__(self, request: Request) -> Reply:
        if self.wire.is_time(request):
            return self.wire.answer(request)
        self.asked.append(request)
        step = self.script.pop(0) if self.script else None
        if step is None:
            return self.wire.answer(request)
        return step if isinstance(step, Reply) else step(request)
