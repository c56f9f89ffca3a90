"""Deribit's volatility index as its clients see it."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from mdp.simulator.markets import SIMULATED_INDICES
from mdp.simulator.recorded_days import CARRIED
from mdp_tests.simulator.conftest import ms

DATA = "/deribit/api/v2/public/get_volatility_index_data"
HOUR = 3_600_000
START = ms("2024-12-30T00:00Z")


def ask(world, **params):
    asked = {"currency": "BTC", "resolution": "3600", "start_timestamp": START, "end_timestamp": START, **params}
    return world.ask(DATA, **{name: value for name, value in asked.items() if value is not None})


def result(world, **params):
    response = ask(world, **params)
    assert response.status_code == 200, response.text
    return response.json()["result"]


def opened(rows):
    return [row[0] for row in rows]


def all_pages(world, start, end, resolution="3600", currency="BTC"):
    rows, cursor, pages = {}, end, 0
    while True:
        page = result(world, currency=currency, start_timestamp=start, end_timestamp=cursor, resolution=resolution)
        pages += 1
        rows.update({row[0]: row for row in page["data"]})
        following = page["continuation"]
        if following is None or following < start or following >= cursor:
            return [rows[time] for time in sorted(rows)], pages
        cursor = following


class TestBounds:
    def test_ascending_with_both_bounds_inclusive(self, world):
        rows = result(world, end_timestamp=START + 3 * HOUR)["data"]
        assert opened(rows) == [START + hour * HOUR for hour in range(4)]
        inside = result(world, start_timestamp=START + 1, end_timestamp=START + 3 * HOUR - 1)["data"]
        assert opened(inside) == [START + HOUR, START + 2 * HOUR]

    def test_the_newest_thousand_are_kept_and_the_rest_continued(self, world):
        page = result(world, end_timestamp=START + 1_001 * HOUR, start_timestamp=START - 2_000 * HOUR)
        now_hour = world.now_ms // HOUR * HOUR
        assert opened(page["data"]) == [now_hour - hour * HOUR for hour in range(999, -1, -1)]
        assert page["continuation"] == page["data"][0][0]

    def test_exactly_a_thousand_need_no_continuation(self, world):
        end = START - HOUR
        exact = result(world, start_timestamp=end - 999 * HOUR, end_timestamp=end)
        assert (len(exact["data"]), exact["continuation"]) == (1_000, None)
        more = result(world, start_timestamp=end - 1_000 * HOUR, end_timestamp=end)
        assert (len(more["data"]), more["continuation"]) == (1_000, end - 999 * HOUR)

    @pytest.mark.parametrize("currency", ["BTC", "ETH"])
    def test_following_continuations_finds_every_hour_of_four_years(self, world, currency):
        first = SIMULATED_INDICES[currency].first_hour_ms
        rows, pages = all_pages(world, 0, world.now_ms, currency=currency)
        assert opened(rows) == list(range(first, world.now_ms, HOUR))
        assert pages == -(-len(rows) // 999)

    def test_before_listing_and_in_the_future_there_is_nothing(self, world):
        nothing = {"data": [], "continuation": None}
        first = SIMULATED_INDICES["BTC"].first_hour_ms
        assert result(world, start_timestamp=0, end_timestamp=first - 1) == nothing
        assert result(world, start_timestamp=world.now_ms + 1, end_timestamp=world.now_ms + HOUR) == nothing

    def test_currencies_without_an_index_answer_without_rows(self, world):
        assert result(world, currency="USDC", end_timestamp=START + HOUR) == {"data": [], "continuation": None}


class TestShape:
    def test_the_answer_is_json_rpc(self, world):
        body = ask(world).json()
        assert list(body) == ["jsonrpc", "result", "usIn", "usOut", "usDiff", "testnet"]
        assert (body["jsonrpc"], body["testnet"], body["usIn"]) == ("2.0", False, world.now_ms * 1_000)
        assert body["usOut"] - body["usIn"] == body["usDiff"]
        (row,) = body["result"]["data"]
        assert [type(value) for value in row] == [int, float, float, float, float]
        assert world.ask("/deribit/api/v2/public/get_time").json()["result"] == world.now_ms

    @pytest.mark.parametrize(("resolution", "hours"), [("3600", 1), ("43200", 12), ("1D", 24)])
    def test_longer_rows_are_made_of_the_same_hours(self, world, resolution, hours):
        end = START + 72 * HOUR - 1
        single = np.array(result(world, end_timestamp=end)["data"])
        longer = np.array(result(world, end_timestamp=end, resolution=resolution)["data"])
        grouped = single.reshape(-1, hours, 5)
        assert longer[:, 0].tolist() == grouped[:, 0, 0].tolist()
        assert longer[:, 1].tolist() == grouped[:, 0, 1].tolist()
        assert longer[:, 2].tolist() == grouped[:, :, 2].max(axis=1).tolist()
        assert longer[:, 3].tolist() == grouped[:, :, 3].min(axis=1).tolist()
        assert longer[:, 4].tolist() == grouped[:, -1, 4].tolist()

    @pytest.mark.parametrize("currency", ["BTC", "ETH"])
    @pytest.mark.parametrize(("resolution", "finer"), [("3600", "60"), ("60", "1")])
    def test_finer_rows_add_up_exactly_to_the_longer_ones(self, world, currency, resolution, finer):
        length = int(resolution) * 1_000
        ends = {"start_timestamp": START - length, "end_timestamp": START + 3 * length, "currency": currency}
        longer = np.array(result(world, resolution=resolution, **ends)["data"])
        ends["end_timestamp"] += length - 1
        parts = np.array(result(world, resolution=finer, **ends)["data"])
        grouped = parts.reshape(-1, 60, 5)
        assert len(longer) == 5
        assert parts[:, 0].tolist() == list(range(START - length, START + 4 * length, length // 60))
        assert longer[:, 1].tolist() == grouped[:, 0, 1].tolist()
        assert longer[:, 2].tolist() == grouped[:, :, 2].max(axis=1).tolist()
        assert longer[:, 3].tolist() == grouped[:, :, 3].min(axis=1).tolist()
        assert longer[:, 4].tolist() == grouped[:, -1, 4].tolist()
        assert (parts[1:, 1] == parts[:-1, 4]).all()
        assert (parts[:, 2] >= parts[:, [1, 4]].max(axis=1)).all()
        assert (parts[:, 3] <= parts[:, [1, 4]].min(axis=1)).all()
        assert len({*parts[:, 4].tolist()}) > 5, "it moves"

    def test_the_open_hour_is_what_its_seconds_have_shown(self, world):
        world.at("2025-01-07T12:10:07Z")
        hour = ms("2025-01-07T12:00Z")
        newest = {
            resolution: result(world, resolution=resolution, start_timestamp=hour, end_timestamp=world.now_ms)["data"]
            for resolution in ("3600", "60", "1")
        }
        assert [len(rows) for rows in newest.values()] == [1, 11, 608]
        for finer in ("60", "1"):
            rows = newest[finer]
            seen = [hour, rows[0][1], max(row[2] for row in rows), min(row[3] for row in rows), rows[-1][4]]
            assert newest["3600"] == [seen]

    def test_any_window_of_seconds_shows_the_same_seconds(self, world):
        whole = result(world, resolution="1", start_timestamp=START, end_timestamp=START + 300_000)["data"]
        part = result(world, resolution="1", start_timestamp=START + 90_001, end_timestamp=START + 200_000)["data"]
        assert part == whole[91:201]

    @pytest.mark.parametrize("resolution", ["1", "60", "3600", "43200", "1D"])
    def test_a_row_is_selected_by_its_open_time_and_whole(self, world, resolution):
        length = {"1": 1_000, "60": 60_000}.get(resolution, 24 * HOUR)
        whole = result(world, end_timestamp=START + 3 * length, resolution=resolution)["data"][0]
        assert result(world, end_timestamp=START, resolution=resolution)["data"] == [whole]
        later = result(world, start_timestamp=START + 1, end_timestamp=START + 3 * length, resolution=resolution)[
            "data"
        ]
        assert later[0][0] > START

    def test_the_open_hour_is_the_last_row_and_changes(self, world):
        early = result(world, end_timestamp=world.now_ms + HOUR)["data"][-1]
        world.now_ms += 1_500_000
        late = result(world, end_timestamp=world.now_ms + HOUR)["data"][-1]
        assert early[0] == late[0] == ms("2025-01-07T12:00Z")
        assert early[1] == late[1]
        assert late[2] >= early[2]
        assert late[3] <= early[3]


class TestValues:
    def test_the_last_hour_of_a_day_closes_at_the_real_close(self, world):
        world.at("2026-02-01T00:00:00Z")
        real = pl.read_csv(CARRIED / "deribit" / "BTC-DVOL" / "BTC-DVOL-1d.csv.gz", try_parse_dates=True)
        days = real["timestamp"].dt.epoch("ms").to_list()
        rows, _ = all_pages(world, days[0], days[-1] + 86_400_000)
        closes = {row[0]: row[4] for row in rows}
        assert len(days) == 1_000
        assert [closes[day + 23 * HOUR] for day in days] == real["dvol"].to_list()

    @pytest.mark.parametrize("currency", ["BTC", "ETH"])
    def test_hours_are_connected_and_plausible(self, world, currency):
        hours = world.simulation.volatility.hours(SIMULATED_INDICES[currency], 0, world.now_ms, world.now_ms)
        open_, high, low, close = hours[1:]
        assert (open_[1:] == close[:-1]).all()
        assert (high >= np.maximum(open_, close)).all()
        assert (low <= np.minimum(open_, close)).all()
        assert 15_00 < low.min() < high.max() < 250_00

    def test_recorded_days_stay_between_their_real_bounds(self, world):
        real = pl.read_csv(CARRIED / "deribit" / "BTC-DVOL" / "BTC-DVOL-1d.csv.gz", try_parse_dates=True)
        world.at("2026-02-01T00:00:00Z")
        for time, close, _, high, low in (
            real.with_columns(pl.col("timestamp").dt.epoch("ms")).sample(40, seed=1).iter_rows()
        ):
            rows = result(world, start_timestamp=time, end_timestamp=time + 23 * HOUR)["data"]
            assert len(rows) == 24
            # a day opens at the close of the day before, which may lie outside
            assert max(row[2] for row in rows) <= max(high, rows[0][1], close)
            assert min(row[3] for row in rows) >= min(low, rows[0][1], close)


class TestRefusals:
    @pytest.mark.parametrize(
        ("params", "param"),
        [
            ({"currency": "SOL"}, "currency"),
            ({"currency": None}, "currency"),
            ({"resolution": "1h"}, "resolution"),
            ({"resolution": None}, "resolution"),
            ({"start_timestamp": None}, "start_timestamp"),
            ({"end_timestamp": "now"}, "end_timestamp"),
            ({"end_timestamp": START - 1}, "end_timestamp"),
        ],
    )
    def test_a_wrong_request_names_the_parameter(self, world, params, param):
        response = ask(world, **params)
        error = response.json()["error"]
        assert (response.status_code, error["code"], error["message"]) == (400, -32602, "Invalid params")
        assert error["data"]["param"] == param
        assert error["data"]["reason"]
        assert "result" not in response.json()


class TestQuota:
    def test_a_burst_of_a_hundred_then_10028(self, world):
        assert [ask(world).status_code for _ in range(101)] == [200] * 100 + [429]
        error = ask(world).json()["error"]
        assert error == {"code": 10028, "message": "too_many_requests"}
        assert world.ask("/deribit/api/v2/public/get_time", address="10.0.0.2").status_code == 200
        world.real_s += 0.0501
        assert [ask(world).status_code for _ in range(2)] == [200, 429]
