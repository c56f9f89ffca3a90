"""History over HTTP: windows, forms, versions, snapshots, the present; and whatever else is asked."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as effort
from hypothesis import strategies as st

from mdp.domain.candles import CANDLE_SCHEMA
from mdp.domain.interval import Interval
from mdp.domain.live import Buffer, CandleState, LiveCandle
from mdp.domain.timeframe import EPOCH, Timeframe
from mdp.pipeline.snapshots import create_snapshot
from mdp.ports import OHLCV, Slice
from mdp.storage import open_store
from mdp_tests.support.builders import MARKET, at, window

URL = "/api/v1/market-data/binance/BTC-USDT/history"
DAY = {"timeframe": "1m", "start": "2024-12-30", "end": "2024-12-31"}
STORED = 1_439


@pytest.fixture(scope="module")
def stored(settings):
    part = Slice(MARKET, (Timeframe.M1,), window("2024-12-30", "2024-12-31"))
    return open_store(settings).read(OHLCV, part).drop("exchange", "symbol", "timeframe")


@pytest.fixture(scope="module")
def snapshot(settings):
    return create_snapshot(
        open_store(settings), "held", [MARKET], [Timeframe.M1], window("2024-12-30", "2024-12-31"),
        lambda: datetime.now(UTC),
    )  # fmt: skip


def get(client, headers=None, **parameters):
    return client.get(URL, params={**DAY, **parameters}, headers=headers)


def refused(answer, status, parameter):
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    assert [one["parameter"] for one in answer.json()["errors"]] == [parameter]
    return answer.json()["errors"][0]


@pytest.mark.slow
def test_every_form_holds_the_very_rows_that_are_stored(client, stored):
    rows = get(client).json()
    assert rows["columns"] == stored.columns
    assert len(rows["rows"]) == STORED
    assert [row[1:10] for row in rows["rows"]] == [list(row) for row in stored.select(stored.columns[1:10]).rows()]
    csv = pl.read_csv(io.StringIO(get(client, format="csv").text), schema_overrides={"minutes": pl.Int32})
    assert csv.select(stored.columns[1:10]).equals(stored.select(stored.columns[1:10]))
    arrow = pa.ipc.open_stream(get(client, {"accept": "application/vnd.apache.arrow.stream"}).content).read_all()
    assert pl.from_arrow(arrow).equals(stored)
    assert pl.read_parquet(io.BytesIO(get(client, format="parquet").content)).equals(stored)


def test_the_head_says_what_was_asked(client):
    found = get(client, limit="1").json()
    assert (found["exchange"], found["symbol"], found["timeframe"]) == ("binance", "BTC-USDT", "1m")
    assert (found["start"], found["end"]) == ("2024-12-30T00:00:00Z", "2024-12-31T00:00:00Z")
    assert (found["snapshot"], found["as_of"], found["unstored"]) == (None, None, 0)


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("2024-12-30T10:15Z", "2024-12-30T10:16Z"),
        ("1735553700000", "1735553760000"),
        ("2024-12-30T12:15+02:00", "20241230T101600Z"),
        ("2024-12-30T10:14:00.000001Z", "2024-12-30T10:15:00.000001Z"),
    ],
)
def test_a_time_may_be_written_in_any_of_its_forms(client, start, end):
    assert [row[0] for row in get(client, start=start, end=end).json()["rows"]] == ["2024-12-30T10:15:00Z"]


@pytest.mark.parametrize(
    ("parameter", "value", "says"),
    [
        ("start", "1735553700", "milliseconds"),
        ("start", "1735553700000000", "milliseconds"),
        ("start", "20241230", "2024-12-30"),
        ("start", "-1735553700000", "milliseconds"),
        ("start", "2024-12-30T10:15", "offset"),
        ("start", "2024-12-30T12:15 02:00", "%2B"),
        ("start", "yesterday", "2024-12-30"),
        ("start", "", "2024-12-30"),
        ("start", "٢٠٢٤-12-30", "2024-12-30"),
        ("start", "2024-12-31", "before end"),
        ("start", "2014-12-30", "ten years"),
        ("end", "2024-13-30", "2024-12-30"),
        ("end", "9999-12-31", "2200"),
        ("end", "2024-12-31\r\nSet-Cookie: x=1", "2024-12-30"),
        ("limit", "0", "from 1 to"),
        ("limit", "100001", "from 1 to 100000"),
        ("limit", "1e3", "from 1 to"),
        ("limit", "\u0661", "from 1 to"),
        ("timeframe", "2m", "1m, 5m, 15m, 1h, 4h, 1d"),
        ("mode", "erase", "retrieve"),
        ("format", "xml", "json, csv, arrow, parquet"),
        ("as_of", "2999-01-01", "over"),
        ("cursor", "AAAA", "next_cursor"),
        ("cursor", "", "next_cursor"),
        ("snapshot", "../../etc/passwd", "letters"),
    ],
)
def test_what_is_wrong_is_named_with_what_is_expected(client, parameter, value, says):
    assert says in refused(get(client, **{parameter: value}), 400, parameter)["expected"]


def test_an_unknown_parameter_and_one_given_twice_are_refused(client):
    found = refused(get(client, timefram="1h"), 400, "timefram")
    assert found["allowed"] == [
        "as_of", "cursor", "end", "format", "limit", "mode", "snapshot", "start", "timeframe",
    ]  # fmt: skip
    assert (
        "once" in refused(client.get(f"{URL}?timeframe=1m&start=2024-12-30&timeframe=1h"), 400, "timeframe")["expected"]
    )
    refused(client.get(URL, params={"timeframe": "1m"}), 400, "start")
    refused(client.get(URL, params={"start": "2024-12-30"}), 400, "timeframe")


def test_a_market_that_is_none_is_not_found(client):
    for path in ("binance/DOGE-USDT", "mtgox/BTC-USDT", "binance/..%2F..%2Fetc", "binance/%00", "deribit/BTC-USDT"):
        answer = client.get(f"/api/v1/market-data/{path}/history", params=DAY)
        assert answer.status_code == 404, path
    assert (
        "binance:BTC-USDT" in client.get("/api/v1/market-data/x/y/history", params=DAY).json()["errors"][0]["allowed"]
    )


def test_a_form_that_nobody_has_is_not_acceptable(client):
    answer = get(client, {"accept": "text/html"})
    assert (answer.status_code, answer.json()["type"]) == (406, "urn:mdp:problem:not-acceptable")
    assert get(client, {"accept": "text/html"}, format="csv").status_code == 200, "format wins"


@pytest.mark.parametrize("form", ["json", "csv", "arrow", "parquet"])
def test_who_has_the_answer_is_told_so(client, form):
    first = get(client, {"accept-encoding": "gzip"}, format=form)
    tag = first.headers["etag"]
    again = get(client, {"if-none-match": f'"other", W/{tag}'}, format=form)
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert again.headers["cache-control"] == "private, no-cache"
    other = get(client, {"if-none-match": tag}, format=form, end="2024-12-30T23:59Z")
    assert (other.status_code, other.headers["etag"] != tag) == (200, True)


def test_a_body_is_packed_for_who_takes_it_and_each_packing_is_a_version(client):
    plain, zstd, gzip = (get(client, {"accept-encoding": name}) for name in ("identity", "zstd", "gzip"))
    assert [one.headers.get("content-encoding") for one in (plain, zstd, gzip)] == [None, "zstd", "gzip"]
    assert (
        json.loads(pa.Codec("zstd").decompress(zstd.content, len(plain.content), asbytes=True))
        == plain.json()
        == gzip.json()
    )
    assert len({one.headers["etag"] for one in (plain, zstd, gzip)}) == 3
    assert all(one.headers["vary"] == "Accept, Accept-Encoding" for one in (plain, zstd, gzip))
    assert "content-encoding" not in get(client, {"accept-encoding": "gzip"}, format="parquet").headers
    assert "content-encoding" not in get(client, {"accept-encoding": "gzip"}, limit="1").headers, "too small to gain"


def test_head_says_what_get_would(client):
    asked = {**DAY, "limit": "5"}
    got, head = (client.request(how, URL, params=asked, headers={"accept-encoding": ""}) for how in ("GET", "HEAD"))
    assert (head.status_code, head.content) == (200, b"")
    for name in ("etag", "content-length", "content-type", "link"):
        assert head.headers[name] == got.headers[name]


def test_a_snapshot_is_read_by_its_name_and_kept_for_ever_by_its_id(client, snapshot):
    named = get(client, snapshot="held")
    assert (len(named.json()["rows"]), named.headers["cache-control"]) == (STORED, "private, no-cache")
    pinned = get(client, snapshot=f"held@{snapshot.id[:12]}")
    assert pinned.headers["cache-control"] == "private, max-age=31536000, immutable"
    assert pinned.json()["rows"] == named.json()["rows"]
    assert snapshot.id[:12] in refused(get(client, snapshot="held@000000000000"), 400, "snapshot")["expected"]
    refused(get(client, snapshot=f"held@{snapshot.id[:3]}"), 400, "snapshot")
    refused(get(client, snapshot="held", timeframe="1h"), 400, "timeframe")
    refused(get(client, snapshot="held", as_of="2026-01-01"), 400, "as_of")
    refused(get(client, snapshot="held", end="2025-01-01"), 400, "end")
    first = refused(get(client, snapshot="held", end="2025-06-01", limit=10), 400, "end")
    assert first["got"] == "2025-06-01T00:00:00Z", "before the first page, not at the last one that there is"
    until_its_end = client.get(URL, params={"timeframe": "1m", "start": "2024-12-30T23:50Z", "snapshot": "held"})
    assert (len(until_its_end.json()["rows"]), until_its_end.json()["end"]) == (10, "2024-12-31T00:00:00Z")
    assert get(client, snapshot="none").status_code == 404


def test_what_was_stored_earlier_can_be_asked_for(client):
    assert get(client, as_of="2026-01-01").json()["rows"] == [], "the builders' rows came on the day after"
    assert len(get(client, as_of="2026-02-01").json()["rows"]) == STORED


class Held:
    """Live buffers as the mirror gives them."""

    def __init__(self, *buffers):
        self._buffers = {(buffer.market, buffer.timeframe): buffer for buffer in buffers}

    def find(self, market, timeframe):
        return self._buffers.get((market, timeframe))


@pytest.fixture
def live(client):
    """The last ten stored minutes in the buffer, three that are not stored yet, and a forming one."""
    surroundings = client.app.state.surroundings
    before = surroundings.mirror
    first = (at("2024-12-30T23:50") - EPOCH) // timedelta(microseconds=1)
    states = [CandleState.CLOSED] * 12 + [CandleState.CORRECTED, CandleState.FORMING]
    made = [
        LiveCandle(first + n * 60_000_000, 7.0, 7.0, 7.0, 7.0, 1.0, 1.0, 1, 1, state, "stream", first)
        for n, state in enumerate(states)
    ]
    surroundings.mirror = Held(Buffer(MARKET, Timeframe.M1, 500, tuple(made), 14, 0, is_stale=False))
    yield
    surroundings.mirror = before


@pytest.mark.usefixtures("live")
def test_the_present_follows_what_is_stored_without_a_hole(client):
    asked = {"timeframe": "1m", "start": "2024-12-30T23:58Z", "end": "2024-12-31T01:00Z"}
    answer = client.get(URL, params=asked)
    found = answer.json()
    assert [row[0][11:16] for row in found["rows"]] == ["23:58", "23:59", "00:00", "00:01", "00:02"]
    assert [row[1] for row in found["rows"]] == [100.0, 100.0, 7.0, 7.0, 7.0], "what is stored counts"
    assert (found["unstored"], answer.headers["x-mdp-unstored"]) == (3, "3")
    pages, link = [], {**asked, "limit": "2"}
    while link:
        page = client.get(URL, params=link).json()
        pages += page["rows"]
        link = page["next_cursor"] and {**asked, "limit": "2", "cursor": page["next_cursor"]}
    assert pages == found["rows"]
    then = client.get(URL, params={**asked, "as_of": "2026-02-01"}).json()
    assert (len(then["rows"]), then["unstored"]) == (2, 0)


def test_what_is_to_be_generated_is_understood_as_what_is_retrieved(client):
    refused(get(client, mode="generate", start="x"), 400, "start")
    refused(get(client, mode="generate", end="2024-12-29"), 400, "start")
    # HEAD begins nothing: with Dagster away a beginning would be 503
    assert client.head(URL, params={**DAY, "start": "2024-12-29", "mode": "generate"}).status_code == 400


TEXTS = st.text(max_size=30) | st.sampled_from(
    ["2024-12-30", "2024-12-30T10:00Z", "1735553700000", "1h", "1", "held", "csv", "a\x00b", "%2e%2e", "' OR 1=1 --"]
)
NAMES = st.sampled_from([*DAY, "limit", "cursor", "snapshot", "as_of", "format", "mode", "x"])


@pytest.mark.slow
@effort(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(st.dictionaries(NAMES, TEXTS, max_size=5), st.sampled_from(["BTC-USDT", "BTC/USDT", "x", "%2e%2e", "BTC-DVOL"]))
@example({"start": "0001-01-01"}, "BTC-USDT")
@example({"end": "9999-12-31T23:59:59.999999Z"}, "BTC-USDT")
@example({"start": "0001-01-01T00:00+23:59"}, "BTC-USDT")
def test_no_question_breaks_the_service(client, asked, symbol):
    asked = {**DAY, "limit": "3", **asked}
    if asked.get("mode") == "generate":
        del asked["mode"]
    answer = client.get(f"/api/v1/market-data/binance/{symbol}/history", params=asked)
    assert answer.status_code in (200, 400, 404), answer.text


def test_a_window_is_exactly_what_was_asked(client, stored):
    for start, end in (("10:29", "10:33"), ("00:00", "00:01"), ("23:59", "23:59:30"), ("10:30", "10:31")):
        asked = Interval(at(f"2024-12-30T{start}"), at(f"2024-12-30T{end}"))
        answer = get(
            client, start=f"{asked.start:%Y-%m-%dT%H:%M:%SZ}", end=f"{asked.end:%Y-%m-%dT%H:%M:%SZ}", format="parquet"
        )
        expected = stored.filter(pl.col("open_time").is_between(asked.start, asked.end, closed="left"))
        assert pl.read_parquet(io.BytesIO(answer.content)).equals(expected)
        assert answer.headers["x-mdp-unstored"] == "0"
    assert {name for name in CANDLE_SCHEMA if name not in stored.columns} == {"exchange", "symbol", "timeframe"}
