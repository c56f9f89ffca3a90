"""Writes the expected table beside each recorded answer, with the standard library alone: ``python -m`` this module.

The numbers stay the text the exchange sent. Not here: our parsers, which the tables are there to check.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
COLUMNS = ("open_time", "open", "high", "low", "close", "volume", "quote_volume", "trades", "closed")


def rows_of(name: str, answer: Any) -> Iterator[list[str]]:
    exchange = name.partition("_")[0]
    if exchange == "binance":
        for time, o, h, low, c, volume, _, quote_volume, trades, *_ in answer:
            yield [_iso(time), o, h, low, c, volume, quote_volume, trades, ""]
    elif exchange == "bybit":
        for time, *numbers in answer["result"]["list"]:
            yield [_iso(time), *numbers, "", ""]
    elif exchange == "okx":
        for time, o, h, low, c, volume, _, quote_volume, confirm in answer["data"]:
            yield [_iso(time), o, h, low, c, volume, quote_volume, "", {"0": "false", "1": "true"}[confirm]]
    else:
        for time, *prices in answer["result"]["data"]:
            yield [_iso(time), *prices, "", "", "", ""]


def _iso(milliseconds: int | str) -> str:
    return datetime.fromtimestamp(int(milliseconds) / 1_000, UTC).isoformat()


def main() -> None:
    for recorded in sorted(HERE.glob("*_1[mh].json")):
        with recorded.with_suffix(".csv").open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            writer.writerows(rows_of(recorded.name, json.loads(recorded.read_text())))


if __name__ == "__main__":
    main()
