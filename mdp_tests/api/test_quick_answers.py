"""What is answered before a request is made of it is what the route answers; all else is left to the route."""

from __future__ import annotations

import itertools
from datetime import timedelta

import pytest
from starlette.testclient import TestClient

from mdp.api.app import create_app
from mdp.api.buffers import PATH
from mdp.api.callers import Scope
from mdp.api.doorkeeper import Doorkeeper
from mdp.api.formats import MEDIA_TYPES
from mdp.api.key_file import create_key, revoke_key, utc_now
from mdp.api.quick_answers import QuickAnswers, _form
from mdp.config.settings import load_settings
from mdp_tests.api.live_service import forget, grown_stale, live_buffer, put

URL = "/api/v1/market-data/binance/BTC-USDT/buffer/1m"
HOST = (b"host", b"127.0.0.1:8000")


@pytest.fixture
def holding(client):
    """The service while it holds a buffer."""
    put(client, live_buffer())
    yield client
    forget(client)


@pytest.fixture
def find(holding):
    """Ask for a quick answer."""
    quick = holding.app_state["quick"]
    return lambda url=URL, *headers, host=HOST: quick.find(url.encode(), [host, *headers], "127.0.0.1")


def parsed(answer):
    """Status, headers and body of what is written to the connection; headers of the server are left out."""
    status, more, head, body = answer
    head = more + head
    assert head.endswith(b"\r\n\r\n")
    pairs = [line.split(b": ", 1) for line in head[:-4].split(b"\r\n")]
    assert len(dict(pairs)) == len(pairs)
    return int(status.split()[1]), {name.decode(): value.decode() for name, value in pairs}, body


def test_headers_that_are_long_or_of_somebody_who_may_not_ask_are_not_even_read(find):
    _form.cache_clear()
    assert find(URL, (b"accept", b"application/json;" + b"x" * 600)) is None
    assert find(URL, (b"accept-encoding", b"gzip;" * 200)) is None
    assert find(URL, (b"accept", b"text/csv"), host=(b"host", b"elsewhere.example")) is None
    assert _form.cache_info().currsize == 0, "they would be kept"
    assert find(URL, (b"accept", b"text/csv")) is not None
    assert _form.cache_info().currsize == 1


ACCEPTS = (None, "*/*", "text/html, */*;q=0.8", *MEDIA_TYPES.values())
ENCODINGS = ("identity", "gzip, deflate", "gzip, deflate, br, zstd", "zstd;q=0, gzip")


@pytest.mark.parametrize("accept", ACCEPTS)
def test_it_is_what_the_route_answers_byte_for_byte_in_every_form(holding, find, accept):
    for stale, encoding in itertools.product((False, True), ENCODINGS):
        put(holding, grown_stale(live_buffer()) if stale else live_buffer())
        headers = {"accept-encoding": encoding, **({"accept": accept} if accept else {})}
        if accept is None:
            headers["accept"] = ""
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        with holding.stream("GET", URL, headers=headers) as route:
            expected = route.status_code, dict(route.headers), b"".join(route.iter_raw())
        status, quick, body = parsed(find(URL, *raw))
        assert (status, body) == (expected[0], expected[2])
        assert {name: expected[1].get(name) for name in quick} == quick
        assert expected[1].keys() - quick.keys() <= {"x-request-id"}, "a header that only the route's answer bears"

        tagged = {**headers, "if-none-match": quick["etag"]}
        route = holding.get(URL, headers=tagged)
        status, unchanged, body = parsed(find(URL, *raw, (b"if-none-match", quick["etag"].encode())))
        assert (status, body, route.status_code, route.content) == (304, b"", 304, b"")
        assert {name: route.headers.get(name) for name in unchanged} == unchanged


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("authorization", "Bearer mdp_x_y"), ("x-api-key", "k"), ("authorization", ""),
        ("cookie", "mdp_key=k"), ("origin", "http://evil.example"),
        ("x-forwarded-for", "10.0.0.1"), ("forwarded", "for=10.0.0.1"), ("via", "1.1 proxy"), ("x-real-ip", "10.0.0.1"),
        ("sec-fetch-site", "cross-site"), ("content-length", "3"), ("transfer-encoding", "chunked"),
        ("expect", "100-continue"), ("upgrade", "websocket"), ("range", "bytes=0-1"), ("x-request-id", "7"),
        ("cf-connecting-ip", "10.0.0.1"), ("host", "localhost"),
    ],
)  # fmt: skip
def test_whatever_else_comes_along_is_looked_at_by_the_gate_and_the_route(find, name, value):
    assert find() is not None
    assert find(URL, (name.encode(), value.encode())) is None


@pytest.mark.parametrize("host", ["localhost", "localhost:8000", "127.0.0.1", "[::1]", "[::1]:8000"])
def test_this_machine_by_its_own_name_is_answered(find, host):
    assert find(host=(b"host", host.encode())) is not None


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "evil.example:8000", "127.0.0.1.evil", "localhost:", "localhost:x", ""],
)
def test_a_page_whose_name_points_here_is_not(find, host):
    assert find(host=(b"host", host.encode())) is None
    assert find(host=(b"accept", b"*/*")) is None


@pytest.mark.parametrize(
    "url",
    [URL + "?format=csv", URL + "?", URL + "/", URL.replace("BTC", "%42TC"), "/" + URL, URL.replace("1m", "2m"),
     "http://127.0.0.1:8000" + URL, URL.replace("BTC-USDT", "ETH-USDT"), "/"],
)  # fmt: skip
def test_any_other_address_goes_to_the_route_and_so_does_a_buffer_that_nobody_wrote(find, url):
    assert find(url) is None


def test_a_form_that_there_is_not_is_refused_by_the_route(find):
    assert find(URL, (b"accept", b"image/png")) is None


def test_each_is_counted_as_the_route_would(holding, find):
    requests = holding.app.state.surroundings.measures.requests
    before = {key: sum(tally.counts) for key, tally in requests.items()}
    find()
    _, headers, _ = parsed(find())
    find(URL, (b"if-none-match", headers["etag"].encode()))
    for status, count in ((200, 2), (304, 1)):
        key = ("GET", PATH, status)
        assert sum(requests[key].counts) - before.get(key, 0) == count


@pytest.mark.parametrize("api", [{"keys": "always"}, {"trusted_proxies": ("127.0.0.1",)}])
def test_where_this_machine_too_must_show_who_it_is_nothing_is_answered_without_a_key(lake, api):
    settings = load_settings(data_dir=lake, simulated=True, api={"access_log": "off", **api})
    with TestClient(create_app(settings), base_url="http://127.0.0.1:8000", client=("127.0.0.1", 1)) as asking:
        put(asking, live_buffer())
        assert asking.app_state["quick"].find(URL.encode(), [HOST], "127.0.0.1") is None
        assert asking.get(URL).status_code == 401


class TestKeys:
    @pytest.fixture
    def key(self, tmp_path):
        """A good key, two requests a minute."""
        path = load_settings(data_dir=tmp_path).keys_file
        _, text = create_key(path, "desk", (Scope.READ,), utc_now(), requests_per_minute=2)
        return text.encode()

    @pytest.fixture
    def find(self, holding, key, tmp_path):
        around = holding.app.state.surroundings
        doorkeeper = Doorkeeper(load_settings(data_dir=tmp_path))
        quick = QuickAnswers(around.spelled, around.measures, doorkeeper, log=None)
        return lambda *headers: quick.find(URL.encode(), [HOST, *headers], "10.0.0.7")

    def test_from_elsewhere_a_good_key_is_answered_with_what_is_left_of_its_limit(self, find, key):
        for left, header in ((1, (b"authorization", b"Bearer " + key)), (0, (b"x-api-key", key))):
            status, headers, _ = parsed(find(header))
            assert (status, headers["ratelimit-limit"], headers["ratelimit-remaining"]) == (200, "2", str(left))
        # the third within a minute is refused by the gate, which says why
        assert find((b"x-api-key", key)) is None

    @pytest.mark.parametrize("how", ["revoked", "expired", "not for reading", "damaged"])
    def test_a_key_that_is_not_good_any_more_is_left_to_the_gate(self, find, tmp_path, how):
        path, now = load_settings(data_dir=tmp_path).keys_file, utc_now()
        scopes = (Scope.GENERATE,) if how == "not for reading" else (Scope.READ,)
        ends = now - timedelta(seconds=1) if how == "expired" else None
        _, text = create_key(path, "other", scopes, now, expires_at=ends)
        if how == "revoked":
            revoke_key(path, "other", now)
        if how == "damaged":
            path.write_text("{")
        assert find((b"x-api-key", text.encode())) is None

    def test_without_a_key_nothing_is_answered_elsewhere(self, find):
        assert find() is None

    @pytest.mark.parametrize(
        "headers",
        [
            [(b"x-api-key", b"mdp_nobody_" + b"A" * 43)],
            [(b"authorization", b"Basic KEY")],
            [(b"authorization", b"Bearer KEY"), (b"x-api-key", b"KEY")],
            [(b"authorization", b"Bearer KEY"), (b"x-forwarded-for", b"10.0.0.8")],
            [(b"authorization", b"Bearer KEY"), (b"origin", b"http://evil.example")],
        ],
    )
    def test_whatever_is_odd_about_it_is_left_to_the_gate(self, find, key, headers):
        found = [(name, value.replace(b"KEY", key)) for name, value in headers]
        assert find(*found) is None
