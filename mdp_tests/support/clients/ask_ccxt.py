"""CCXT, pointed at the service as a user would: pages of candles over days, synchronous or asynchronous.

Runs in ``.venv-clients`` and needs nothing of the project.
"""

from __future__ import annotations

import asyncio
import json
import sys

import ccxt
import ccxt.async_support

SPOT = {"fetchMarkets": {"types": ["spot"]}, "defaultType": "spot"}


def settings(service: str) -> dict[str, dict]:
    """Return what each exchange is constructed with; shown in ``docs/drop-in.md``."""
    return {
        "binance": {"urls": {"api": {"public": f"{service}/compat/binance/api/v3"}}, "options": SPOT},
        "bybit": {"urls": {"api": {"public": f"{service}/compat/bybit"}}, "options": SPOT},
        "okx": {"urls": {"api": {"rest": f"{service}/compat/okx"}}, "options": SPOT},
    }


def all_pages(exchange, since: int, until: int, timeframe: str, limit: int) -> list[list[float]]:
    """Ask for page after page, as CCXT's manual tells."""
    rows: list[list[float]] = []
    while since < until:
        page = exchange.fetch_ohlcv("BTC/USDT", timeframe, since, limit)
        if not page:
            break
        rows += page
        since = page[-1][0] + 1
    return [row for row in rows if row[0] < until]


async def all_pages_async(exchange, since: int, until: int, timeframe: str, limit: int) -> list[list[float]]:
    """Ask for page after page, as CCXT's manual tells."""
    rows: list[list[float]] = []
    while since < until:
        page = await exchange.fetch_ohlcv("BTC/USDT", timeframe, since, limit)
        if not page:
            break
        rows += page
        since = page[-1][0] + 1
    return [row for row in rows if row[0] < until]


async def ask_async(name: str, given: dict, asked: tuple) -> list[list[float]]:
    """Ask by the asynchronous class."""
    exchange = getattr(ccxt.async_support, name)(given)
    try:
        return await all_pages_async(exchange, *asked)
    finally:
        await exchange.close()


def refused(exchange) -> list[str]:
    """Tell as what CCXT understands the refusals of an unknown market and timeframe."""
    found = []
    for symbol, timeframe in (("XXX/YYY", "1m"), ("BTC/USDT", "7m")):
        try:
            exchange.fetch_ohlcv(symbol, timeframe)
        except ccxt.BaseError as error:
            found.append(type(error).__name__)
    return found


def main() -> None:
    """Ask all three exchanges for one stretch of one timeframe, both ways."""
    service, since, until, timeframe = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    found: dict[str, dict] = {}
    for name, given in settings(service).items():
        limit = 300 if name == "okx" else 1_000
        asked = (since, until, timeframe, limit)
        exchange = getattr(ccxt, name)({**given, "enableRateLimit": False})
        found[name] = {
            "sync": all_pages(exchange, *asked),
            "async": asyncio.run(ask_async(name, {**given, "enableRateLimit": False}, asked)),
            "markets": sorted(exchange.load_markets()),
            "precision": exchange.market("BTC/USDT")["precision"]["price"],
            "time": exchange.fetch_time(),
            "refused": refused(exchange),
        }
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
