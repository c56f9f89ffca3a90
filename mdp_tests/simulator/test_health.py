"""What the simulator says about itself."""

from __future__ import annotations

from itertools import pairwise

from mdp_tests.simulator.conftest import SEED


def by_market(world):
    response = world.ask("/healthz")
    assert response.status_code == 200
    return response.json(), {entry["market"]: entry for entry in response.json()["markets"]}


def test_health_tells_the_time_the_seed_and_every_market(world):
    body, markets = by_market(world)
    assert (body["status"], body["now"], body["seed"]) == ("ok", "2025-01-07T12:00:30Z", SEED)
    spot = [f"{exchange}:{base}-USDT" for exchange in ("binance", "bybit", "okx") for base in ("BTC", "ETH", "SOL")]
    assert list(markets) == [*spot, "deribit:BTC-DVOL", "deribit:ETH-DVOL"]


def test_recorded_and_generated_days_tile_the_time_since_the_first_candle(world):
    _, markets = by_market(world)
    bitcoin = markets["binance:BTC-USDT"]
    assert bitcoin["recorded"][-1] == {"start": "2024-12-25", "end": "2025-01-08"}
    assert {"start": "2018-02-08", "end": "2018-02-10"} in bitcoin["recorded"]
    ranges = sorted((entry["start"], entry["end"]) for entry in bitcoin["recorded"] + bitcoin["generated"])
    assert ranges[0][0] == "2017-08-17"
    assert all(end == start for (_, end), (start, _) in pairwise(ranges))
    assert markets["okx:SOL-USDT"]["recorded"] == []
    assert markets["okx:SOL-USDT"]["generated"] == [{"start": "2021-01-29", "end": "2025-01-08"}]


def test_first_candles_say_whether_they_are_known(world):
    _, markets = by_market(world)
    assert markets["binance:SOL-USDT"]["first_candle"] == "2020-08-11T06:00:00Z"
    assert markets["binance:SOL-USDT"]["first_candle_is"] == "observed"
    assert markets["bybit:SOL-USDT"]["first_candle_is"] == "chosen"
    assert markets["deribit:BTC-DVOL"]["recorded_daily_closes"] == [{"start": "2023-04-26", "end": "2026-01-20"}]


def test_an_unknown_path_is_not_found(world):
    assert world.ask("/kraken/0/public/OHLC").status_code == 404
    assert world.ask("/binance/api/v3/uiKlines").status_code == 404
