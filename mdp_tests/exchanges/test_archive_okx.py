"""OKX's files are of days of UTC+8 and stand in an index; a UTC window is made of them exactly."""

from __future__ import annotations

import io
import json
import logging
import zipfile
from datetime import timedelta
from itertools import pairwise
from urllib.parse import parse_qs

import polars as pl
import pytest

from mdp.domain.interval import DAY, Interval, parse_time
from mdp.domain.market import Exchange, Market
from mdp.errors import ConfigError, PayloadError, RateLimited, RequestRejected
from mdp.exchanges.okx.archive import EAST, list_files
from mdp.exchanges.okx.archive_index import parse_index
from mdp.exchanges.okx.quota import DATA_HISTORY
from mdp.simulator.archive_shelf import pack
from mdp_tests.exchanges.archive_world import Rest, served_world, values

BTC = "okx:BTC-USDT"
MARKET = Market.parse(BTC)
INDEX = "/okx/api/v5/public/market-data-history"
NOW = parse_time("2025-02-10T12:00Z")


@pytest.fixture(scope="module")
def served():
    with served_world() as world:
        yield world


@pytest.fixture
def world(served):
    return served.reset()


@pytest.fixture
def rest(world):
    return Rest(world, Exchange.OKX)


def window(start, end):
    return Interval(parse_time(start), parse_time(end))


def names(needed):
    return [one.file.path.removeprefix("BTC-USDT-candlesticks-").removesuffix(".zip") for one in needed]


def sources(fetched):
    return dict(fetched.rows["source"].value_counts().iter_rows())


def index_of(world):
    return [path for path in world.asked if path.startswith(INDEX)]


def test_a_utc_day_is_the_end_of_one_file_and_the_beginning_of_the_next(world, rest):
    fetched = world.fetch(BTC, "2025-01-11", "2025-01-12", rest)
    assert values(fetched.rows).equals(world.truth(BTC, "2025-01-11", "2025-01-12"))
    assert sources(fetched) == {"archive": 1440}
    assert [file.path[-14:-4] for file in fetched.files] == ["2025-01-11", "2025-01-12"]
    assert fetched.files[0].window == window("2025-01-10T16:00Z", "2025-01-11T16:00Z")
    assert [(file.rows, file.is_verified) for file in fetched.files] == [(1440, False)] * 2
    assert fetched.files[0].path.startswith("cdn/okex/traderecords/candlesticks/daily/20250111/")
    assert (fetched.requests, rest.asked) == (1, [])


def test_what_is_not_published_yet_comes_from_rest(world, rest):
    world.at("2025-01-13T16:30Z")  # the files of the 13th are published on the 15th, by the time of UTC+8
    fetched = world.fetch(BTC, "2025-01-11", "2025-01-13", rest)
    assert [file.path[-14:-4] for file in fetched.files] == ["2025-01-11", "2025-01-12"]
    assert rest.asked == [window("2025-01-12T16:00Z", "2025-01-13")]
    assert values(fetched.rows).equals(world.truth(BTC, "2025-01-11", "2025-01-13"))


def test_the_listing_day_is_whole_though_rest_has_to_confirm_what_was_before(world, rest):
    fetched = world.fetch(BTC, "2018-01-11", "2018-01-12", rest)
    assert values(fetched.rows).equals(world.truth(BTC, "2018-01-11", "2018-01-12"))
    assert [str(one) for one in rest.asked] == ["[2018-01-11T00:00:00Z, 2018-01-11T11:12:00Z)"]


def test_the_index_is_asked_once_for_what_will_be_needed_next(world, rest):
    world.fetch_all(BTC, [("2025-01-11", "2025-01-12"), ("2025-01-12", "2025-01-13"), ("2025-01-11", "2025-01-12")])
    assert len(index_of(world)) == 1
    asked = {name: found for name, (found,) in parse_qs(index_of(world)[0].partition("?")[2]).items()}
    days = (int(asked["end"]) + 1 - int(asked["begin"])) / 86_400_000
    assert days == 19
    assert {name: asked[name] for name in ("module", "instType", "instIdList", "dateAggrType")} == {
        "module": "2", "instType": "SPOT", "instIdList": "BTC-USDT", "dateAggrType": "daily",
    }  # fmt: skip


def test_a_utc_month_is_its_file_and_a_day_for_the_last_eight_hours():
    needed = list_files(MARKET, window("2024-12-01", "2025-01-01"), NOW)
    assert names(needed) == ["2024-12", "2025-01-01"]
    assert [one.file.wanted for one in needed] == [
        window("2024-12-01", "2024-12-31T16:00Z"),
        window("2024-12-31T16:00Z", "2025-01-01"),
    ]


@pytest.mark.parametrize(
    "days",
    [
        ("2024-12-01", "2025-01-01"),
        ("2024-11-20", "2025-01-05"),
        ("2024-02-29", "2024-03-01"),
        ("2023-11-01", "2025-01-01"),
    ],
)
def test_the_wanted_parts_tile_the_days_and_lie_in_their_files(days):
    whole = window(*days)
    needed = list_files(MARKET, whole, NOW)
    parts = sorted(one.file.wanted for one in needed)
    assert parts[0].start == whole.start
    assert parts[-1].end == whole.end
    assert all(one.end == other.start for one, other in pairwise(parts))
    for one in needed:
        assert one.file.window.covers(one.file.wanted)
        first = one.file.window.start + EAST
        assert (first.hour, first.day if one.kind == "monthly" else 1) == (0, 1)


def test_a_file_is_due_two_days_after_its_day():
    day = window("2025-01-11", "2025-01-12")
    due = parse_time("2025-01-11T16:00Z") - DAY + 2 * DAY
    assert names(list_files(MARKET, day, due)) == ["2025-01-11"]
    assert names(list_files(MARKET, day, due - timedelta(microseconds=1))) == []


def answer_with(**changes):
    return json.dumps({"code": "0", "msg": "", "data": [], **changes}).encode()


@pytest.mark.parametrize(
    ("body", "error", "said"),
    [
        (b"<html>", PayloadError, "expected JSON"),
        (b"[]", PayloadError, "object"),
        (answer_with(data=[{"details": [{"groupDetails": [{"filename": "a"}]}]}]), PayloadError, "url"),
        (answer_with(data=[{"details": [{"files": []}]}]), PayloadError, "groupDetails"),
        (answer_with(code="50011"), RateLimited, "50011"),
        (answer_with(code="51000", msg="Parameter error"), RequestRejected, "Parameter error"),
    ],
)
def test_an_index_of_another_shape_says_what_was_expected_and_rest_is_asked(world, rest, caplog, body, error, said):
    with pytest.raises(error, match=said):
        parse_index(body)
    world.spoil("market-data-history", body)
    fetched = world.fetch(BTC, "2025-01-11", "2025-01-12", rest)
    assert sources(fetched) == {"rest": 1440}
    assert "REST is asked" in caplog.text


def test_paths_are_taken_from_the_index_but_never_its_host():
    def index(url):
        return answer_with(data=[{"details": [{"groupDetails": [{"filename": "a.zip", "url": url, "dateTs": "1"}]}]}])

    assert parse_index(index("https://evil.example/cdn/okex/x/a.zip")) == {"a.zip": "cdn/okex/x/a.zip"}
    assert parse_index(index("http://127.0.0.1/okx-archive/cdn/okex/x/a.zip")) == {"a.zip": "cdn/okex/x/a.zip"}
    assert parse_index(index("https://static.okx.com/other/a.zip")) == {"a.zip": "other/a.zip"}


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda line: line.replace("BTC-USDT", "ETH-USDT"), "expected BTC-USDT, got 'ETH-USDT'"),
        (lambda line: line.replace(",1\n", ",1,2\n"), "expected 10 columns, got 11"),
        (lambda line: line.replace(",1\n", ",x\n"), "field confirm: expected a whole number, got 'x'"),
    ],
)
def test_a_file_that_cannot_be_what_it_should_be_is_asked_of_rest(world, rest, caplog, edit, said):
    header = "instrument_name,open,high,low,close,vol,vol_ccy,vol_quote,open_time,confirm\n"
    line = "BTC-USDT,1,2,0.5,1.5,10,15,15,1736553600000,1\n"
    world.spoil("2025-01-11.zip", pack("a.csv", (header + line + edit(line)).encode()))
    with caplog.at_level(logging.WARNING):
        fetched = world.fetch(BTC, "2025-01-11", "2025-01-12", rest)
    assert said in caplog.text
    assert sources(fetched) == {"rest": 960, "archive": 480}
    assert values(fetched.rows).equals(world.truth(BTC, "2025-01-11", "2025-01-12"))


def test_a_candle_the_file_does_not_call_confirmed_is_not_closed(world, rest):
    line = "BTC-USDT,1,2,0.5,1.5,10,15,15,{},{}\n"
    lines = line.format(1736553600000, 0) + line.format(1736553660000, 1)
    world.spoil("2025-01-11.zip", pack("a.csv", lines.encode()))
    rows = world.fetch(BTC, "2025-01-11", "2025-01-12", rest).rows
    assert rows["closed"].to_list()[:4] == [False, True, True, True]
    assert rows["source"].to_list()[:4] == ["archive", "rest", "archive", "rest"]


class Unfinished(Rest):
    """REST that does not call one candle confirmed either."""

    def rows(self, market, window):
        return super().rows(market, window).with_columns(closed=pl.col("open_time") != parse_time("2025-01-11T00:05Z"))


def test_a_candle_that_rest_does_not_call_confirmed_either_is_not_kept_twice(world):
    def unconfirm(content):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            text = archive.read(archive.namelist()[0])
        assert b",1736553900000,1" in text
        return pack("a.csv", text.replace(b",1736553900000,1", b",1736553900000,0"))

    world.spoil("2025-01-11.zip", unconfirm)
    rest = Unfinished(world, Exchange.OKX)
    fetched = world.fetch(BTC, "2025-01-11", "2025-01-12", rest)
    assert [str(one) for one in rest.asked] == ["[2025-01-11T00:05:00Z, 2025-01-11T00:06:00Z)"]
    assert sources(fetched) == {"archive": 1440}
    assert fetched.rows["trades"].null_count() == 1440


class Leave:
    waited_s = 0.25

    def __init__(self, taken):
        self._taken = taken

    def answered(self, usage=None):
        self._taken.append("answered")


class Counting:
    """A budget that notes what is asked of it."""

    def __init__(self):
        self.taken = []

    async def acquire(self, costs, symbol=None):
        self.taken.append(dict(costs))
        return Leave(self.taken)

    def cool_down(self, seconds, reason):
        self.taken.append(seconds)

    async def close(self):
        raise AssertionError("it is not ours to close")


def test_the_index_waits_for_the_budget_and_files_do_not(world, rest):
    budget = Counting()
    fetched = world.fetch(BTC, "2025-01-11", "2025-01-12", rest, budget=budget)
    assert budget.taken == [{"public/market-data-history": 1}, "answered"]
    assert fetched.waited_s == 0.25
    world.spoil("market-data-history", 429)
    budget.taken.clear()
    world.fetch(BTC, "2025-01-11", "2025-01-12", rest, budget=budget)
    assert budget.taken == [{"public/market-data-history": 1}, 10.0, "answered"]


def test_too_many_questions_said_with_status_200_hold_everybody(world, rest):
    budget = Counting()
    world.spoil("market-data-history", answer_with(code="50011"))
    fetched = world.fetch(BTC, "2025-01-11", "2025-01-12", rest, budget=budget)
    assert budget.taken == [{"public/market-data-history": 1}, float(DATA_HISTORY.window_s), "answered"]
    assert (fetched.requests, sources(fetched)) == (2, {"rest": 1440})


class TooSmall(Counting):
    """A budget whose share is less than a question to the index costs."""

    async def acquire(self, costs, symbol=None):
        self.taken.append(dict(costs))
        raise ConfigError("MDP_EXCHANGES__OKX__RATE_SHARE", got=0.1, expected="at least 0.2")


def test_a_share_too_small_for_the_index_is_said_once_and_rest_is_asked(world, rest, caplog):
    budget = TooSmall()
    days = [("2025-01-11", "2025-01-12"), ("2025-01-12", "2025-01-13")]
    fetched = world.fetch_all(BTC, days, rest, budget=budget)
    assert [sources(one) for one in fetched] == [{"rest": 1440}] * 2
    assert caplog.text.count("RATE_SHARE: expected at least 0.2, got 0.1") == 1
    assert len(budget.taken) == 1


def test_a_password_in_the_address_of_the_index_is_never_said(world, rest, caplog):
    world.spoil("market-data-history", 404)
    secret = world.url.replace("://", "://me:secret@") + "/okx"
    world.fetch(BTC, "2025-01-11", "2025-01-12", rest, rest_url=secret)
    assert "expected an index of files, got status 404" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize("status", [429, 503, 404, 403])
def test_an_index_that_fails_never_fails_the_fetch_and_is_left_alone_for_a_while(world, rest, status):
    world.spoil("market-data-history", status)
    days = [("2025-01-11", "2025-01-12"), ("2025-01-12", "2025-01-13")]
    fetched = world.fetch_all(BTC, days, rest, budget=Counting())
    assert [sources(one) for one in fetched] == [{"rest": 1440}] * 2
    assert len(index_of(world)) == (2 if status == 503 else 1)
