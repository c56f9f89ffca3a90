"""python-binance, pointed at the service as a user would.

Runs in ``.venv-clients`` and needs nothing of the project.
"""

from __future__ import annotations

import json
import sys

from binance.client import Client
from binance.exceptions import BinanceAPIException


def main() -> None:
    """Ask for the newest klines, for a stretch of days, and for a market that is not there."""
    service, since, until = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    Client.API_URL = f"{service}/compat/binance/api"
    client = Client(ping=True)
    client.API_URL = Client.API_URL
    try:
        client.get_klines(symbol="NOSUCH", interval="1m")
        code = 0
    except BinanceAPIException as error:
        code = error.code
    found = {
        "newest": client.get_klines(symbol="BTCUSDT", interval=Client.KLINE_INTERVAL_1HOUR, limit=5),
        "history": client.get_historical_klines("BTCUSDT", Client.KLINE_INTERVAL_1MINUTE, since, until),
        "symbol": client.get_symbol_info("BTCUSDT")["filters"][0]["tickSize"],
        "code": code,
        "earliest": client._get_earliest_valid_timestamp("BTCUSDT", "1m"),
    }
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
