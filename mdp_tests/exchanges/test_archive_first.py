"""Bulk files first, REST for the rest: the same candles as from REST alone, and each says where it came from."""

from __future__ import annotations

import asyncio
import io
import logging
import zipfile
from collections import Counter

import polars as pl
import pytest

from mdp.domain.candles import RAW_SCHEMA, require_schema
from mdp.domain.interval import Interval, parse_time
from mdp.domain.market import Exchange, Market
from mdp.domain.rules import Asked, split_by_rules
from mdp.domain.timeframe import Timeframe
from mdp.errors import ExchangeUnavailable, InputError
from mdp.exchanges.archive_deferred import DeferredSource
from mdp.exchanges.archive_downloads import Downloads
from mdp.exchanges.archive_files import Effort
from mdp.exchanges.archive_first import asked_together, with_archive
from mdp.exchanges.archive_reader import ArchiveReader
from mdp.exchanges.binance.archive import BinanceArchive
from mdp.exchanges.frames import ANSWER_SCHEMA
from mdp.simulator.archive_shelf import pack
from mdp_tests.exchanges.archive_world import Rest, checksum_of, served_world, values
from mdp_tests.support.builders import at

BTC = "binance:BTC-USDT"
DAY_FILE = "data/spot/daily/klines/BTCUSDT/1m/BTCUSDT-1m-{}.zip"


@pytest.fixture(scope="module")
def served():
    with served_world() as world:
        yield world


@pytest.fixture
def world(served):
    return served.reset()


@pytest.fixture
def rest(world):
    return Rest(world, Exchange.BINANCE)


def sources(fetched):
    return dict(fetched.rows["source"].value_counts().iter_rows())


def text_of(content):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return archive.read(archive.namelist()[0])


def replace_file(world, day, edit):
    """Publish something else as the file of a day, with a checksum that fits it."""
    name = f"BTCUSDT-1m-{day}.zip"
    content = edit(world.ask_file(DAY_FILE.format(day)))
    world.spoil(name, content)
    world.spoil(f"{name}.CHECKSUM", checksum_of(content, name))


def edited(day, edit):
    return lambda content: pack(f"BTCUSDT-1m-{day}.csv", edit(text_of(content)))


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("2018-02-08", "2018-02-10"),  # off the grid, and 33 hours without a row
        ("2024-12-30", "2025-01-03"),  # milliseconds until the year ends, microseconds from then on
    ],
)
def test_files_and_rest_tell_the_same_candles(world, rest, start, end):
    fetched = world.fetch(BTC, start, end, rest)
    require_schema(fetched.rows, ANSWER_SCHEMA, "answer")
    assert values(fetched.rows).equals(world.truth(BTC, start, end))
    assert sources(fetched) == {"archive": len(fetched.rows)}


def test_every_file_is_recorded_as_it_was_received(world, rest):
    fetched = world.fetch(BTC, "2024-12-31", "2025-01-02", rest)
    content = world.ask_file(DAY_FILE.format("2025-01-01"))
    file = fetched.files[1]
    assert file.path == DAY_FILE.format("2025-01-01")
    assert f"{file.sha256}  BTCUSDT-1m-2025-01-01.zip\n".encode() == checksum_of(content, "BTCUSDT-1m-2025-01-01.zip")
    assert (file.size, file.rows, file.is_verified) == (len(content), 1440, True)
    assert file.window == Interval(parse_time("2025-01-01"), parse_time("2025-01-02"))
    assert file.fetched_at == world.clock()
    assert (fetched.requests, rest.asked) == (0, [])


def test_a_fetch_that_rest_ends_says_what_failed_of_files_and_of_what_rest_gave(world, rest):
    world.at("2025-01-03T00:30Z")
    world.spoil("BTCUSDT-1m-2024-12-31.zip", 503, lambda content: content)
    world.spoil("BTCUSDT-1m-2025-01-02.zip", 404)
    rest.error = ExchangeUnavailable("binance", "503")
    rest.error.failed = {"ExchangeUnavailable": 4}
    with pytest.raises(ExchangeUnavailable) as caught:
        world.fetch(BTC, "2024-12-31T00:00Z", "2025-01-03T00:00Z", rest)
    assert caught.value.failed == {"ExchangeUnavailable": 5}


def test_hours_around_whole_days_and_days_without_a_file_come_from_rest(world, rest):
    world.at("2025-01-03T00:30Z")
    world.spoil("BTCUSDT-1m-2025-01-02.zip", 404)
    fetched = world.fetch(BTC, "2024-12-30T05:00Z", "2025-01-03T00:20Z", rest)
    assert [str(window) for window in rest.asked] == [
        "[2024-12-30T05:00:00Z, 2024-12-31T00:00:00Z)",
        "[2025-01-02T00:00:00Z, 2025-01-03T00:20:00Z)",
    ]
    assert values(fetched.rows).equals(world.truth(BTC, "2024-12-30T05:00Z", "2025-01-03T00:20Z"))
    assert sources(fetched) == {"archive": 2880, "rest": 19 * 60 + 1440 + 20}
    assert (fetched.requests, fetched.waited_s, fetched.retried) == (2, 1.0, {"RateLimited": 2})


@pytest.mark.parametrize("window", [("2024-12-30T00:01Z", "2024-12-31T23:59Z"), ("2025-02-10", "2025-02-10T11:00Z")])
def test_a_window_without_a_whole_finished_day_asks_no_file(world, rest, window):
    world.fetch(BTC, *window, rest)
    assert len(rest.asked) == 1
    assert world.asked == []


def test_longer_timeframes_ask_no_file(world, rest):
    world.fetch(BTC, "2024-12-30", "2024-12-31", rest, timeframe="1h")
    assert (len(rest.asked), world.asked) == (1, [])


def test_a_market_of_another_exchange_is_left_to_rest_to_refuse(world, rest):
    rest.error = InputError("market", got="okx:BTC-USDT", expected="a market of binance")

    day = Interval(parse_time("2025-01-01"), parse_time("2025-01-02"))

    async def work():
        async with with_archive(rest, Exchange.BINANCE, world.settings("binance"), clock=world.clock) as source:
            await source.fetch(Market.parse("okx:BTC-USDT"), Timeframe.M1, day)

    with pytest.raises(InputError):
        asyncio.run(work())
    assert world.asked == []


@pytest.mark.parametrize("changes", [{"archives": False}, {"archive_url": None}])
def test_without_an_archive_the_source_itself_is_used(world, rest, changes):
    assert with_archive(rest, Exchange.BINANCE, world.settings("binance", **changes), clock=world.clock) is rest
    assert with_archive(rest, Exchange.BYBIT, world.settings("bybit"), clock=world.clock) is rest


@pytest.mark.parametrize(
    ("edit", "why"),
    [
        (lambda text: text.replace(b"\n", b"\r\n"), "lines end in CRLF"),
        (lambda text: b"open_time,o,h,l,c,v,ct,q,n,tb,tq,ignore\n" + text, "a header"),
        (lambda text: text.rstrip(b"\n"), "no newline at the end"),
        (lambda text: b"\xef\xbb\xbf" + text, "a byte order mark"),
    ],
)
def test_the_same_rows_in_another_dress_are_the_same_rows(world, rest, edit, why):
    replace_file(world, "2025-01-01", edited("2025-01-01", edit))
    fetched = world.fetch(BTC, "2025-01-01", "2025-01-02", rest)
    assert values(fetched.rows).equals(world.truth(BTC, "2025-01-01", "2025-01-02")), why
    assert rest.asked == []


def test_repeated_and_off_grid_rows_are_kept_for_the_judge_and_rest_is_asked_for_what_they_do_not_tell(world, rest):
    def twice_and_late(text):
        lines = text.splitlines(keepends=True)
        return b"".join([*lines[:2], lines[1], lines[2].replace(b"1735689720000000", b"1735689734800000"), *lines[3:]])

    replace_file(world, "2025-01-01", edited("2025-01-01", twice_and_late))
    fetched = world.fetch(BTC, "2025-01-01", "2025-01-02", rest)
    minutes = fetched.rows["open_time"].dt.strftime("%H:%M:%S").to_list()[:6]
    assert minutes == ["00:00:00", "00:01:00", "00:01:00", "00:02:00", "00:02:14", "00:03:00"]
    assert fetched.rows["source"].to_list()[2:5] == ["archive", "rest", "archive"]
    assert (len(fetched.rows), fetched.files[0].rows) == (1442, 1441)
    assert [str(window) for window in rest.asked] == ["[2025-01-01T00:02:00Z, 2025-01-01T00:03:00Z)"]


def judged(fetched, start, end):
    """The days as the judge sees them, without where and when they were told."""
    asked = Asked(Interval(parse_time(start), parse_time(end)), Timeframe.M1)
    raw = fetched.rows.with_columns(window_start=pl.col("open_time").dt.truncate("1d")).select(RAW_SCHEMA.names())
    return split_by_rules(raw, asked)


@pytest.mark.parametrize(
    "edit",
    [
        lambda fields: [*fields[:2], b"0.01", *fields[3:]],  # the highest price is below the lowest
        lambda fields: [*fields[:5], b"-1", *fields[6:]],
        lambda fields: [fields[0], b"-5", *fields[2:]],
    ],
)
def test_a_row_that_the_judge_rejects_stays_and_rest_tells_its_slot(world, rest, edit):
    def spoil(text):
        lines = text.splitlines(keepends=True)
        return b"".join([*lines[:700], b",".join(edit(lines[700].split(b","))), *lines[701:]])

    day = ("2025-01-01", "2025-01-02")
    replace_file(world, day[0], edited(day[0], spoil))
    fetched = world.fetch(BTC, *day, rest)
    accepted, rejected = judged(fetched, *day)
    assert [str(window) for window in rest.asked] == ["[2025-01-01T11:40:00Z, 2025-01-01T11:41:00Z)"]
    assert values(accepted.drop("window_start")).equals(world.truth(BTC, *day))
    assert rejected.select("open_time", "source").rows() == [(at("2025-01-01T11:40"), "archive")]


def test_what_rest_says_of_a_bad_slot_just_as_the_file_does_is_not_kept_twice(world, rest):
    day = ("2025-01-01", "2025-01-02")
    late = at("2025-01-01T00:02:14.8")

    class Late(Rest):
        def rows(self, market, window):
            opens = pl.col("open_time")
            moved = pl.when(opens == at("2025-01-01T00:02")).then(pl.lit(late)).otherwise(opens)
            return super().rows(market, window).with_columns(moved.alias("open_time"), trades=self.trades)

    def shift(text):
        return text.replace(b"1735689720000000", b"1735689734800000")

    replace_file(world, day[0], edited(day[0], shift))
    echoing, differing = Late(world, Exchange.BINANCE), Late(world, Exchange.BINANCE)
    echoing.trades, differing.trades = pl.col("trades"), pl.col("trades") + 1
    both = world.fetch(BTC, *day, echoing)
    assert (len(echoing.asked), sources(both)) == (1, {"archive": 1440})
    for one, other in zip(
        judged(both, *day), judged(world.fetch(BTC, *day, echoing, archives=False), *day), strict=True
    ):
        assert values(one).equals(values(other))
    assert judged(both, *day).rejected["open_time"].to_list() == [late]
    assert sources(world.fetch(BTC, *day, differing)) == {"archive": 1440, "rest": 1}


def test_the_days_that_are_short_and_shifted_are_judged_as_those_of_rest_alone(world, rest):
    days = ("2018-02-08", "2018-02-10")
    both, alone = world.fetch(BTC, *days, rest), world.fetch(BTC, *days, archives=False)
    for one, other in zip(judged(both, *days), judged(alone, *days), strict=True):
        assert values(one).equals(values(other))


def test_slots_a_file_leaves_out_are_asked_of_rest_and_only_they_are_taken(world, rest):
    def without(text):
        lines = text.splitlines(keepends=True)
        return b"".join(lines[:100] + lines[110:200] + lines[201:1300])

    replace_file(world, "2025-01-01", edited("2025-01-01", without))
    fetched = world.fetch(BTC, "2025-01-01", "2025-01-02", rest)
    # the first two holes fit into one page of REST together, the last does not
    assert [str(window) for window in rest.asked] == [
        "[2025-01-01T01:40:00Z, 2025-01-01T03:21:00Z)",
        "[2025-01-01T21:40:00Z, 2025-01-02T00:00:00Z)",
    ]
    assert values(fetched.rows).equals(world.truth(BTC, "2025-01-01", "2025-01-02"))
    assert sources(fetched) == {"archive": 1440 - 10 - 1 - 140, "rest": 10 + 1 + 140}


def test_rows_of_another_day_in_a_file_are_left_out_and_said(world, rest, caplog):
    def with_next_day(text):
        return text + text.splitlines(keepends=True)[0].replace(b"1735689600000000", b"1735776000000000")

    replace_file(world, "2025-01-01", edited("2025-01-01", with_next_day))
    fetched = world.fetch(BTC, "2025-01-01", "2025-01-03", rest)
    assert values(fetched.rows).equals(world.truth(BTC, "2025-01-01", "2025-01-03"))
    assert fetched.files[0].rows == 1441
    assert "1 rows are not of" in caplog.text


def test_holes_are_asked_together_as_long_as_one_page_holds_them():
    first, near, far = (
        Interval(at(start), at(end))
        for start, end in (
            ("2025-01-01T00:00", "2025-01-01T00:01"),
            ("2025-01-01T04:59", "2025-01-01T05:00"),
            ("2025-01-01T05:00", "2025-01-01T05:01"),
        )
    )
    assert asked_together([first, near], 300) == [Interval(first.start, near.end)]
    assert asked_together([first, far], 300) == [first, far]
    assert asked_together([], 300) == []


def bad(world, rest, caplog):
    with caplog.at_level(logging.WARNING):
        fetched = world.fetch(BTC, "2025-01-01", "2025-01-02", rest)
    assert values(fetched.rows).equals(world.truth(BTC, "2025-01-01", "2025-01-02"))
    assert sources(fetched) == {"rest": 1440}
    assert fetched.files == ()
    return caplog.text


def test_a_wrong_checksum_is_fetched_once_more_then_rest_is_asked_with_a_warning(world, rest, caplog):
    world.spoil("BTCUSDT-1m-2025-01-01.zip.CHECKSUM", lambda text: b"0" * 64 + text[64:])
    said = bad(world, rest, caplog)
    assert len([path for path in world.asked if path.endswith("01-01.zip")]) == 2
    assert "expected SHA-256 0000" in said
    assert "its candles are asked of REST" in said


def test_a_file_that_fits_its_checksum_the_second_time_is_used(world, rest):
    world.spoil("BTCUSDT-1m-2025-01-01.zip", lambda content: content[:-9], lambda content: content)
    fetched = world.fetch(BTC, "2025-01-01", "2025-01-02", rest)
    assert sources(fetched) == {"archive": 1440}
    assert fetched.retried == {"PayloadError": 1}


@pytest.mark.parametrize("spoil", [404, b"<html>", lambda text: text.replace(b"01-01", b"01-02")])
def test_a_file_whose_checksum_cannot_be_had_is_not_believed(world, rest, caplog, spoil):
    world.spoil("BTCUSDT-1m-2025-01-01.zip.CHECKSUM", spoil)
    assert "CHECKSUM" in bad(world, rest, caplog)


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda content: b"<html>maintenance</html>", "expected a zip"),
        (lambda content: content[: len(content) // 2], "expected a zip"),
        (lambda content: pack("a.csv", b""), "rest"),
    ],
)
def test_a_file_that_is_none_is_asked_of_rest(world, rest, caplog, edit, said):
    replace_file(world, "2025-01-01", edit)
    if said == "rest":  # an empty file is a file: each of its minutes is confirmed
        fetched = world.fetch(BTC, "2025-01-01", "2025-01-02", rest)
        assert (sources(fetched), fetched.files[0].rows) == ({"rest": 1440}, 0)
    else:
        assert said in bad(world, rest, caplog)


@pytest.mark.parametrize("status", [500, 503, 429, 403, 451])
def test_an_archive_that_refuses_or_fails_never_fails_the_fetch(world, rest, caplog, status):
    world.spoil(".zip", status)
    assert f"status {status}" in bad(world, rest, caplog)
    tries = len([path for path in world.asked if path.endswith("01-01.zip")])
    assert tries == (3 if status >= 500 else 1)


def test_an_archive_out_of_order_is_left_alone_for_a_while(world, rest, caplog):
    world.spoil(".zip", 503)
    fetched = world.fetch(BTC, "2024-12-25", "2025-01-07", rest)
    assert sources(fetched) == {"rest": 13 * 1440}
    assert "left alone" in caplog.text
    # four are in flight when the third failure is noticed
    assert len({path for path in world.asked if path.endswith(".zip")}) <= 7
    assert [str(window) for window in rest.asked] == ["[2024-12-25T00:00:00Z, 2025-01-07T00:00:00Z)"]


def test_an_archive_that_is_not_there_at_all_costs_nothing_but_a_warning(world, rest, caplog):
    fetched = world.fetch(BTC, "2025-01-01", "2025-01-02", rest, archive_url="http://127.0.0.1:9/archive")
    assert sources(fetched) == {"rest": 1440}
    assert "the connection failed" in caplog.text


@pytest.mark.parametrize("spoil", [403, 503, None])
def test_a_password_in_an_address_is_never_said(world, rest, caplog, spoil):
    address = "http://127.0.0.1:9" if spoil is None else world.url
    if spoil is not None:
        world.spoil(".zip", spoil)
    secret = address.replace("://", "://me:pass@word@") + "/binance-archive"
    fetched = world.fetch(BTC, "2025-01-01", "2025-01-02", rest, archive_url=secret)
    assert sources(fetched) == {"rest": 1440}
    assert f"{address}/binance-archive/data" in caplog.text
    assert "me:" not in caplog.text
    assert "word" not in caplog.text


class Halting:
    """An archive's files: one does not come, its checksum cannot be had."""

    def __init__(self):
        self.given_up = []

    async def get(self, url, retried):
        if url.endswith(".CHECKSUM"):
            raise ExchangeUnavailable("binance", "no checksum")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            self.given_up.append(url)
            raise

    async def __aexit__(self, *_):
        pass


def test_a_file_is_given_up_when_its_checksum_cannot_be_had(world, caplog):
    downloads = Halting()
    reader = ArchiveReader(BinanceArchive(), downloads, "http://files", world.clock)
    day = Interval(parse_time("2025-01-01"), parse_time("2025-01-02"))

    async def work():
        taken = await asyncio.wait_for(reader.take(Market.parse(BTC), day, Effort()), 10)
        return taken, len(downloads.given_up)  # before the loop ends, which cancels what is left over

    assert asyncio.run(work()) == ([], 1)
    assert "binance: no checksum" in caplog.text


def test_nothing_is_asked_for_once_the_downloads_are_closed(world):
    async def work():
        async with Downloads(Exchange.BINANCE, 1.0) as downloads:
            pass
        with pytest.raises(RuntimeError, match="closed"):
            await downloads.get(f"{world.url}/binance-archive/a.zip", Counter())

    asyncio.run(work())
    assert world.asked == []


def test_a_failure_of_rest_is_a_failure_of_the_fetch(world, rest):
    rest.error = ExchangeUnavailable("binance", "down")
    with pytest.raises(ExchangeUnavailable):
        world.fetch(BTC, "2025-01-01", "2025-01-02T00:10Z", rest)
    assert (rest.entered, rest.left) == (1, 1)


def minutes_file(world, month, first_day):
    """A month's file that holds one recorded day only."""
    text = text_of(world.ask_file(DAY_FILE.format(first_day)))
    return pack(f"BTCUSDT-1m-{month}.csv", text)


def test_a_whole_month_is_one_file(world, rest):
    name, content = "BTCUSDT-1m-2025-01.zip", minutes_file(world, "2025-01", "2025-01-01")
    world.spoil(name, content)
    world.spoil(f"{name}.CHECKSUM", checksum_of(content, name))
    world.asked.clear()
    rest.knows_nothing = True
    fetched = world.fetch(BTC, "2025-01-01", "2025-02-01", rest)
    assert sorted(path.rpartition("/")[2] for path in world.asked) == [name, f"{name}.CHECKSUM"]
    assert [str(window) for window in rest.asked] == ["[2025-01-02T00:00:00Z, 2025-02-01T00:00:00Z)"]
    assert sources(fetched) == {"archive": 1440}


def test_a_month_without_a_file_walks_its_days_and_one_without_a_last_day_does_not(world, rest):
    rest.knows_nothing = True
    for name in ("2025-01", *(f"2025-01-{day:02}" for day in range(8, 32))):
        world.spoil(f"1m-{name}.zip", 404)
        world.spoil(f"1m-{name}.zip.CHECKSUM", 404)
    world.spoil("1m-2025-01-31.zip.CHECKSUM", b"it is there")
    fetched = world.fetch(BTC, "2025-01-01", "2025-02-01", rest)
    assert sources(fetched) == {"archive": 7 * 1440}
    assert [str(window) for window in rest.asked] == ["[2025-01-08T00:00:00Z, 2025-02-01T00:00:00Z)"]

    world.asked.clear()
    world.spoil("1m-2025-01-31.zip.CHECKSUM", 404)
    assert world.fetch(BTC, "2025-01-01", "2025-02-01", rest).files == ()
    assert len(world.asked) == 3


def test_before_the_listing_a_month_costs_three_questions(world, rest):
    world.fetch("binance:SOL-USDT", "2019-03-01", "2019-04-01", rest)
    assert len(world.asked) == 3
    assert len(rest.asked) == 1


@pytest.mark.parametrize(
    "kind", ["archive_header", "archive_duplicate_rows", "archive_off_grid", "archive_missing_rows"]
)
def test_what_the_simulator_scripts_inside_files_is_read(world, rest, kind):
    world.simulation.faults.add(kind=kind, exchange="binance", symbol="BTC-USDT")
    fetched = world.fetch(BTC, "2025-01-01", "2025-01-02", rest)
    extra = {"archive_duplicate_rows": 3, "archive_off_grid": 3}.get(kind, 0)
    rest_rows = {"archive_missing_rows": 3, "archive_off_grid": 3}.get(kind, 0)
    assert len(fetched.rows) == 1440 + extra
    assert sources(fetched).get("rest", 0) == rest_rows


@pytest.mark.parametrize(
    "fault", [{"kind": "archive_checksum"}, {"kind": "archive_cut"}, {"kind": "status", "status": 503}]
)
def test_what_the_simulator_scripts_on_the_wire_of_files_is_survived(world, rest, fault):
    world.simulation.faults.add(**fault, exchange="binance", channel="archive", times=1)
    fetched = world.fetch(BTC, "2025-01-01", "2025-01-02", rest)
    assert sources(fetched) == {"archive": 1440}
    assert sum(fetched.retried.values()) == 1
    world.simulation.faults.add(**fault, exchange="binance", channel="archive")
    fetched = world.fetch(BTC, "2025-01-01", "2025-01-02", rest)
    assert sources(fetched) == {"rest": 1440}
    assert values(fetched.rows).equals(world.truth(BTC, "2025-01-01", "2025-01-02"))


def test_a_republished_file_tells_other_values_under_another_checksum(world, rest):
    (before,) = world.fetch(BTC, "2025-01-01", "2025-01-02", rest).files
    world.simulation.faults.add(
        kind="restate", exchange="binance", symbol="BTC-USDT", channel="archive",
        start="2025-01-01T10:00:00Z", end="2025-01-01T11:00:00Z",
    )  # fmt: skip
    fetched = world.fetch(BTC, "2025-01-01", "2025-01-02", rest)
    assert fetched.files[0].sha256 != before.sha256
    changed = values(fetched.rows)["volume"] != world.truth(BTC, "2025-01-01", "2025-01-02")["volume"]
    assert changed.sum() == 60


def test_rest_is_opened_when_it_is_first_asked(world, rest):
    opened = []

    def open_source():
        opened.append(rest)
        return rest

    class Budget:
        closed = 0

        async def close(self):
            self.closed += 1

    for end, times, closed in (("2025-01-02", 0, 1), ("2025-01-02T01:00Z", 1, 0)):
        budget = Budget()
        deferred = DeferredSource(Exchange.BINANCE, open_source, budget)
        world.fetch(BTC, "2025-01-01", end, deferred)
        assert (len(opened), rest.entered, rest.left, budget.closed) == (times, times, times, closed)
