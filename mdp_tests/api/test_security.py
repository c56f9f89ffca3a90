"""Secrets and places of this machine: in no answer, no metric and no log line, whatever goes wrong; sessions."""

from __future__ import annotations

import logging
import re
from datetime import timedelta

import pytest
from starlette.testclient import TestClient

from mdp.api.app import create_app
from mdp.api.callers import Scope
from mdp.api.key_file import KEY, create_key, revoke_key, utc_now
from mdp.config.settings import load_settings

pytestmark = pytest.mark.slow  # each starts a service

BUS_PASSWORD, DAGSTER_PASSWORD = "bus-hunter2", "dagster-hunter2"
FAR = ("203.0.113.7", 50_000)
HERE = ("127.0.0.1", 50_000)
BUFFER = "/api/v1/market-data/binance/BTC-USDT/buffer/1m"


@pytest.fixture
def place(tmp_path):
    data_dir = tmp_path / "secret-place"
    return load_settings(
        data_dir=data_dir,
        bus={"url": f"redis://me:{BUS_PASSWORD}@127.0.0.1:1/0"},
        api={"dagster_url": f"http://me:{DAGSTER_PASSWORD}@127.0.0.1:1"},
        simulated=True,
    )


@pytest.fixture
def key(place):
    return create_key(place.keys_file, "desk", [Scope.READ], utc_now())


@pytest.fixture
def far(place, key):
    with TestClient(create_app(place), base_url="http://desk.example", client=FAR) as asking:
        yield asking


@pytest.fixture
def with_key(key):
    return {"authorization": f"Bearer {key.text}"}


def everything_that_fails(client, text):
    """Ask for all there is, in ways that fail."""
    template = client.app.openapi()["paths"]
    values = {
        "exchange": "binance",
        "symbol": "BTC-USDT",
        "timeframe": "1m",
        "currency": "BTC",
        "name": text,
        "id": text,
    }
    for path, operations in template.items():
        if path.endswith("/events"):
            continue
        for method in operations:
            for odd in ({}, {"x": text}, {"start": text}, {"start": "2024-12-30", "end": "2024-12-31"}):
                address = path.format(**values)
                yield client.request(method, address, params=odd)
                yield client.request(method, f"/{text}{address}", params=odd)


@pytest.mark.parametrize("is_damaged", [False, True])
def test_no_answer_metric_or_log_line_has_a_secret_or_a_place_of_this_machine(
    place, key, caplog, capfd, is_damaged, tmp_path
):
    caplog.set_level(logging.DEBUG)
    if is_damaged:  # a lake that is none
        place.lake_dir.mkdir(parents=True)
        for table in ("ohlcv", "gaps", "fetches", "revisions", "dvol"):
            (place.lake_dir / table / "_delta_log").mkdir(parents=True)
            (place.lake_dir / table / "_delta_log" / f"{0:020}.json").write_text("{")
    secret = KEY.fullmatch(key.text)[2]
    with TestClient(
        create_app(place), base_url="http://desk.example", client=FAR, headers={"x-api-key": key.text},
        raise_server_exceptions=False,
    ) as client:  # fmt: skip
        answers = list(everything_that_fails(client, key.text))
        answers += [client.get(path) for path in ("/metrics", "/", "/docs", "/readyz", "/api/v1/service", BUFFER)]
        answers.append(client.post("/api/v1/session", json={"key": key.text[:-1]}))
    assert {answer.status_code for answer in answers} >= {200, 400, 401, 403, 404, 503}
    forbidden = (BUS_PASSWORD, DAGSTER_PASSWORD, str(tmp_path), "secret-place", "Traceback", "site-packages")
    for answer in answers:
        said = answer.text + str(answer.headers)
        assert not [word for word in forbidden if word in said], (answer.url, said[:500])
    printed = capfd.readouterr()
    lines = printed.out + printed.err
    assert sum("mdp.api.access" in line for line in printed.err.splitlines()) == len(answers)
    # httpx is silent in the service (``cli.serve``)
    ours = "\n".join(record.getMessage() for record in caplog.records if not record.name.startswith("httpx"))
    for word in (BUS_PASSWORD, DAGSTER_PASSWORD, secret):
        assert word not in lines
        assert word not in ours


class TestSession:
    def test_a_key_that_is_handed_over_opens_and_forgetting_it_closes(self, far, key):
        assert far.get("/api/v1/service").status_code == 401
        answer = far.post("/api/v1/session", json={"key": key.text})
        assert answer.status_code == 200
        assert answer.json() == {"key_id": key.key.id, "name": "desk", "scopes": ["read"], "expires_at": None}
        assert key.text not in answer.text
        assert far.get("/api/v1/service").status_code == 200
        assert far.delete("/api/v1/session").status_code == 204
        assert far.get("/api/v1/service").status_code == 401

    def test_the_cookie_is_for_this_site_and_no_script(self, far, key):
        cookie = far.post("/api/v1/session", json={"key": key.text}).headers["set-cookie"]
        assert {part.strip().lower() for part in cookie.split(";")[1:]} == {
            "httponly", "samesite=strict", "path=/", "max-age=2592000",
        }  # fmt: skip

    def test_over_https_it_is_for_https_alone(self, place, key):
        with TestClient(create_app(place), base_url="https://desk.example", client=FAR) as client:
            assert "; secure" in client.post("/api/v1/session", json={"key": key.text}).headers["set-cookie"].lower()

    def test_a_proxy_that_is_believed_may_say_so(self, place, key):
        believing = place.model_copy(update={"api": place.api.model_copy(update={"trusted_proxies": ("203.0.113.7",)})})
        for settings, is_secure in ((believing, True), (place, False)):
            with TestClient(create_app(settings), base_url="http://desk.example", client=FAR) as client:
                answer = client.post("/api/v1/session", json={"key": key.text}, headers={"x-forwarded-proto": "https"})
                assert ("; secure" in answer.headers["set-cookie"].lower()) is is_secure

    def test_it_lasts_no_longer_than_the_key(self, far, place):
        made = create_key(place.keys_file, "short", [Scope.READ], utc_now(), expires_at=utc_now() + timedelta(hours=1))
        cookie = far.post("/api/v1/session", json={"key": made.text}).headers["set-cookie"]
        assert 3_500 < int(re.search(r"Max-Age=(\d+)", cookie)[1]) <= 3_600

    def test_tries_are_slowed_down(self, far):
        statuses = [far.post("/api/v1/session", json={"key": f"mdp_{number}"}).status_code for number in range(32)]
        assert statuses == [401] * 30 + [429] * 2

    @pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"key":1}', b'{"key":"a b"}', b'{"key":"\xff"}', b"{}",
                                      b'{"key":"x","y":1}', b'{"key":"' + b"x" * 200 + b'"}'])  # fmt: skip
    def test_a_body_that_is_none_is_refused_without_being_repeated(self, far, body):
        answer = far.post("/api/v1/session", content=body, headers={"content-type": "application/json"})
        assert answer.status_code == 400
        assert "xxx" not in answer.text
        assert "a b" not in answer.text

    def test_a_body_that_is_too_long_is_refused(self, far):
        assert far.post("/api/v1/session", content=b" " * 70_000).status_code == 413

    def test_a_page_of_somebody_else_cannot_log_a_browser_in(self, far, key):
        headers = {"origin": "https://evil.example"}
        assert far.post("/api/v1/session", json={"key": key.text}, headers=headers).status_code == 403

    def test_a_revoked_key_is_revoked_in_every_browser(self, place, key):
        with TestClient(create_app(place), base_url="http://desk.example", client=FAR) as client:
            client.post("/api/v1/session", json={"key": key.text})
            revoke_key(place.keys_file, "desk", utc_now())
            client.app.state.doorkeeper.keys._look_at = 0.0
            assert client.get("/api/v1/service").status_code == 401


def test_a_key_that_may_only_read_begins_nothing(far, with_key):
    for method, path in (
        ("POST", "/api/v1/market-data/binance/BTC-USDT/generate?start=2024-12-30&end=2024-12-31"),
        (
            "GET",
            "/api/v1/market-data/binance/BTC-USDT/history?timeframe=1m&start=2024-12-30&end=2024-12-31&mode=generate",
        ),
        ("DELETE", "/api/v1/generations/3f9a0c2b71d4e865"),
    ):
        answer = far.request(method, path, headers=with_key)
        assert (answer.status_code, answer.json()["type"]) == (403, "urn:mdp:problem:not-allowed"), path


def test_a_link_on_somebodys_page_begins_nothing_here_either(place):
    with TestClient(create_app(place), base_url="http://127.0.0.1:8000", client=HERE) as client:
        path = "/api/v1/market-data/binance/BTC-USDT/history?timeframe=1m&start=2024-12-30&end=2024-12-31&mode=generate"
        headers = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
        assert client.get(path, headers=headers).status_code == 403


def test_every_operation_but_the_open_ones_needs_a_key_from_elsewhere(far):
    open_ones = {"/healthz", "/readyz", "/api/v1/session"}
    values = {"exchange": "binance", "symbol": "BTC-USDT", "timeframe": "1m", "currency": "BTC", "name": "a", "id": "a"}
    for path, operations in far.app.openapi()["paths"].items():
        for method in operations:
            answer = far.request(method, path.format(**values))
            assert (answer.status_code == 401) is (path not in open_ones), (path, method)


def test_a_websocket_needs_a_key_too(far, with_key):
    with pytest.raises(Exception) as raised, far.websocket_connect("/api/v1/stream"):  # noqa: PT011
        pass
    assert getattr(raised.value, "status_code", None) == 401


def test_a_service_whose_keys_cannot_be_read_says_so_before_it_starts(place, key, monkeypatch):
    from mdp.cli.serve import _look_at_access
    from mdp.errors import ConfigError

    _look_at_access(place)
    place.keys_file.chmod(0o644)
    with pytest.raises(ConfigError, match="0600"):
        _look_at_access(place)
