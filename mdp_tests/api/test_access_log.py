"""The access log: a line for each request, which no client can forge and no secret is in; headers of every answer."""

from __future__ import annotations

import json
import os
import threading

import pytest

from mdp.api.access_log import AccessLog, Line, Usual, spell
from mdp.api.callers import LOOPBACK
from mdp.api.front import Front
from mdp.api.measures import Measures
from mdp.config.settings import load_settings
from mdp_tests.api.asking import Behind, ask, scope_of

KEY = "mdp_0123456789ab_" + "s" * 43


def line(**more):
    usual = Line(
        at_s=1_735_553_700.25, request_id="r-1", method="GET", path="/api/v1/live", query=b"", status=200, size=12,
        seconds=0.0012345, caller="loopback", peer="127.0.0.1",
    )  # fmt: skip
    return json.loads(spell(usual._replace(**more)))


class TestLines:
    def test_a_line_says_who_asked_what_and_how_it_ended(self):
        assert line(query=b"limit=5") == {
            "timestamp": "2024-12-30T10:15:00.250000Z", "level": "info", "event": "request", "logger": "mdp.api.access",
            "request_id": "r-1", "method": "GET", "path": "/api/v1/live",
            "query": {"limit": "5"}, "status": 200, "bytes": 12, "duration_ms": 1.234, "caller": "loopback",
            "peer": "127.0.0.1",
        }  # fmt: skip

    @pytest.mark.parametrize(
        "evil", ["a\nb", "a\r\nb", '"},{"at":"', "a\x1b[2Jb", "a\u2028b", "a\x00b", "a\u202eb", "\ud800"]
    )
    def test_nothing_that_a_client_wrote_ends_a_line_or_is_unseen(self, evil):
        text = spell(Line(0, "r", evil, f"/{evil}", evil.encode("utf-8", "surrogatepass"), 200, 0, 0, "-", evil))
        assert text.endswith(b"\n")
        assert text.count(b"\n") == 1
        assert text[:-1].decode().isprintable()
        assert set(json.loads(text)) == set(line())

    def test_a_value_that_the_service_does_not_know_is_not_shown(self):
        assert line(query=b"timeframe=1m&password=hunter2&key=abc")["query"] == {
            "timeframe": "1m", "password": "…", "key": "…",
        }  # fmt: skip

    @pytest.mark.parametrize(
        "query", [f"timeframe={KEY}", f"{KEY}=1", "start=" + KEY.replace("_", "%5F"), f"end=x{KEY}y"]
    )
    def test_a_key_is_shown_nowhere(self, query):
        said = json.dumps(line(query=query.encode(), path=f"/api/{KEY}/x", method=KEY, peer=KEY))
        assert "sss" not in said

    def test_what_is_endless_is_cut(self):
        many = "&".join(f"{'n' * 100}{number}={'v' * 500}" for number in range(500))
        said = spell(Line(0, "r", "M" * 999, "/" + "\n" * 9_999, many.encode(), 200, 0, 0, "-", "p" * 999))
        assert len(said) < 4_096

    def test_repeated_parameters_are_all_there(self):
        assert line(query=b"topic=a&topic=b")["query"] == {"topic": "a,b"}


class TestWriting:
    def test_all_lines_are_there_at_the_end_in_order(self, tmp_path):
        target = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        log = AccessLog(target)
        for number in range(500):
            log.add(Line(0, str(number), "GET", "/", b"", 200, 0, 0, "-", "-"))
        log.close()
        os.close(target)
        written = [json.loads(one) for one in (tmp_path / "log").read_text().splitlines()]
        assert [one["request_id"] for one in written] == [str(number) for number in range(500)]

    def test_requests_that_are_alike_share_lines_and_none_is_forgotten(self, tmp_path):
        target = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        log = AccessLog(target)
        for number in range(500):
            log.count(Usual(f"/{number % 2}", 200, "loopback", "127.0.0.1"), 10)
        log.close()
        os.close(target)
        written = [json.loads(one) for one in (tmp_path / "log").read_text().splitlines()]
        assert len(written) <= 4
        assert sum(one["count"] for one in written) == 500
        assert sum(one["bytes"] for one in written) == 5_000

    def test_a_log_that_nobody_reads_any_more_disturbs_nobody(self):
        reading, writing = os.pipe()
        os.close(reading)
        log = AccessLog(writing)
        log.add(Line(0, "r", "GET", "/", b"", 200, 0, 0, "-", "-"))
        log.close()
        log.add(Line(0, "r", "GET", "/", b"", 200, 0, 0, "-", "-"))
        log.close()
        os.close(writing)

    def test_a_reader_who_waits_holds_up_neither_requests_nor_the_end_and_what_is_left_out_is_counted(self):
        reading, writing = os.pipe()
        log = AccessLog(writing, most_waiting=1_000)
        for _ in range(3_000):
            log.add(Line(0, "r" * 60, "GET", "/", b"", 200, 0, 0, "-", "-"))
        log.close(patience_s=0.01)
        text = bytearray()

        def read():
            while part := os.read(reading, 65_536):
                text.extend(part)

        reader = threading.Thread(target=read)
        reader.start()
        log.close()
        os.close(writing)
        reader.join(10)
        os.close(reading)
        lines = [json.loads(one) for one in text.splitlines()]
        left_out = sum(one.get("left_out", 0) for one in lines)
        assert left_out
        assert len([one for one in lines if "status" in one]) + left_out == 3_000


class _Kept:
    """A log that keeps its lines."""

    def __init__(self):
        self.lines = []

    def add(self, one):
        self.lines.append(one)

    def close(self):
        pass


class TestFront:
    @pytest.fixture
    def front(self, tmp_path):
        def make(app=None, **api):
            log, measures = _Kept(), Measures()
            made = Front(app or Behind(), load_settings(data_dir=tmp_path, api=api), lambda: measures, log)
            return made, log, measures

        return make

    def test_what_waits_for_the_log_is_short_however_long_the_path(self, front):
        made, log, _ = front()
        ask(made, scope_of("/" + "x" * 60_000, query_string=b"y" * 60_000))
        assert (len(log.lines[-1].path), len(log.lines[-1].query)) == (2_000, 2_000)

    def test_every_answer_bears_what_keeps_browsers_from_guessing(self, front):
        made, _, _ = front()
        headers = ask(made, scope_of()).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "default-src 'self'" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]

    def test_no_header_of_these_is_there_twice(self, front):
        async def app(scope, receive, send):
            own = [(b"x-content-type-options", b"other"), (b"etag", b"1")]
            await send({"type": "http.response.start", "status": 200, "headers": own})
            await send({"type": "http.response.body", "body": b""})
            sent.append(own)

        sent = []
        made, _, _ = front(app)
        assert ask(made, scope_of()).headers["x-content-type-options"] == "nosniff"
        assert len(sent[0]) == 2

    @pytest.mark.parametrize("given", ["abc-1.X_y", "x" * 64])
    def test_a_sane_name_of_a_request_is_kept(self, front, given):
        made, log, _ = front()
        assert ask(made, scope_of(headers={"x-request-id": given})).headers["x-request-id"] == given
        assert log.lines[0].request_id == given

    @pytest.mark.parametrize("given", [None, "", "a b", "x" * 65, "a\nb", "é", '"'])
    def test_any_other_is_replaced(self, front, given):
        made, _, _ = front()
        first, second = (ask(made, scope_of(headers={"x-request-id": given})).headers["x-request-id"] for _ in "ab")
        assert given not in (first, second)
        assert first != second

    def test_what_is_asked_for_is_counted_by_route_and_never_by_address(self, front):
        made, _, measures = front()
        for number in range(50):
            ask(made, scope_of(f"/made-up/{number}", method=f"M{number}"))
        assert list(measures.requests) == [("OTHER", "unmatched", 200)]

    def test_an_error_that_nobody_thought_of_is_answered_logged_and_passed_on(self, front):
        async def app(scope, receive, send):
            raise RuntimeError(f"/home/somebody {KEY}")

        made, log, _ = front(app)
        sent = []

        async def send(message):
            sent.append(message)

        with pytest.raises(RuntimeError):
            made(scope_of(), None, send).send(None)
        assert sent[0]["status"] == 500
        assert (b"x-content-type-options", b"nosniff") in sent[0]["headers"]
        assert b"somebody" not in sent[1]["body"]
        assert log.lines[0].status == 500

    def test_a_log_of_problems_has_no_others(self, front):
        async def app(scope, receive, send):
            status = int(scope["path"][1:])
            await send({"type": "http.response.start", "status": status, "headers": []})
            await send({"type": "http.response.body", "body": b"four"})

        for logged, expected in (("problems", [400, 503]), ("off", []), ("all", [200, 304, 400, 503])):
            made, log, _ = front(app, access_log=logged)
            for status in (200, 304, 400, 503):
                ask(made, scope_of(f"/{status}"))
            assert [one.status for one in log.lines] == expected

    def test_a_line_names_the_caller_and_counts_bytes(self, front):
        async def app(scope, receive, send):
            scope["mdp.caller"] = LOOPBACK
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"four", "more_body": True})
            await send({"type": "http.response.body", "body": b"more"})

        made, log, _ = front(app)
        ask(made, scope_of())
        assert (log.lines[0].caller, log.lines[0].size, log.lines[0].peer) == ("loopback", 8, "127.0.0.1")

    def test_a_stream_is_one_line_when_it_is_over(self, front):
        made, log, measures = front()
        ask(made, scope_of("/api/v1/stream", kind="websocket"))
        assert [(one.method, one.status) for one in log.lines] == [("WEBSOCKET", 101)]
        assert not measures.requests
