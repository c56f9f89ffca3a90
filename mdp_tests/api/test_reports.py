"""What is known about stored markets, over HTTP: gaps, revisions, coverage, markets; each worked out once."""

from __future__ import annotations

import asyncio
import io

import polars as pl
import pytest

from mdp.api.single_flight import SingleFlight

MARKET_URL = "/api/v1/market-data/binance/BTC-USDT"

pytestmark = pytest.mark.slow  # counts a year of all markets


def rows_of(answer):
    assert answer.status_code == 200, answer.text
    found = answer.json()
    return [dict(zip(found["columns"], row, strict=True)) for row in found["rows"]]


def test_a_gap_is_told_with_its_cause_and_history(client):
    (gap,) = rows_of(client.get(f"{MARKET_URL}/gaps"))
    assert (gap["start"], gap["end"], gap["slots"]) == ("2024-12-30T10:30:00Z", "2024-12-30T10:31:00Z", 1)
    assert gap["cause"] == "unknown"
    assert rows_of(client.get(f"{MARKET_URL}/gaps", params={"cause": "no_trades"})) == []
    outside = client.get(f"{MARKET_URL}/gaps", params={"start": "2024-12-29", "end": "2024-12-30"})
    assert [(one["cause"], one["slots"]) for one in rows_of(outside)] == [("unfetched", 1_440)]


def test_the_coverage_of_a_market_adds_up(client):
    answer = client.get(f"{MARKET_URL}/coverage")
    (day,) = rows_of(answer)
    assert (day["day"], day["expected"], day["present"], day["unknown"]) == ("2024-12-30", 1_440, 1_439, 1)
    summary = answer.json()["summary"]
    assert summary == {
        "days": 1, "expected": 1_440, "present": 1_439, "coverage": 1_439 / 1_440, "idle": 0, "missing": {"unknown": 1},
        "permanent": 0,
    }  # fmt: skip
    nothing = client.get("/api/v1/market-data/okx/BTC-USDT/coverage").json()
    assert (nothing["start"], nothing["rows"], nothing["summary"]["coverage"]) == (None, [], None)


def test_the_coverage_of_all_markets_has_a_row_for_each_and_each_day(client, settings):
    asked = {"start": "2024-12-01", "end": "2025-02-01"}
    days = rows_of(client.get("/api/v1/coverage", params=asked))
    assert len(days) == 62 * len(settings.markets)
    months = rows_of(client.get("/api/v1/coverage", params={**asked, "unit": "month"}))
    assert len(months) == 2 * len(settings.markets)
    assert (months[0]["market"], months[0]["day"]) == ("binance:BTC-USDT", "2024-12-01")
    assert (months[0]["expected"], months[0]["present"]) == (31 * 1_440, 1_439)
    weeks = rows_of(client.get("/api/v1/coverage", params={**asked, "unit": "week"}))
    for name in ("expected", "present", "unfetched", "unknown"):
        assert sum(one[name] for one in weeks) == sum(one[name] for one in days)
    assert weeks[0]["day"] == "2024-12-01", "the first week begins where the window does"
    assert {one["idle"] for one in months if "DVOL" in one["market"]} == {None}


def test_without_a_window_the_coverage_of_all_is_of_the_last_year(client, settings):
    assert len(rows_of(client.get("/api/v1/coverage"))) == 366 * len(settings.markets)


def test_reports_come_in_every_form(client):
    for path in (f"{MARKET_URL}/gaps", f"{MARKET_URL}/coverage", f"{MARKET_URL}/revisions", "/api/v1/coverage"):
        asked = rows_of(client.get(path))
        parquet = pl.read_parquet(io.BytesIO(client.get(path, params={"format": "parquet"}).content))
        assert len(parquet) == len(asked)
        assert client.get(path, headers={"if-none-match": client.get(path).headers["etag"]}).status_code == 304
        assert client.head(path).status_code == 200


@pytest.mark.parametrize(
    ("path", "asked", "parameter"),
    [
        ("/gaps", {"cause": "boredom"}, "cause"),
        ("/gaps", {"start": "2024-12-30T10:00Z"}, "start"),
        ("/gaps", {"end": "2999-01-01"}, "end"),
        ("/coverage", {"start": "2010-01-01", "end": "2024-01-01"}, "start"),
        ("/coverage", {"timeframe": "1m"}, "timeframe"),
        ("/revisions", {"start": "2024-12-30", "end": "2024-12-29"}, "start"),
        ("/revisions", {"start": "x"}, "start"),
        ("/revisions", {"end": "0001-01-01T00:00+23:59"}, "end"),
        ("/revisions", {"end": "0001-01-01"}, "start"),
    ],
)
def test_a_wrong_parameter_is_named(client, path, asked, parameter):
    answer = client.get(MARKET_URL + path, params=asked)
    assert (answer.status_code, answer.json()["errors"][0]["parameter"]) == (400, parameter)


def test_a_unit_that_is_none_is_refused(client):
    assert client.get("/api/v1/coverage", params={"unit": "year"}).json()["errors"][0]["allowed"] == [
        "day",
        "week",
        "month",
    ]


def test_markets_tell_since_when_they_are_listed_and_from_when_to_when_stored(client, settings):
    found = {one["market"]: one for one in client.get("/api/v1/markets").json()["markets"]}
    assert list(found) == list(settings.markets)
    bitcoin = found["binance:BTC-USDT"]
    assert bitcoin["listed_at"] == "2017-08-17T04:00:00Z"
    assert bitcoin["stored"] == {"start": "2024-12-30T00:00:00Z", "end": "2024-12-31T00:00:00Z"}
    assert (found["okx:BTC-USDT"]["stored"], found["deribit:BTC-DVOL"]["timeframes"]) == (None, ["1m"])
    for path in bitcoin["links"].values():
        assert (
            client.get(path, params={"timeframe": "1h", "start": "2024-12-30"} if "history" in path else {}).status_code
            == 200
        )


def test_work_is_done_once_for_all_who_ask_at_once_and_survives_who_began_it():
    async def story():
        flight, begun, go = SingleFlight(10), [], asyncio.Event()

        async def work():
            begun.append(1)
            await go.wait()
            return "found"

        asking = [asyncio.create_task(flight.get("q", work)) for _ in range(10)]
        await asyncio.sleep(0)
        asking[0].cancel()
        await asyncio.sleep(0)
        go.set()
        found = await asyncio.gather(*asking, return_exceptions=True)
        assert found[1:] == ["found"] * 9
        assert await flight.get("q", work) == "found"
        assert await flight.get("other", work) == "found"
        return len(begun)

    assert asyncio.run(story()) == 2


def test_an_error_is_kept_for_nobody():
    async def story():
        flight, tries = SingleFlight(10), []

        async def work():
            tries.append(1)
            if len(tries) == 1:
                raise ValueError("broken")
            return "whole"

        with pytest.raises(ValueError, match="broken"):
            await flight.get("q", work)
        return await flight.get("q", work)

    assert asyncio.run(story()) == "whole"


def test_an_old_answer_is_worked_out_again_and_old_questions_are_forgotten():
    async def story():
        flight, count = SingleFlight(0.0, most=2), iter(range(9))

        async def work():
            return next(count)

        found = [await flight.get(question, work) for question in "aabc"]
        return found, len(flight._asked)

    assert asyncio.run(story()) == ([0, 1, 2, 3], 2)
