"""The whole service under nonsense: what it says of itself is true, and nothing that anybody sends breaks it.

schemathesis reads the OpenAPI document of a service that runs and asks every operation with what fits it and what does
not, the same each time. Hypothesis asks for paths and ranges that no document would think of.
"""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import threading
import time
from http.client import HTTPResponse
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
import uvicorn
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from mdp.api.app import create_app
from mdp.config.settings import load_settings
from mdp_tests.api.conftest import lake  # noqa: F401  # a fixture

pytestmark = pytest.mark.slow

CONFIG = """
[generation]
deterministic = true
max-examples = 6

[checks]
not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", "503"]  # that 503 is documented, another check sees to
positive_data_acceptance.enabled = false  # no schema says that an end lies after its start

[[operations]]
include-path-regex = "^/compat/(bybit|okx)/"
checks.negative_data_rejection.enabled = false  # both exchanges answer 200 and say in the body what is wrong
"""
"""Everything else that schemathesis checks is checked."""

SECONDS = 35
ODD = st.one_of(
    st.sampled_from(
        [
            "..", "../../etc/passwd", "%2e%2e%2f", "a\r\nSet-Cookie: x=1", "\x00", "'; DROP TABLE ohlcv; --",
            "1 OR 1=1",
            "${jndi:x}", "{{7*7}}", "<script>", "NaN", "1e999", "-1", "9" * 400, "BTC-USDT\n", "\uff22TC-USDT",
            "*", "~", "..\\", "2024-12-30", "2024-02-30", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z",
            "1735552800000", "-1e3", "null",
        ],
    ),
    st.text(max_size=30),
)  # fmt: skip
PATHS = (
    "/{}", "/static/{}", "/static/{}/index.html", "/api/v1/snapshots/{}", "/api/v1/generations/{}", "/api/v1/dvol/{}",
    "/api/v1/market-data/{}/BTC-USDT/history", "/api/v1/market-data/binance/{}/gaps",
    "/api/v1/market-data/binance/BTC-USDT/buffer/{}", "/compat/{}/api/v3/klines", "/compat/binance/{}",
)  # fmt: skip
EVENTS = "/api/v1/stream/events"
"""An answer without end, which schemathesis would wait for; asked for by itself below."""

HISTORY = "/api/v1/market-data/binance/BTC-USDT/history"
PARAMETERS = ("timeframe", "start", "end", "limit", "cursor", "snapshot", "as_of", "mode", "format", "x")
KLINES = ("symbol", "interval", "startTime", "endTime", "limit", "timeZone", "x")


@pytest.fixture(scope="module")
def service(lake):  # noqa: F811
    """A service over a small lake, without bus and Dagster, on a free port; where it listens."""
    config = uvicorn.Config(
        create_app(load_settings(data_dir=lake, simulated=True, api={"access_log": "off"})),
        log_level="critical", access_log=False, server_header=False, ws="websockets-sansio",
    )  # fmt: skip
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        deadline = time.monotonic() + 30
        while not server.started:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join(10)


@pytest.fixture(scope="module")
def asking(service):
    with httpx.Client(base_url=service, timeout=30) as client:
        yield client


def test_what_the_service_says_of_itself_is_true_whatever_it_is_asked(service, tmp_path):
    config = tmp_path / "schemathesis.toml"
    config.write_text(CONFIG)
    command = [
        Path(sys.executable).with_name("schemathesis"), "--config-file", config, "run",
        f"{service}/api/v1/openapi.json", "--no-color", "--continue-on-failure", "--no-shrink", "--warnings", "off",
        "--exclude-path", EVENTS, "--phases", "examples,coverage,fuzzing", "--max-time", str(SECONDS),
        "--request-timeout", "30",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout[-8_000:] + done.stderr[-2_000:]
    selected, tested = re.search(r"Selected: (\d+)/\d+\n\s+Tested: (\d+)", done.stdout).groups()
    assert int(tested) == int(selected) >= 25
    assert int(re.search(r"(\d+) generated", done.stdout)[1]) > 1_000


def require_sane(answer, *sent):
    """An answer is one that was meant: no error of ours, nothing of this machine in it, no header smuggled in."""
    assert answer.status_code < 500 or answer.status_code == 503, (answer.status_code, sent, answer.text[:500])
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "set-cookie" not in answer.headers
    for word in ("Traceback", "site-packages", "/tmp/", "root:x:"):
        assert word not in answer.text, sent
    if answer.status_code >= 400 and "json" in answer.headers.get("content-type", ""):
        assert isinstance(json.loads(answer.text), dict)


@seed(1)
@settings(max_examples=150, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(PATHS), ODD, st.booleans())
def test_no_path_leads_anywhere_it_should_not(asking, path, part, is_quoted):
    part = part.encode("utf-8", "replace").decode()
    text = quote(part, safe="" if is_quoted else "/.")
    require_sane(asking.get(path.format(text)), path, part)


@seed(1)
@settings(max_examples=150, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(PARAMETERS), ODD), max_size=4))
def test_no_question_of_history_breaks_it(asking, pairs):
    pairs = [(name, text.encode("utf-8", "replace").decode()) for name, text in pairs]
    usual = {"timeframe": "1h", "start": "2024-12-30", "end": "2024-12-31"}
    given_names = {name for name, _ in pairs}
    query = [(name, text) for name, text in usual.items() if name not in given_names] + pairs
    require_sane(asking.get(HISTORY, params=query), query)


@seed(1)
@settings(max_examples=150, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 4_000_000_000_000), st.integers(-5, 4_000_000_000_000), st.integers(-1, 2_000))
def test_any_range_is_answered_with_rows_of_it_or_refused_by_name(asking, start, length, limit):
    answer = asking.get(HISTORY, params={"timeframe": "1m", "start": start, "end": start + length, "limit": limit})
    require_sane(answer, start, length, limit)
    if answer.status_code == 400:
        assert json.loads(answer.text)["errors"][0]["parameter"] in ("start", "end", "limit")
    else:
        assert len(answer.json()["rows"]) <= limit


@seed(1)
@settings(max_examples=100, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(KLINES), ODD), max_size=4))
def test_no_question_of_klines_breaks_it(asking, pairs):
    pairs = [(name, text.encode("utf-8", "replace").decode()) for name, text in pairs]
    given_names = {name for name, _ in pairs}
    usual = {"symbol": "BTCUSDT", "interval": "1m"}
    query = [(name, text) for name, text in usual.items() if name not in given_names] + pairs
    require_sane(asking.get("/compat/binance/api/v3/klines", params=query), query)


@seed(1)
@settings(max_examples=60, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(("topic", "since", "x")), ODD), max_size=3), st.booleans())
def test_no_question_of_a_stream_breaks_it(asking, pairs, is_usual):
    pairs = [(name, text.encode("utf-8", "replace").decode()) for name, text in pairs]
    usual = [("topic", "candles.binance.BTC-USDT.1m")] if is_usual else []
    with asking.stream("GET", EVENTS, params=[*usual, *pairs]) as answer:
        if answer.status_code != 200:
            answer.read()
            require_sane(answer, pairs)


@pytest.mark.parametrize(
    ("status", "raw"),
    [
        (404, b"GET /../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        (404, b"GET /static/..%2f..%2fapp.py HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        (404, b"GET /static//etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        (404, b"GET /%00 HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        (503, b"GET http://evil.example/api/v1/live HTTP/1.1\r\nHost: localhost\r\n\r\n"),  # ours: without a bus
        (400, b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\n\r\n"),
        (400, b"GET / HTTP/1.1\r\nHost: [evil\r\n\r\n"),
        (200, b"GET / HTTP/1.0\r\n\r\n"),
        (400, b"BREW / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        (400, b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: a\x01b\r\n\r\n"),
        (400, b"POST /api/v1/session HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n"),
        (400, b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"),
        (414, b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    ],
)  # fmt: skip
def test_what_no_client_library_would_send_is_answered(service, asking, status, raw):
    host, _, port = service.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(raw)  # and left open: a server may answer nothing to whoever closed their half
        answer = HTTPResponse(connection)
        answer.begin()
        said = str(answer.headers).encode() + answer.read()
    assert answer.status == status, said[:300]
    for word in (b"root:x:", b"Traceback", b"import "):
        assert word not in said
    assert asking.get("/healthz").status_code == 200


def test_a_body_without_end_is_cut_off(asking):
    def endless():
        for _ in range(10_000):
            yield b" " * 1_024

    try:
        answer = asking.post("/api/v1/session", content=endless(), headers={"content-type": "application/json"})
    except (httpx.WriteError, httpx.ReadError, httpx.RemoteProtocolError):
        return  # cut off while it was still being sent
    assert answer.status_code == 413
