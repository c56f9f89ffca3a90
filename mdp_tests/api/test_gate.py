"""The gate: who is let through without a key, who with one, and whose pages may have a browser ask."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from starlette.exceptions import HTTPException

from mdp.api.callers import LOOPBACK, Caller, Scope, require
from mdp.api.doorkeeper import TRIES_A_MINUTE, Doorkeeper
from mdp.api.gate import MAX_HEADER_BYTES, MAX_URL_BYTES, Gate
from mdp.api.key_file import create_key, revoke_key, utc_now
from mdp.api.problems import Problem
from mdp.config.settings import load_settings
from mdp.errors import ConfigError
from mdp_tests.api.asking import FAR, Behind, ask, scope_of

PAGE = "https://desk.example"
FOREIGN = [
    {"origin": "https://evil.example"},
    {"origin": "null"},
    {"origin": "http://localhost:3000"},  # another service of this machine is another origin
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site", "sec-fetch-mode": "no-cors"},
]


@pytest.fixture
def behind():
    return Behind()


@pytest.fixture
def gate(tmp_path, behind):
    def make(clock=None, **api):
        settings = load_settings(data_dir=tmp_path, api=api)
        return Gate(behind, settings, Doorkeeper(settings, *([clock] if clock else [])))

    return make


@pytest.fixture
def key(tmp_path):
    def make(*scopes, **more):
        path = load_settings(data_dir=tmp_path).keys_file
        name = f"key{len(list(path.parent.glob('*')))}{len(scopes)}"
        return create_key(path, name, scopes or (Scope.READ,), utc_now(), **more)

    return make


class TestThisMachine:
    def test_it_needs_no_key_and_may_do_everything(self, gate, behind):
        assert ask(gate(), scope_of()).body == b"through"
        assert behind.caller == LOOPBACK
        assert behind.caller.scopes == frozenset(Scope)

    @pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1", "[::1]:8000", "[::1]"])
    @pytest.mark.parametrize("peer", ["127.0.0.1", "::1", "::ffff:127.0.0.1"])
    def test_it_may_call_itself_by_any_of_its_names(self, gate, host, peer):
        assert ask(gate(), scope_of(headers={"host": host}, peer=peer)).status == 200

    @pytest.mark.parametrize(
        "host", ["evil.example", "127.0.0.1.evil.example:8000", "localhost.evil", "10.0.0.1", None]
    )
    def test_a_name_that_somebody_had_point_here_is_none_of_them(self, gate, behind, host):
        assert ask(gate(), scope_of(headers={"host": host})).status == 401
        assert not behind.seen

    @pytest.mark.parametrize(
        "name",
        [
            "x-forwarded-for",
            "forwarded",
            "via",
            "x-real-ip",
            "x-forwarded-host",
            "x-forwarded-proto",
            "cf-connecting-ip",
        ],
    )
    def test_what_came_through_somebody_else_is_not_from_here(self, gate, name):
        assert ask(gate(), scope_of(headers={name: "127.0.0.1"})).status == 401

    def test_a_proxy_on_this_machine_that_says_nothing_is_known_by_the_settings(self, gate):
        assert ask(gate(trusted_proxies=("127.0.0.1",)), scope_of()).status == 401

    def test_where_everybody_needs_a_key_it_does_too(self, gate, key):
        always = gate(keys="always")
        assert ask(always, scope_of()).status == 401
        assert ask(always, scope_of(headers={"x-api-key": key().text})).status == 200

    def test_a_socket_without_an_address_is_not_this_machine(self, gate):
        scope = scope_of()
        scope["client"] = None
        assert ask(gate(), scope).status == 401


class TestKeys:
    @pytest.mark.parametrize("how", ["Bearer {}", "bearer  {}"])
    def test_it_may_come_as_a_bearer(self, gate, key, behind, how):
        made = key()
        assert ask(gate(), scope_of(headers={"authorization": how.format(made.text)}, peer=FAR)).status == 200
        assert behind.caller == Caller(made.key.id, frozenset({Scope.READ}), made.key.id)

    def test_it_may_come_as_a_header_or_a_cookie(self, gate, key):
        text = key().text
        assert ask(gate(), scope_of(headers={"x-api-key": text}, peer=FAR)).status == 200
        for others in ("a=b; ", 'a={"b":"c"}; ', "a b=c; ", "s[x]=1; ", "flag; ", "é=1; ", 'a="b; ', "xmdp_key=1; "):
            headers = {"cookie": f"{others}mdp_key={text}"}
            assert ask(gate(), scope_of(headers=headers, peer=FAR)).status == 200, others

    def test_the_header_of_binance_is_one_only_where_its_words_are_spoken(self, gate, key):
        headers = {"x-mbx-apikey": key().text}
        assert ask(gate(), scope_of("/compat/binance/api/v3/klines", headers=headers, peer=FAR)).status == 200
        assert ask(gate(), scope_of(headers=headers, peer=FAR)).status == 401

    def test_it_counts_nowhere_else(self, gate, key):
        text = key().text
        assert ask(gate(), scope_of(headers={}, peer=FAR, query_string=f"key={text}".encode())).status == 401
        assert ask(gate(), scope_of(headers={"authorization": f"Basic {text}"}, peer=FAR)).status == 401

    def test_none_is_told_how_to_get_one(self, gate):
        answer = ask(gate(), scope_of(peer=FAR))
        assert answer.status == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert "mdp keys create" in json.loads(answer.body)["detail"]

    def test_all_that_are_not_valid_get_one_answer_and_the_log_tells_them_apart(self, gate, key, tmp_path, caplog):
        revoked, expired, valid = key(), key(expires_at=utc_now() + timedelta(seconds=-1)), key()
        revoke_key(load_settings(data_dir=tmp_path).keys_file, revoked.key.id, utc_now())
        flipped = valid.text[:-1] + ("A" if valid.text[-1] != "A" else "B")
        wrong = [revoked.text, expired.text, flipped, "mdp_000000000000_" + "a" * 43, "mdp_x_y", "é" * 300]
        door = gate()
        answers = {ask(door, scope_of(headers={"x-api-key": one}, peer=FAR)).body for one in wrong}
        assert len(answers) == 1
        said = [record.message.rpartition(": ")[2] for record in caplog.records]
        assert said == ["revoked", "expired", "wrong secret", "unknown id", "not a key", "not a key"]
        assert not any(one.partition("_")[2].partition("_")[2] in caplog.text for one in wrong[:4])

    def test_a_scope_that_lacks_is_named(self, gate, key, behind):
        ask(gate(), scope_of(headers={"x-api-key": key().text}, peer=FAR))
        with pytest.raises(Problem, match="needs the scope generate; there is: read") as raised:
            require(behind.caller, "generate")
        assert raised.value.status == 403
        require(behind.caller, "read")

    def test_nobody_at_all_lacks_every_scope(self):
        with pytest.raises(Problem, match="there is: none"):
            require(None, "read")

    @pytest.mark.parametrize("path", ["/", "/docs", "/healthz", "/readyz", "/static/x/app.js", "/api/v1/session"])
    def test_what_says_nothing_of_the_data_is_open_and_allows_nothing(self, gate, behind, path):
        assert ask(gate(), scope_of(path, peer=FAR)).status == 200
        assert behind.caller.scopes == frozenset()

    @pytest.mark.parametrize(
        "path", ["/healthz/", "//healthz", "/metrics", "/api/v1/live", "/statics", "/healthz/../api"]
    )
    def test_what_is_only_like_it_is_not(self, gate, path):
        assert ask(gate(), scope_of(path, peer=FAR)).status == 401

    def test_a_damaged_file_of_keys_closes_the_door_for_all_that_need_one(self, gate, key, tmp_path, caplog):
        text = key().text
        load_settings(data_dir=tmp_path).keys_file.write_text("{")
        answer = ask(gate(), scope_of(headers={"x-api-key": text}, peer=FAR))
        assert answer.status == 503
        assert str(tmp_path) not in answer.body.decode()
        assert "damaged" in caplog.text
        assert ask(gate(), scope_of()).status == 200

    def test_under_the_words_of_an_exchange_refusals_are_in_its_words(self, gate):
        answer = ask(gate(), scope_of("/compat/binance/api/v3/klines", peer=FAR))
        assert (answer.status, json.loads(answer.body)["code"]) == (401, -2015)


class TestLimits:
    def test_a_key_may_ask_so_often_a_minute_and_is_told_when_to_come_again(self, gate, key):
        now = [1_000.0]
        door = gate(lambda: now[0])
        scope = scope_of(headers={"x-api-key": key(requests_per_minute=2).text}, peer=FAR)
        first = ask(door, dict(scope))
        assert first.status == 200
        now[0] += 20
        said = []
        for _ in range(2):
            asked = {**scope, "mdp.headers": said}
            refused = ask(door, asked)
        assert refused.status == 429
        assert refused.headers["retry-after"] == "40"
        assert refused.headers["ratelimit-limit"] == "2"
        assert refused.headers["ratelimit-remaining"] == "0"
        assert refused.headers["ratelimit-policy"] == "2;w=60"
        assert (b"ratelimit-remaining", b"0") in said
        assert json.loads(refused.body)["retryable"] is True
        now[0] += 40
        assert ask(door, dict(scope)).status == 200

    def test_this_machine_is_not_limited(self, gate):
        door = gate(requests_per_minute=1)
        assert [ask(door, scope_of()).status for _ in range(3)] == [200] * 3

    def test_wrong_keys_of_an_address_are_slowed_down_and_a_right_one_from_there_is_not(self, gate, key):
        door, right = gate(lambda: 5.0), key().text
        wrong = scope_of(headers={"x-api-key": "mdp_wrong"}, peer=FAR)
        statuses = [ask(door, dict(wrong)).status for _ in range(TRIES_A_MINUTE + 2)]
        assert statuses == [401] * TRIES_A_MINUTE + [429] * 2
        assert ask(door, scope_of(headers={"x-api-key": right}, peer=FAR)).status == 200
        assert ask(door, scope_of(headers={"x-api-key": "mdp_wrong"}, peer="198.51.100.1")).status == 401


class TestProxies:
    def test_whom_a_trusted_proxy_asks_for_is_who_asks(self, gate, key, behind):
        headers = {"x-api-key": key().text, "x-forwarded-for": "1.2.3.4, 198.51.100.9, 10.0.0.2"}
        ask(gate(trusted_proxies=("10.0.0.0/8",)), scope_of(headers=headers, peer="10.0.0.1"))
        assert behind.seen[-1]["mdp.address"] == "198.51.100.9"

    def test_what_anybody_else_says_of_addresses_is_not_believed(self, gate, key, behind):
        headers = {"x-api-key": key().text, "x-forwarded-for": "1.2.3.4"}
        ask(gate(), scope_of(headers=headers, peer=FAR))
        assert behind.seen[-1]["mdp.address"] == FAR

    def test_a_proxy_cannot_make_somebody_this_machine(self, gate):
        headers = {"x-forwarded-for": "127.0.0.1", "host": "localhost"}
        assert ask(gate(trusted_proxies=("10.0.0.1",)), scope_of(headers=headers, peer="10.0.0.1")).status == 401

    def test_one_that_is_no_address_is_refused_by_name(self, gate):
        with pytest.raises(ConfigError, match=r"MDP_API__TRUSTED_PROXIES: .*'proxy\.example'"):
            gate(trusted_proxies=("proxy.example",))


class TestPagesOfOthers:
    @pytest.mark.parametrize("headers", FOREIGN)
    @pytest.mark.parametrize("method", ["POST", "DELETE", "GET"])
    def test_they_cannot_have_a_browser_of_this_machine_ask(self, gate, behind, headers, method):
        assert ask(gate(), scope_of(headers=headers, method=method)).status == 403
        assert not behind.seen

    @pytest.mark.parametrize("headers", FOREIGN)
    def test_nor_open_a_stream(self, gate, behind, headers):
        assert ask(gate(), scope_of("/api/v1/stream", headers=headers, kind="websocket")).status == 403
        assert ask(gate(), scope_of("/api/v1/stream", headers=headers, kind="websocket", extensions={})).status == 403
        assert not behind.seen

    def test_they_may_link_here_and_what_is_asked_that_way_begins_nothing(self, gate, behind):
        headers = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
        assert ask(gate(), scope_of(headers=headers)).status == 200
        assert behind.caller.scopes == frozenset({Scope.READ})
        assert ask(gate(), scope_of(headers=headers, method="POST")).status == 403

    @pytest.mark.parametrize(
        "headers",
        [
            {"origin": "http://127.0.0.1:8000", "sec-fetch-site": "same-origin"},
            {"sec-fetch-site": "none", "sec-fetch-mode": "navigate"},
            {"origin": "http://localhost", "host": "localhost:80"},
        ],
    )
    def test_our_own_may(self, gate, behind, headers):
        assert ask(gate(), scope_of(headers=headers, method="POST")).status == 200
        assert behind.caller.scopes == frozenset(Scope)

    def test_a_stream_of_our_own_page_opens(self, gate):
        headers = {"origin": "http://127.0.0.1:8000"}
        assert ask(gate(), scope_of("/api/v1/stream", headers=headers, kind="websocket")).status == 101

    def test_nobody_is_answered_before_the_settings_name_an_origin(self, gate, behind):
        preflight = {"origin": PAGE, "access-control-request-method": "GET"}
        answer = ask(gate(), scope_of(headers=preflight, method="OPTIONS"))
        assert answer.status == 403
        assert not [name for name in answer.headers if name.startswith("access-control")]

    def test_a_named_origin_is_answered_and_exactly_that_one(self, gate, behind):
        door = gate(cors_origins=(PAGE,))
        preflight = {"origin": PAGE, "access-control-request-method": "GET"}
        answer = ask(door, scope_of(headers=preflight, method="OPTIONS"))
        assert answer.status == 204
        assert answer.headers["access-control-allow-origin"] == PAGE
        assert "access-control-allow-credentials" not in answer.headers
        assert "Authorization" in answer.headers["access-control-allow-headers"]
        scope = scope_of(headers={"origin": PAGE, "sec-fetch-site": "cross-site"}, method="POST")
        assert ask(door, scope).status == 200
        assert (b"access-control-allow-origin", PAGE.encode()) in scope["mdp.headers"]
        for other in ("https://desk.example.evil", "http://desk.example", "https://desk.example:444"):
            assert ask(door, scope_of(headers={"origin": other})).status == 403

    def test_a_cache_is_told_that_the_origin_matters(self, gate):
        scope = scope_of(headers={"accept-language": "de", "cookie": "a=b"})
        ask(gate(cors_origins=(PAGE,)), scope)
        assert (b"vary", b"Origin") in scope["mdp.headers"]


class TestSizes:
    def test_a_body_that_says_it_is_too_long_is_refused_unread(self, gate, behind):
        scope = scope_of(headers={"content-length": "1025"}, method="POST")
        assert ask(gate(max_body_bytes=1_024), scope).status == 413
        assert not behind.seen

    def test_one_that_says_nothing_is_cut_off_where_it_gets_too_long(self, gate):
        scope = scope_of(headers={"transfer-encoding": "chunked"}, method="POST")
        with pytest.raises(HTTPException) as raised:
            ask(gate(max_body_bytes=1_024), scope, [b"x" * 600, b"x" * 425, b""])
        assert raised.value.status_code == 413

    def test_one_of_just_the_length_allowed_passes(self, gate):
        scope = scope_of(headers={"content-length": "1024"}, method="POST")
        assert ask(gate(max_body_bytes=1_024), scope, [b"x" * 600, b"x" * 424]).status == 200

    @pytest.mark.parametrize("length", ["-1", "1e3", "", ["5", "6"]])
    def test_a_length_that_is_none_is_refused(self, gate, length):
        assert ask(gate(), scope_of(headers={"content-length": length}, method="POST")).status == 400

    def test_headers_and_addresses_have_an_end(self, gate):
        assert ask(gate(), scope_of(headers={"x-a": "x" * MAX_HEADER_BYTES})).status == 431
        assert ask(gate(), scope_of("/" + "x" * MAX_URL_BYTES)).status == 414

    @pytest.mark.parametrize(
        "host", ["[evil", "a b", "a/b", "a@b", "x\r\ny", "localhost:99999999", ["localhost", "localhost"]]
    )
    def test_a_host_that_is_none_is_refused(self, gate, host):
        assert ask(gate(), scope_of(headers={"host": host})).status == 400
