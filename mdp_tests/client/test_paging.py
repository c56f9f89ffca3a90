"""Pages: joined they are the whole, and a page that does not fit is never joined."""

from __future__ import annotations

import asyncio

import httpx
import polars as pl
import pytest

from mdp.client import ApiError, BadAnswer, Unreachable
from mdp.client.asking import dvol, history
from mdp.client.paging import next_link
from mdp.client.quality import day_schema, gap_schema
from mdp.domain.candles import CANDLE_SCHEMA
from mdp.pipeline.coverage_report import DAY_SCHEMA, STRETCH_SCHEMA
from mdp_tests.client.scripted import arrow, asking, asking_async, minutes, stored

BTC = "binance:BTC-USDT"
HOUR = (BTC, "1m", "2024-12-30T10:00Z", "2024-12-30T11:00Z")
PATH = "/api/v1/market-data/binance/BTC-USDT/history"
SAME = ("exchange", "symbol", "timeframe")


def pages(*frames, to=PATH):
    """A service that gives these pages, each leading to the next; the cursor is its number."""

    def answer(request):
        number = int(request.url.params.get("cursor", 0))
        more = number + 1 < len(frames)
        link = f'<http://other.example{to}?timeframe=1m&cursor={number + 1}>; rel="next"' if more else None
        return arrow(frames[number], link)

    return answer


def test_pages_are_joined_in_order_and_the_window_is_said_as_asked():
    client, asked = asking(pages(stored(0, 3), stored(3, 5), stored(5, 9)))
    found = client.history(*HOUR, snapshot="q1", as_of="2025-01-01")
    assert (minutes(found), found.schema) == (list(range(9)), CANDLE_SCHEMA)
    assert dict(asked[0].url.params) == {
        "timeframe": "1m", "start": "2024-12-30T10:00:00Z", "end": "2024-12-30T11:00:00Z", "snapshot": "q1",
        "as_of": "2025-01-01T00:00:00Z",
    }  # fmt: skip
    assert [str(request.url.copy_with(query=None)) for request in asked] == [f"http://127.0.0.1:8000{PATH}"] * 3


def test_an_end_that_is_not_given_is_now_and_of_a_snapshot_its_own():
    for snapshot, is_said in ((None, True), ("q1", False)):
        candles = history(*HOUR[:3], None, snapshot=snapshot, as_of=None, page_rows=None)
        index = dvol("BTC", HOUR[2], None, snapshot=snapshot, as_of=None)
        for asked in (candles, index):
            assert ("end" in dict(asked.question.parameters)) is is_said


def test_pages_come_one_by_one_to_whoever_wants_them_so():
    client, asked = asking(pages(stored(0, 3), stored(3, 5)))
    walk = client.history_pages(*HOUR, page_rows=3)
    assert (minutes(next(walk)), len(asked)) == ([0, 1, 2], 1)
    assert ([minutes(page) for page in walk], asked[0].url.params["limit"]) == ([[3, 4]], "3")

    async def ask():
        async with asking_async(pages(stored(0, 3), stored(3, 5))) as client:
            return [minutes(page) async for page in client.history_pages(*HOUR)]

    assert asyncio.run(ask()) == [[0, 1, 2], [3, 4]]


def test_an_empty_answer_is_an_empty_table():
    client, _ = asking(pages(stored(0, 0)))
    assert (client.history(*HOUR).height, client.history(*HOUR).schema) == (0, CANDLE_SCHEMA)
    assert client.history(*HOUR, columns=["close", "open_time"]).columns == ["close", "open_time"]


def test_an_empty_page_in_the_middle_ends_nothing():
    client, _ = asking(pages(stored(0, 2), stored(0, 0), stored(2, 4)))
    assert minutes(client.history(*HOUR)) == [0, 1, 2, 3]


def test_columns_that_are_the_same_in_each_row_need_not_be_sent():
    client, _ = asking(pages(stored(0, 3).drop(SAME), stored(3, 5)))
    assert client.history(*HOUR).equals(stored(0, 5))


def test_columns_a_newer_service_adds_are_left_out():
    client, _ = asking(pages(stored(0, 3).with_columns(vwap=1.0).select("vwap", *CANDLE_SCHEMA)))
    assert client.history(*HOUR).equals(stored(0, 3))


@pytest.mark.parametrize(("frames", "words"), [
    ((stored(0, 3), stored(2, 5)), "goes on where the last one ended"),
    ((stored(0, 3), stored(0, 3)), "goes on where the last one ended"),
    ((pl.concat([stored(0, 2), stored(1, 2)]),), "each row later"),
    ((stored(0, 3).reverse(),), "each row later"),
    ((stored(-1, 3),), "expected times in"),
    ((stored(58, 61),), "expected times in"),
    ((stored(0, 3, exchange="okx"),), "exchange: expected 'binance'"),
    ((stored(0, 3, timeframe="5m"),), "timeframe: expected '1m'"),
    ((stored(0, 3).drop("trades"),), "trades: missing"),
    ((stored(0, 3).cast({"close": pl.Float32}),), "close: expected Float64"),
    ((stored(0, 3).with_columns(open_time=pl.lit(None, CANDLE_SCHEMA["open_time"])),), "each row later"),
])  # fmt: skip
def test_pages_that_do_not_fit_are_refused(frames, words):
    client, _ = asking(pages(*frames))
    with pytest.raises(BadAnswer, match=words):
        client.history(*HOUR)


def test_a_page_that_leads_back_is_refused():
    client, asked = asking([arrow(stored(0, 2), f'<{PATH}?cursor=1>; rel="next"'),
                            arrow(stored(2, 4), f'<{PATH}?cursor=2>; rel="next"'),
                            arrow(stored(4, 6), f'<{PATH}?cursor=1>; rel="next"')])  # fmt: skip
    with pytest.raises(BadAnswer, match="not given yet"):
        client.history(*HOUR)
    assert len(asked) == 3


def test_a_link_leads_neither_to_another_host_nor_to_another_path():
    client, _ = asking(pages(stored(0, 3), stored(3, 5), to="/api/v1/generations"))
    with pytest.raises(BadAnswer, match="expected one below"):
        client.history(*HOUR)


@pytest.mark.parametrize("cut", [1, 8, 100])
def test_a_table_that_was_cut_off_is_asked_for_again(cut):
    client, asked = asking([arrow(stored(0, 3), cut=cut), arrow(stored(0, 3))])
    assert (minutes(client.history(*HOUR)), len(asked)) == ([0, 1, 2], 2)
    client, _ = asking([arrow(stored(0, 3), cut=cut)])
    with pytest.raises(Unreachable, match="whole table"):
        client.history(*HOUR)


@pytest.mark.parametrize("answer", [
    httpx.Response(200, content=b"open_time,open\n", headers={"content-type": "text/csv"}),
    httpx.Response(200, content=b"x" * 20 + b"\xff\xff\xff\xff\x00\x00\x00\x00",
                   headers={"content-type": "application/vnd.apache.arrow.stream"}),
])  # fmt: skip
def test_what_is_no_table_is_refused(answer):
    client, asked = asking([answer])
    with pytest.raises(BadAnswer):
        client.history(*HOUR)
    assert len(asked) == 1


def test_a_page_in_the_middle_that_fails_is_asked_for_again_and_no_other():
    frames, failures = (stored(0, 3), stored(3, 5)), [httpx.ReadError("reset")]

    def answer(request):
        if "cursor" in request.url.params and failures:
            raise failures.pop()
        return pages(*frames)(request)

    client, asked = asking(answer)
    assert minutes(client.history(*HOUR)) == [0, 1, 2, 3, 4]
    assert [request.url.params.get("cursor") for request in asked] == [None, "1", "1"]


def test_tables_of_quality_have_their_schema():
    client, asked = asking([arrow(pl.DataFrame(schema=gap_schema()).drop("market"))])
    assert client.gaps(BTC, "2024-12-30", "2024-12-31").schema == gap_schema()
    assert asked[0].url.path.endswith("/BTC-USDT/gaps")
    client, asked = asking([arrow(pl.DataFrame(schema=day_schema()))])
    assert (client.coverage(start="2024-12-30").schema, dict(asked[0].url.params)) == (
        day_schema(), {"start": "2024-12-30T00:00:00Z"},
    )  # fmt: skip
    client, _ = asking([arrow(pl.DataFrame({"open_time": [1]}))])
    with pytest.raises(ApiError, match="missing"):
        client.gaps(BTC, "2024-12-30", "2024-12-31")


def test_the_schemas_of_quality_are_those_of_the_reports_they_come_from():
    assert (gap_schema(), day_schema()) == (STRETCH_SCHEMA, DAY_SCHEMA)


@pytest.mark.parametrize(("header", "target"), [
    ("", None), ('</a?x=1>; rel="next"', "/a?x=1"), ("</a>; rel=next", "/a"), ('</a>; rel="prev"', None),
    ('</a>; rel="prev", </b>; title="x, y; rel=next"; rel="next"', "/b"), ('</a,b>; REL="last next"', "/a,b"),
    ("</a>", None), ("rel=next", None), ('</a>; title="rel=next"', None),
])  # fmt: skip
def test_the_next_page_is_found_among_links(header, target):
    assert next_link(header) == target
