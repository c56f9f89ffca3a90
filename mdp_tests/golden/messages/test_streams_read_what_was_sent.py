"""The parsers of streams against the documented messages; the expected values were copied by hand, not computed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from mdp.exchanges.binance.stream_parse import parse_message as parse_binance
from mdp.exchanges.bybit.stream_parse import parse_message as parse_bybit
from mdp.exchanges.deribit.stream_parse import parse_message as parse_deribit
from mdp.exchanges.okx.stream_parse import parse_message as parse_okx

HERE = Path(__file__).parent
CAME_US = 1_700_000_000_000_000

# market_id, event_us, open_us, open, high, low, close, volume, quote_volume, trades
EXPECTED = {
    "binance_kline.json": (
        parse_binance,
        ("BNBBTC", 1672515782136000, 1672515780000000, 0.0010, 0.0025, 0.0015, 0.0020, 1000.0, 1.0, 100),
    ),
    "bybit_kline.json": (
        parse_bybit,
        ("BTCUSDT", 1672324988882000, 1672324800000000, 16649.5, 16677.0, 16608.0, 16677.0, 2.081, 34666.4005, None),
    ),
    "okx_candle.json": (
        parse_okx,
        (
            "BTC-USDT", CAME_US, 1629993600000000, 42500.0, 48199.9, 41006.1, 41006.1,
            3587.41204591, 166741046.22583129, None,
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", EXPECTED)
def test_every_number_of_a_documented_message_is_read(name):
    parse, expected = EXPECTED[name]
    said = parse((HERE / name).read_text(), CAME_US)
    (candle,) = said.candles
    assert (said.market_id, said.event_us, *candle[:8]) == expected
    assert candle.state.value == "forming"


def test_a_documented_tick_is_read():
    said = parse_deribit((HERE / "deribit_volatility_index.json").read_text(), CAME_US)
    assert said == ("BTC", 129.36, 1619777946007, CAME_US)


def test_documented_messages_are_the_bytes_that_their_metadata_names():
    listed = json.loads((HERE / "metadata.json").read_text())["files"]
    assert sorted(listed) == sorted([*EXPECTED, "deribit_volatility_index.json"])
    for name, entry in listed.items():
        assert hashlib.sha256((HERE / name).read_bytes()).hexdigest() == entry["sha256"], name
