"""The buffer route: what is in memory, in every form, and whoever has the newest version is told so."""

from __future__ import annotations

import gzip
import io
import json

import polars as pl
import pyarrow as pa
import pytest
from starlette.testclient import TestClient

from mdp.api.app import create_app
from mdp.api.buffer_bodies import COLUMNS, spell
from mdp.api.formats import MEDIA_TYPES, Format
from mdp.config.settings import load_settings
from mdp.domain.market import Market
from mdp.domain.timeframe import Timeframe
from mdp_tests.api.live_service import FORMING, M1, forget, grown_stale, live_buffer, put
from mdp_tests.support.builders import MARKET

URL = "/api/v1/market-data/binance/BTC-USDT/buffer/1m"
BUFFER = live_buffer()


@pytest.fixture
def ask(client):
    """Ask for the buffer that the service holds."""
    put(client, BUFFER)
    yield lambda url=URL, **headers: client.get(url, headers={"accept-encoding": "identity", **headers})
    forget(client)


def test_json_says_whose_it_is_and_each_candle_in_order_with_times_as_text(ask):
    found = ask().json()
    rows = found.pop("rows")
    assert found == {
        "exchange": "binance", "symbol": "BTC-USDT", "timeframe": "1m", "size": 100, "seq": 7,
        "written_at": "2025-01-06T10:31:00.250000Z", "is_stale": False, "columns": list(COLUMNS),
    }  # fmt: skip
    assert rows[1] == [
        "2025-01-06T10:01:00Z", 101.0, 102.5, 100.5, 101.0, 0.25, 1e-7, 1, 1, "confirmed", "stream",
        "2025-01-06T10:02:00.250000Z",
    ]  # fmt: skip
    assert (len(rows), rows[-1][0], rows[-1][9]) == (31, "2025-01-06T10:30:00Z", "forming")


def test_every_form_has_the_same_rows_by_accept_and_by_parameter(ask):
    expected = pl.DataFrame(ask().json()["rows"], schema=list(COLUMNS), orient="row")
    read = {
        Format.CSV: lambda body: pl.read_csv(body),
        Format.ARROW: lambda body: pl.from_arrow(pa.ipc.open_stream(body).read_all()),
        Format.PARQUET: lambda body: pl.read_parquet(body),
    }
    for format_, reading in read.items():
        answer = ask(accept=MEDIA_TYPES[format_])
        assert answer.headers["content-type"].partition(";")[0] == MEDIA_TYPES[format_]
        assert answer.content == ask(f"{URL}?format={format_}", accept="application/json").content
        rows = reading(io.BytesIO(answer.content))
        assert rows.columns == list(COLUMNS)
        for name in COLUMNS:
            found, wanted = rows[name], expected[name]
            if name in ("open_time", "received_at"):
                wanted = wanted.str.to_datetime("%Y-%m-%dT%H:%M:%S%.fZ", time_zone="UTC", time_unit="us")
                found = found.str.to_datetime("%Y-%m-%dT%H:%M:%S%.fZ", time_zone="UTC") if format_ == "csv" else found
            assert found.to_list() == wanted.to_list(), (format_, name)


def test_headers_say_the_version_and_that_a_cache_must_ask(ask):
    headers = ask().headers
    assert (headers["x-mdp-seq"], headers["x-mdp-stale"]) == ("7", "false")
    assert headers["etag"].startswith('"7')
    assert "no-cache" in headers["cache-control"]
    assert {part.strip() for part in headers["vary"].split(",")} >= {"Accept", "Accept-Encoding"}


def test_whoever_has_the_newest_version_is_told_so_and_any_change_of_it_is_another_version(ask, client):
    tag = ask().headers["etag"]
    for said in (tag, f'W/{tag}, "x"', "*"):
        answer = ask(**{"if-none-match": said})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", tag)
        assert "content-length" not in answer.headers
    tags = {tag}
    for changed in (live_buffer(seq=8), grown_stale(BUFFER), grown_stale(live_buffer(seq=8))):
        put(client, changed)
        tags.add(ask(**{"if-none-match": tag}).headers["etag"])
    put(client, BUFFER)
    for form in ("csv", "arrow", "parquet"):
        tags.add(ask(f"{URL}?format={form}").headers["etag"])
    tags |= {ask(**{"accept-encoding": name}).headers["etag"] for name in ("gzip", "zstd")}
    assert len(tags) == 9


def test_a_stale_buffer_is_given_and_says_so(ask, client):
    put(client, grown_stale(BUFFER))
    answer = ask()
    assert (answer.status_code, answer.headers["x-mdp-stale"], answer.json()["is_stale"]) == (200, "true", True)
    assert len(answer.json()["rows"]) == 31


def test_a_body_is_packed_for_whoever_takes_it(ask, client):
    plain = ask().content
    for encoding, unpack in (("gzip", gzip.decompress), ("zstd", pa.Codec("zstd").decompress)):
        with client.stream("GET", URL, headers={"accept-encoding": encoding}) as answer:
            body = b"".join(answer.iter_raw())
            assert answer.headers["content-encoding"] == encoding
            assert int(answer.headers["content-length"]) == len(body) < len(plain) / 2
        whole = unpack(body) if encoding == "gzip" else unpack(body, len(plain), asbytes=True)
        assert whole == plain


def test_a_head_request_says_what_a_get_would(ask, client):
    got = ask()
    head = client.head(URL, headers={"accept-encoding": "identity"})
    assert (head.status_code, head.content) == (200, b"")
    assert {**head.headers, "x-request-id": ""} == {**got.headers, "x-request-id": ""}


def test_a_buffer_without_candles_is_one(ask, client):
    put(client, live_buffer(count=0).__class__(MARKET, M1, 100, (), 1, 0))
    assert ask().json()["rows"] == []
    for form in ("csv", "arrow", "parquet"):
        assert ask(f"{URL}?format={form}").status_code == 200


def test_an_index_has_buffers_too_without_volumes(ask, client):
    index = Market.parse("deribit:BTC-DVOL")
    candles = tuple(one._replace(volume=None, quote_volume=None, trades=None) for one in BUFFER.candles)
    put(client, live_buffer(market=index).__class__(index, M1, 100, candles, 3, 0))
    found = ask("/api/v1/market-data/deribit/BTC-DVOL/buffer/1m").json()
    assert found["rows"][0][5:8] == [None, None, None]
    rows = pl.read_csv(ask("/api/v1/market-data/deribit/BTC-DVOL/buffer/1m?format=csv").content)
    assert rows["trades"].null_count() == 31


def test_what_nobody_wrote_is_unavailable_and_says_what_to_start(ask):
    answer = ask("/api/v1/market-data/okx/ETH-USDT/buffer/5m")
    problem = answer.json()
    assert (answer.status_code, problem["retryable"]) == (503, True)
    assert "okx:ETH-USDT 5m: nobody keeps it now: no feed runs, or the bus is away" in problem["detail"]
    assert "mdp" in problem["detail"].partition(";")[2]
    assert answer.headers["retry-after"]


def test_once_the_bus_answers_the_buffer_is_missing_not_the_bus(ask, client):
    mirror = client.app.state.surroundings.mirror
    mirror.is_connected = True
    try:
        said = ask("/api/v1/market-data/okx/ETH-USDT/buffer/5m").json()["detail"]
    finally:
        mirror.is_connected = False
    assert "no feed has written this buffer yet" in said
    assert "feed okx" in said


@pytest.mark.parametrize(
    ("path", "name"),
    [("nowhere/BTC-USDT/buffer/1m", "exchange"), ("binance/BTC-EUR/buffer/1m", "symbol"),
     ("binance/BTC-USDT/buffer/2m", "timeframe"), ("binance/btc-usdt/buffer/1m", "symbol")],
)  # fmt: skip
def test_a_path_that_names_nothing_is_not_found_and_lists_what_there_is(ask, path, name):
    answer = ask(f"/api/v1/market-data/{path}")
    (error,) = answer.json()["errors"]
    assert answer.status_code == 404
    assert name in error["parameter"]
    assert len(error["allowed"]) >= 6


def test_a_parameter_that_is_wrong_unknown_or_repeated_is_named(ask):
    for query, name in (("format=xml", "format"), ("fromat=csv", "fromat"), ("format=csv&format=csv", "format")):
        answer = ask(f"{URL}?{query}")
        assert (answer.status_code, answer.json()["errors"][0]["parameter"]) == (400, name)
    assert ask(accept="image/png").status_code == 406


def test_in_mode_backtest_there_are_none_and_it_says_what_to_ask_instead(lake):
    settings = load_settings(data_dir=lake, simulated=True, mode="backtest")
    with TestClient(create_app(settings), base_url="http://127.0.0.1:8000", client=("127.0.0.1", 1)) as asking:
        answer = asking.get(URL)
        assert (answer.status_code, answer.json()["retryable"]) == (409, False)
        assert "history" in answer.json()["detail"]
        assert asking.get("/readyz").json() == {"status": "ready", "reasons": []}


def test_a_version_is_spelled_once_in_each_form(ask, client):
    spelled = client.app.state.surroundings.spelled[MARKET, M1]
    first = spelled.answer(0)
    assert spelled.answer(0) is first
    put(client, live_buffer(seq=8))
    assert spelled.answer(0) is not first
    assert json.loads(ask().content)["seq"] == 8


def test_what_is_longer_than_a_minute_is_spelled_alike():
    found = json.loads(spell(live_buffer(timeframe=Timeframe.H1), Format.JSON))
    assert (found["timeframe"], found["rows"][-1][9]) == ("1h", FORMING)
