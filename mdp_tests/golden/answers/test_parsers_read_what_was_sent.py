"""The parsers against recorded answers, the expected values being the text that the exchanges sent."""

from __future__ import annotations

import csv
import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mdp.domain.market import Market
from mdp.domain.timeframe import Timeframe
from mdp.exchanges.binance.parse import parse_klines
from mdp.exchanges.bybit.parse import parse_kline
from mdp.exchanges.deribit.parse import parse_volatility_index
from mdp.exchanges.frames import Asked
from mdp.exchanges.okx.parse import parse_candles

HERE = Path(__file__).parent
NATIVE = HERE.parent / "binance_native"
NOW = datetime(2026, 1, 1, tzinfo=UTC)

PARSERS = {
    "binance_klines_1h.json": ("binance:BTC-USDT", parse_klines),
    "bybit_kline_1h.json": ("bybit:BTC-USDT", parse_kline),
    "okx_candles_1h.json": ("okx:BTC-USDT", parse_candles),
    "deribit_volatility_index_1m.json": ("deribit:BTC-DVOL", lambda *call: parse_volatility_index(*call).rows),
}


def _number(text: str) -> float | None:
    return float(text) if text else None


@pytest.mark.parametrize("name", PARSERS)
def test_every_number_is_the_nearest_double_to_the_text_that_was_sent(name):
    market, parse = PARSERS[name]
    timeframe = Timeframe("1m" if "_1m" in name else "1h")
    rows = parse((HERE / name).read_bytes(), Asked(Market.parse(market), timeframe, NOW, NOW))
    with (HERE / name).with_suffix(".csv").open() as file:
        expected = list(csv.DictReader(file))
    assert rows.height == len(expected)
    assert rows["open_time"].to_list() == [datetime.fromisoformat(row["open_time"]) for row in expected]
    for column in ("open", "high", "low", "close", "volume", "quote_volume"):
        assert rows[column].to_list() == [_number(row[column]) for row in expected], column
    assert rows["trades"].to_list() == [int(row["trades"]) if row["trades"] else None for row in expected]
    assert rows["closed"].to_list() == [row["closed"] in ("true", "") for row in expected]


def test_recorded_answers_are_the_bytes_that_their_metadata_names():
    listed = json.loads((HERE / "metadata.json").read_text())["files"]
    assert sorted(listed) == sorted(PARSERS)
    for name, entry in listed.items():
        assert hashlib.sha256((HERE / name).read_bytes()).hexdigest() == entry["sha256"], name


@pytest.mark.parametrize("path", sorted(NATIVE.glob("BTCUSDT_*.json")), ids=lambda path: path.stem)
def test_recorded_klines_of_months_with_outages_are_read_as_python_reads_them(path):
    timeframe = Timeframe(path.stem.split("_")[1])
    body = path.read_bytes()
    rows = parse_klines(body, Asked(Market.parse("binance:BTC-USDT"), timeframe, NOW, NOW))
    sent = json.loads(body)
    assert rows["open_time"].dt.epoch("ms").to_list() == [row[0] for row in sent]
    for index, column in ((1, "open"), (2, "high"), (3, "low"), (4, "close"), (5, "volume"), (7, "quote_volume")):
        assert rows[column].to_list() == [float(row[index]) for row in sent], column
    assert rows["trades"].to_list() == [row[8] for row in sent]
