"""One table for each exchange: what an answer's status, headers and body mean, and how long to wait."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from ccxt.base import errors as ccxt

from mdp.domain.market import Exchange
from mdp.errors import ExchangeUnavailable, PayloadError, RateLimited, RequestRejected
from mdp.exchanges.binance import client as binance
from mdp.exchanges.bybit import client as bybit
from mdp.exchanges.ccxt_transport import judge_exception
from mdp.exchanges.deribit import client as deribit
from mdp.exchanges.okx import client as okx
from mdp.exchanges.verdicts import LONGEST_BAN_S, Answer, wait_s

NOW = datetime(2025, 1, 15, 12, 0, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1_000)
FINE = None
HTML = "<html><head><title>Just a moment...</title></head></html>"
CLOUDFRONT = (
    "<HTML><H1>403 ERROR</H1>The Amazon CloudFront distribution is configured to block access from your country.</HTML>"
)


def _answer(status, body="", headers=None):
    return Answer(status, headers or {}, body, NOW)


def _coded(code, text="", extra=""):
    return f'{{"code":{code},"msg":"{text}"{extra}}}'


def _bybit(code, text="", time=None):
    moment = "" if time is None else f',"time":{time}'
    return f'{{"retCode":{code},"retMsg":"{text}","result":{{}},"retExtInfo":{{}}{moment}}}'


def _deribit(code, text="", data=""):
    return f'{{"jsonrpc":"2.0","error":{{"code":{code},"message":"{text}"{data}}},"usIn":1,"testnet":false}}'


RESET = "x-bapi-limit-reset-timestamp"
AFTER = "retry-after"

# status, headers, body, error, seconds to wait (of a RateLimited)
BINANCE = [
    (200, {}, "[]", FINE, None),
    (200, {}, "[[1499040000000]]", FINE, None),  # the parser will say what is wrong with it
    (200, {}, HTML, FINE, None),
    (200, {}, "", FINE, None),
    (429, {AFTER: "7"}, _coded(-1003, "Too much request weight used"), RateLimited, 7),
    (429, {}, _coded(-1003, "Too much request weight used"), RateLimited, 60),
    (429, {}, "", RateLimited, 60),
    (429, {AFTER: "soon"}, "", RateLimited, 60),
    (418, {AFTER: "240"}, _coded(-1003, "Way too much request weight used; IP banned until 1."), RateLimited, 240),
    (418, {}, _coded(-1003, f"IP banned until {NOW_MS + 900_000}. Please"), RateLimited, 900),
    (418, {}, _coded(-1003, f"IP banned until {NOW_MS + 1_000}. Please"), RateLimited, 120),
    (418, {}, "", RateLimited, 120),
    (400, {}, _coded(-1003, f"IP banned until {NOW_MS + 900_000}."), RateLimited, 900),
    (403, {}, HTML, RateLimited, 300),
    (403, {AFTER: "30"}, HTML, RateLimited, 30),
    (451, {}, _coded(0, "Service unavailable from a restricted location"), RequestRejected, None),
    (451, {}, HTML, RequestRejected, None),
    (500, {}, "", ExchangeUnavailable, None),
    (503, {}, HTML, ExchangeUnavailable, None),
    (504, {}, _coded(-1007, "Timeout waiting for response from backend server."), ExchangeUnavailable, None),
    (400, {}, _coded(-1000, "An unknown error occurred"), ExchangeUnavailable, None),
    (400, {}, _coded(-1001, "Internal error"), ExchangeUnavailable, None),
    (503, {}, _coded(-1008, "Server is currently overloaded"), ExchangeUnavailable, None),
    (400, {}, _coded(-1008, "Server is currently overloaded"), ExchangeUnavailable, None),
    (503, {AFTER: "7"}, _coded(-1008, "Server is currently overloaded"), RateLimited, 7),
    (418, {}, _coded(-1003, f"IP banned until {NOW_MS * 5}. Please"), RateLimited, LONGEST_BAN_S),
    (400, {}, _coded(-1016, "This service is no longer available."), ExchangeUnavailable, None),
    (400, {}, _coded(-1121, "Invalid symbol."), RequestRejected, None),
    (400, {}, _coded(-1120, "Invalid interval."), RequestRejected, None),
    (404, {}, "", RequestRejected, None),
    (410, {}, HTML, RequestRejected, None),
    (200, {}, _coded(-9999, "never heard of"), PayloadError, None),
    (302, {}, "", ExchangeUnavailable, None),
]
BYBIT = [
    (200, {}, _bybit(0, "OK"), FINE, None),
    (200, {}, HTML, FINE, None),
    (200, {}, "", FINE, None),
    (403, {}, "403, access too frequent", RateLimited, 600),
    (403, {AFTER: "30"}, "403, Access too frequent", RateLimited, 600),
    (403, {AFTER: "900"}, "403, access too frequent", RateLimited, 900),
    (403, {}, CLOUDFRONT, RequestRejected, None),
    (403, {}, "", RequestRejected, None),
    (200, {RESET: str(NOW_MS + 1_500)}, _bybit(10006, "Too many visits!"), RateLimited, 1.5),
    (200, {RESET: str(NOW_MS + 1_500)}, _bybit(10006, "Too many visits!", NOW_MS + 500), RateLimited, 1),
    (200, {RESET: str(NOW_MS - 1_500)}, _bybit(10006, "Too many visits!"), RateLimited, 0),
    (200, {RESET: "never"}, _bybit(10006, "Too many visits!"), RateLimited, 5),
    (200, {}, _bybit(10006, "Too many visits!"), RateLimited, 5),
    (200, {}, _bybit(10018, "Exceeded the IP Rate Limit."), RateLimited, 600),
    (200, {RESET: str(NOW_MS // 1_000 + 4)}, _bybit(10006, "Too many visits!"), RateLimited, 4),
    (200, {RESET: str(NOW_MS * 1_000)}, _bybit(10006, "Too many visits!"), RateLimited, LONGEST_BAN_S),
    (200, {RESET: "9" * 5_000}, _bybit(10006, "Too many visits!"), RateLimited, LONGEST_BAN_S),
    (429, {}, _bybit(10429, "System level frequency protection"), RateLimited, 10),
    (429, {AFTER: "7"}, _bybit(10429, "System level frequency protection"), RateLimited, 7),
    (200, {}, _bybit(10429, "System level frequency protection"), ExchangeUnavailable, None),
    (200, {AFTER: "7"}, _bybit(10016, "Internal server error"), RateLimited, 7),
    (200, {AFTER: "soon"}, _bybit(10016, "Internal server error"), ExchangeUnavailable, None),
    (429, {}, _bybit(777, "unmapped"), RateLimited, 10),
    (429, {}, "", RateLimited, 10),
    (429, {AFTER: "3"}, "", RateLimited, 3),
    (200, {}, _bybit(10000, "Server Timeout"), ExchangeUnavailable, None),
    (200, {}, _bybit(10016, "Internal server error"), ExchangeUnavailable, None),
    (200, {}, _bybit(10001, "params error: symbol invalid"), RequestRejected, None),
    (200, {}, _bybit(10009, "IP has been banned"), RequestRejected, None),
    (200, {}, _bybit(10024, "Compliance rules triggered"), RequestRejected, None),
    (200, {}, _bybit(10029, "The requested symbol is invalid"), RequestRejected, None),
    (200, {}, _bybit(777, "never heard of"), RequestRejected, None),
    (503, {}, HTML, ExchangeUnavailable, None),
    (451, {}, "", RequestRejected, None),
    (404, {}, "", RequestRejected, None),
]
OKX = [
    (200, {}, _coded('"0"', "", ',"data":[]'), FINE, None),
    (200, {}, HTML, FINE, None),
    (200, {}, "", FINE, None),
    (200, {}, _coded('"50011"', "Too Many Requests"), RateLimited, 2),
    (429, {}, _coded('"50011"', "Too Many Requests"), RateLimited, 2),
    (429, {AFTER: "1"}, _coded('"50011"', "Too Many Requests"), RateLimited, 2),
    (429, {AFTER: "9"}, _coded('"50011"', "Too Many Requests"), RateLimited, 9),
    (429, {}, HTML, RateLimited, 10),
    (503, {}, _coded('"50001"', "Service temporarily unavailable"), ExchangeUnavailable, None),
    (400, {}, _coded('"50004"', "API endpoint request timeout"), ExchangeUnavailable, None),
    (410, {}, _coded('"50005"', "API is offline or unavailable"), ExchangeUnavailable, None),
    (429, {}, _coded('"50013"', "Systems are busy"), RateLimited, 10),
    (429, {AFTER: "7"}, _coded('"50013"', "Systems are busy"), RateLimited, 7),
    (503, {AFTER: "7"}, _coded('"50001"', "Service temporarily unavailable"), RateLimited, 7),
    (500, {}, _coded('"50026"', "System error"), ExchangeUnavailable, None),
    (200, {}, _coded('"50040"', "Too frequent operations"), ExchangeUnavailable, None),
    (403, {}, HTML, RateLimited, 300),
    (503, {}, HTML, ExchangeUnavailable, None),
    (200, {}, _coded('"50051"', "Due to local laws and regulations"), RequestRejected, None),
    (403, {}, _coded('"50121"', "You cannot access our services through this IP"), RequestRejected, None),
    (400, {}, _coded('"51000"', "Parameter bar error"), RequestRejected, None),
    (200, {}, _coded('"51001"', "Instrument ID does not exist"), RequestRejected, None),
    (200, {}, _coded('"59999"', "never heard of"), RequestRejected, None),
    (451, {}, "", RequestRejected, None),
]
DERIBIT = [
    (200, {}, '{"jsonrpc":"2.0","result":{"data":[],"continuation":null}}', FINE, None),
    (200, {}, HTML, FINE, None),
    (429, {}, _deribit(10028, "too_many_requests"), RateLimited, 5),
    (200, {}, _deribit(10028, "too_many_requests"), RateLimited, 5),
    (429, {AFTER: "2"}, "Too Many Requests", RateLimited, 2),
    (429, {}, "Too Many Requests", RateLimited, 5),
    (400, {}, _deribit(10047, "matching_engine_queue_full"), RateLimited, 5),
    (400, {}, _deribit(10040, "retry"), ExchangeUnavailable, None),
    (400, {AFTER: "7"}, _deribit(10040, "retry"), RateLimited, 7),
    (400, {}, _deribit(10041, "settlement_in_progress"), ExchangeUnavailable, None),
    (400, {}, _deribit(11051, "system_maintenance"), ExchangeUnavailable, None),
    (400, {}, _deribit(11094, "internal_server_error"), ExchangeUnavailable, None),
    (400, {}, _deribit(-32602, "Invalid params", ',"data":{"param":"currency"}'), RequestRejected, None),
    (200, {}, _deribit(11050, "bad_request"), RequestRejected, None),
    (400, {}, _deribit(12005, "country_is_banned"), RequestRejected, None),
    (400, {}, "no json", RequestRejected, None),
    (403, {}, HTML, RateLimited, 300),
    (451, {}, "", RequestRejected, None),
    (502, {}, HTML, ExchangeUnavailable, None),
]
TABLES = [
    *((Exchange.BINANCE, binance.judge, *line) for line in BINANCE),
    *((Exchange.BYBIT, bybit.judge, *line) for line in BYBIT),
    *((Exchange.OKX, okx.judge, *line) for line in OKX),
    *((Exchange.DERIBIT, deribit.judge, *line) for line in DERIBIT),
]


@pytest.mark.parametrize(
    ("exchange", "judge", "status", "headers", "body", "expected", "seconds"),
    TABLES,
    ids=[f"{line[0].value}-{line[2]}-{line[4][:60] or 'empty'}-{line[3] or ''}" for line in TABLES],
)
def test_an_answer_means_what_the_table_says(exchange, judge, status, headers, body, expected, seconds):
    error = judge(_answer(status, body, headers))
    assert type(error) is (type(None) if expected is FINE else expected)
    if error is None:
        return
    assert error.exchange == exchange.value
    assert error.retryable is (expected is not RequestRejected)
    assert f"status {status}" in str(error)
    if expected is RateLimited:
        assert error.retry_after_s == pytest.approx(seconds)


REGION = [
    (binance.judge, 451, _coded(0, "restricted location")),
    (bybit.judge, 403, CLOUDFRONT),
    (bybit.judge, 200, _bybit(10009, "IP has been banned")),
    (okx.judge, 200, _coded('"50051"', "local laws")),
    (okx.judge, 403, _coded('"50121"', "through this IP")),
    (deribit.judge, 400, _deribit(12005, "country_is_banned")),
    *((judge, 451, "") for judge in (binance.judge, bybit.judge, okx.judge, deribit.judge)),
]


@pytest.mark.parametrize(("judge", "status", "body"), REGION)
def test_a_blocked_region_says_what_a_person_can_do(judge, status, body):
    error = judge(_answer(status, body))
    assert type(error) is RequestRejected
    assert "region" in str(error)
    assert f"MDP_EXCHANGES__{error.exchange.upper()}__REST_URL" in str(error)


@pytest.mark.parametrize("judge", [binance.judge, bybit.judge, okx.judge, deribit.judge])
def test_a_message_holds_no_more_than_the_beginning_of_a_body(judge):
    assert len(str(judge(_answer(500, "x" * 10_000)))) < 400


@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        (ccxt.RateLimitExceeded("x"), RateLimited),
        (ccxt.DDoSProtection("x"), RateLimited),
        (ccxt.OnMaintenance("x"), ExchangeUnavailable),
        (ccxt.OperationFailed("x"), ExchangeUnavailable),
        (ccxt.BadSymbol("x"), RequestRejected),
        (ccxt.ExchangeError("x"), RequestRejected),
        (None, RequestRejected),
    ],
)
@pytest.mark.parametrize("judge", [(bybit.judge, _bybit(777)), (okx.judge, _coded('"59999"'))])
def test_a_code_that_the_table_does_not_know_means_what_ccxt_makes_of_it(judge, cause, expected):
    table, body = judge
    assert type(table(_answer(200, body), cause)) is expected
    assert type(judge_exception(Exchange.OKX, cause, "said")) is expected


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("0", 0),
        ("2.5", 2.5),
        ("Wed, 15 Jan 2025 12:01:30 GMT", 90),
        ("Wed, 15 Jan 2025 11:00:00 GMT", 0),
        ("Wed, 15 Jan 2025 12:01:30 -0000", 90),
        ("", 33),
        ("-5", 0),
        (str(NOW_MS // 1_000 + 90), 90),
        (str(NOW_MS + 90_000), 90),
        (str(NOW_MS // 1_000 - 90), 0),
        (str(NOW_MS * 1_000), LONGEST_BAN_S),
        ("259200", 259_200),
        ("1000000", LONGEST_BAN_S),
        ("Wed, 15 Jan 2070 12:01:30 GMT", LONGEST_BAN_S),
        ("inf", 33),
        ("nan", 33),
        ("tomorrow", 33),
    ],
)
def test_retry_after_is_read_as_a_wait_or_a_time_up_to_the_longest_ban_and_ignored_in_any_other_form(said, seconds):
    assert wait_s(_answer(429, headers={AFTER: said}), 33) == pytest.approx(seconds)
