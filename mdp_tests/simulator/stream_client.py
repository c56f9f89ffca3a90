"""A raw WebSocket client for the simulator's streams, and what its messages say, read without the project's parsers.

Not here: the streams of the project (``mdp.exchanges``), CCXT's.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from contextlib import asynccontextmanager
from typing import NamedTuple

import aiohttp

PATHS = {
    "binance": "/stream/ws/0",
    "bybit": "/v5/public/spot",
    "okx": "/ws/v5/business",
    "deribit": "/ws/api/v2",
}
SPOT = ("binance", "bybit", "okx")

_NUMBERS = itertools.count(1)


class Seen(NamedTuple):
    """One candle message. ``values``: open, high, low, close, volume, quote volume."""

    symbol: str
    open_ms: int
    values: tuple[float, ...]
    is_closed: bool
    event_ms: int | None = None
    trades: int | None = None


def subscription(exchange: str, *coins: str) -> str:
    """The request that subscribes to coins, as clients send it, CCXT's additions included."""
    requests = {
        "binance": {"method": "SUBSCRIBE", "params": [f"{coin.lower()}usdt@kline_1m" for coin in coins], "id": 1},
        "bybit": {
            "op": "subscribe",
            "req_id": 7,
            "args": [f"kline.1.{coin}USDT" for coin in coins],
            "callerMethodName": "watchOHLCV",
        },
        "okx": {"op": "subscribe", "args": [{"channel": "candle1m", "instId": f"{coin}-USDT"} for coin in coins]},
        "deribit": {
            "jsonrpc": "2.0",
            "id": 3,
            "method": "public/subscribe",
            "params": {"channels": [f"deribit_volatility_index.{coin.lower()}_usd" for coin in coins]},
        },
    }
    return json.dumps(requests[exchange])


def read_candle(exchange: str, text: str) -> Seen | None:
    """What a candle message says; None: it is another message."""
    body = json.loads(text) if text.startswith("{") else {}
    if exchange == "binance" and body.get("e") == "kline":
        k = body["k"]
        values = tuple(float(k[name]) for name in "ohlcvq")
        return Seen(body["s"][:-4], k["t"], values, k["x"], body["E"], k["n"])
    if exchange == "bybit" and str(body.get("topic", "")).startswith("kline"):
        row = body["data"][0]
        values = tuple(float(row[name]) for name in ("open", "high", "low", "close", "volume", "turnover"))
        return Seen(body["topic"].split(".")[2][:-4], row["start"], values, row["confirm"], row["timestamp"])
    if exchange == "okx" and "data" in body:
        (row,) = body["data"]
        values = tuple(map(float, (*row[1:6], row[7])))
        return Seen(body["arg"]["instId"][:-5], int(row[0]), values, row[8] == "1")
    if exchange == "deribit" and body.get("method") == "subscription":
        data = body["params"]["data"]
        value = data["volatility"]
        return Seen(data["index_name"][:-4].upper(), data["timestamp"], (value,), False, data["timestamp"])
    return None


class Client:
    """One connection."""

    def __init__(self, exchange: str, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.exchange = exchange
        self.socket = socket

    async def send(self, text: str) -> None:
        await self.socket.send_str(text)

    async def receive(self, within_s: float = 5.0) -> aiohttp.WSMessage:
        return await self.socket.receive(timeout=within_s)

    async def text(self, within_s: float = 5.0) -> str:
        """The next message; whatever else comes is an error."""
        message = await self.receive(within_s)
        assert message.type is aiohttp.WSMsgType.TEXT, message
        return message.data

    async def answer(self, within_s: float = 5.0) -> dict:
        """The next message that is no candle."""
        while True:
            text = await self.text(within_s)
            if text.startswith("{") and read_candle(self.exchange, text) is None:
                return json.loads(text)

    async def candles(self, count: int, within_s: float = 5.0) -> list[Seen]:
        """The next candle messages."""
        found: list[Seen] = []
        until_s = time.monotonic() + within_s
        while len(found) < count:
            seen = read_candle(self.exchange, await self.text(until_s - time.monotonic()))
            found += [seen] if seen else []
        return found

    async def closes(self, count: int, within_s: float = 5.0) -> list[Seen]:
        """Every candle message up to the one that closes the ``count``-th minute."""
        found: list[Seen] = []
        while sum(seen.is_closed for seen in found) < count:
            found += await self.candles(1, within_s)
        return found

    async def hears_nothing(self, for_s: float) -> bool:
        """Whether no message comes for so long."""
        try:
            await self.receive(for_s)
        except TimeoutError:
            return True
        return False


@asynccontextmanager
async def connected(url: str, exchange: str, *coins: str, path: str | None = None, **options):
    """A connection that subscribed to coins; its answer is still to be received.

    Each comes from an address of its own, so that no test uses up another one's connections.
    """
    number = next(_NUMBERS)
    options = {"headers": {"X-Forwarded-For": f"10.9.{number // 250}.{number % 250}"}} | options
    stream = url.replace("http", "ws", 1) + f"/{exchange}{path or PATHS[exchange]}"
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(stream, autoclose=False, timeout=aiohttp.ClientWSTimeout(ws_close=0.2), **options) as socket,
    ):
        client = Client(exchange, socket)
        if coins:
            await client.send(subscription(exchange, *coins))
        yield client


def run(coroutine):
    """Run a test's coroutine; nothing here takes longer than a minute."""
    return asyncio.run(asyncio.wait_for(coroutine, 60))
