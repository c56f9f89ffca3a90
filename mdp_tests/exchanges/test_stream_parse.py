"""Messages of the exchanges' streams: what they mean, and what is said of those that cannot be read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mdp.domain.live import CandleState
from mdp.errors import ExchangeUnavailable, RateLimited, RequestRejected
from mdp.exchanges.binance.stream_parse import parse_message as parse_binance
from mdp.exchanges.bybit.stream_parse import parse_message as parse_bybit
from mdp.exchanges.deribit.stream_parse import parse_message as parse_deribit
from mdp.exchanges.deribit.ticks import TickMinutes
from mdp.exchanges.okx.stream_parse import parse_message as parse_okx
from mdp.exchanges.stream_messages import Accepted, Asking, Ending, Minutes, Other, Refused, Tick, Unreadable

NOW_US = 1_700_000_030_000_000
OPEN_MS = 1_700_000_040_000 - 60_000


def binance(**changes: Any) -> str:
    kline = {
        "t": OPEN_MS,
        "i": "1m",
        "o": "1",
        "h": "4",
        "l": "0.5",
        "c": "2",
        "v": "10",
        "n": 7,
        "x": False,
        "q": "15",
    }
    return json.dumps({"e": "kline", "E": OPEN_MS + 5, "s": "BTCUSDT", "k": kline | changes})


def bybit(**changes: Any) -> str:
    row = {"start": OPEN_MS, "open": "1", "high": "4", "low": "0.5", "close": "2", "volume": "10", "turnover": "15"}
    return json.dumps({"topic": "kline.1.BTCUSDT", "ts": OPEN_MS + 5, "data": [row | {"confirm": False} | changes]})


def okx(**changes: Any) -> str:
    row = {"time": str(OPEN_MS), "o": "1", "h": "4", "l": "0.5", "c": "2", "v": "10", "q": "15", "Q": "15", "x": "0"}
    return json.dumps({"arg": {"channel": "candle1m", "instId": "BTC-USDT"}, "data": [[*(row | changes).values()]]})


SENT = [
    pytest.param(parse_binance, binance, {"x": True}, "BTCUSDT", 7, id="binance"),
    pytest.param(parse_bybit, bybit, {"confirm": True}, "BTCUSDT", None, id="bybit"),
    pytest.param(parse_okx, okx, {"x": "1"}, "BTC-USDT", None, id="okx"),
]
SPOILT = {
    parse_binance: (binance, "o", {"t": OPEN_MS + 1}),
    parse_bybit: (bybit, "open", {"start": OPEN_MS + 1}),
    parse_okx: (okx, "o", {"time": str(OPEN_MS + 1)}),
}


@pytest.mark.parametrize(("parse", "message", "closing", "market_id", "trades"), SENT)
def test_a_minute_has_every_number_of_its_message_and_is_closed_only_where_it_says_so(
    parse, message, closing, market_id, trades
):
    said = parse(message(), NOW_US)
    assert isinstance(said, Minutes)
    assert said.market_id == market_id
    candle = said.candles[0]
    assert candle[:9] == (OPEN_MS * 1_000, 1.0, 4.0, 0.5, 2.0, 10.0, 15.0, trades, 1)
    assert (candle.state, candle.source, candle.received_us) == (CandleState.FORMING, "stream", NOW_US)
    assert said.event_us == (NOW_US if parse is parse_okx else (OPEN_MS + 5) * 1_000)
    assert parse(message(**closing), NOW_US).candles[0].state is CandleState.CLOSED


@pytest.mark.parametrize("parse", SPOILT)
@pytest.mark.parametrize("wrong", ["nan", "inf", "-inf", None, "", "x", [1]])
def test_a_number_that_is_none_is_refused_for_its_market_alone_and_a_retry_does_not_help(parse, wrong):
    message, field, _ = SPOILT[parse]
    said = parse(message(**{field: wrong}), NOW_US)
    assert isinstance(said, Unreadable)
    assert said.market_id in ("BTCUSDT", "BTC-USDT")
    assert not said.error.retryable


@pytest.mark.parametrize("parse", SPOILT)
def test_a_minute_off_the_grid_is_refused_and_named(parse):
    message, _, off_grid = SPOILT[parse]
    said = parse(message(**off_grid), NOW_US)
    assert isinstance(said, Unreadable)
    assert str(OPEN_MS + 1) in str(said.error)


@pytest.mark.parametrize("parse", [parse_binance, parse_bybit, parse_okx, parse_deribit])
@pytest.mark.parametrize("text", ["", "{", '{"e":"kline","E":17000', "<html>", "[1]", "null", "\x00", "7"])
def test_what_is_no_message_spoils_the_whole_connection(parse, text):
    said = parse(text, NOW_US)
    assert isinstance(said, Unreadable)
    assert said.market_id is None


@pytest.mark.parametrize("parse", SPOILT)
def test_every_cut_of_a_message_is_refused_with_the_hope_that_the_next_is_whole(parse):
    text = SPOILT[parse][0]()
    for length in range(len(text)):
        said = parse(text[:length], NOW_US)
        assert isinstance(said, Unreadable), text[:length]
        assert said.error.retryable, text[:length]


def test_other_channels_and_lengths_are_let_pass():
    assert parse_binance(binance(i="5m"), NOW_US) == Other()
    assert parse_bybit(bybit().replace("kline.1.", "kline.5."), NOW_US) == Other()
    assert parse_okx('{"arg":{"channel":"tickers","instId":"A-B"},"data":[{"last":"1"}]}', NOW_US) == Other()
    assert parse_okx("pong", NOW_US) == Other()
    assert parse_okx('{"event":"notice","code":"64008","msg":"The connection will soon be closed"}', NOW_US) == Other()
    assert parse_bybit('{"success":true,"ret_msg":"pong","conn_id":"c","req_id":"3","op":"ping"}', NOW_US) == Other()
    assert parse_deribit('{"jsonrpc":"2.0","method":"heartbeat","params":{"type":"heartbeat"}}', NOW_US) == Other()
    assert parse_deribit('{"jsonrpc":"2.0","id":1,"result":"ok"}', NOW_US) == Other()


def test_acknowledgements_name_their_request_or_their_market():
    assert parse_binance('{"result":null,"id":3}', NOW_US) == Accepted(request="3")
    assert parse_bybit('{"success":true,"ret_msg":"","op":"subscribe","req_id":3}', NOW_US) == Accepted(request="3")
    okx_said = '{"event":"subscribe","arg":{"channel":"candle1m","instId":"BTC-USDT"},"connId":"a"}'
    assert parse_okx(okx_said, NOW_US) == Accepted(("BTC-USDT",))
    deribit_said = '{"jsonrpc":"2.0","id":4,"result":["deribit_volatility_index.btc_usd"]}'
    assert parse_deribit(deribit_said, NOW_US) == Accepted(("BTC",), "4")


REFUSALS = [
    (parse_binance, '{"error":{"code":2,"msg":"Invalid request"},"id":3}', RequestRejected, None, "3"),
    (parse_binance, '{"code":3,"msg":"Too many subscriptions","id":3}', RateLimited, None, "3"),
    (
        parse_bybit,
        '{"success":false,"ret_msg":"error:handler not found,topic:kline.1.FOOUSDT","req_id":"9","op":"subscribe"}',
        RequestRejected, "FOOUSDT", "9",
    ),
    (parse_bybit, '{"success":false,"ret_msg":"args size >10","op":"subscribe"}', RequestRejected, None, None),
    (parse_bybit, '{"retCode":10006,"retMsg":"slow down","reqId":"9"}', RateLimited, None, None),
    (
        parse_okx,
        '{"event":"error","code":"60018","msg":"channel:candle1m,instId:FOO-USDT doesn\'t exist","connId":"a"}',
        RequestRejected, "FOO-USDT", None,
    ),
    (parse_okx, '{"event":"error","code":"60014","msg":"Requests too frequent"}', RateLimited, None, None),
    (parse_okx, '{"event":"error","code":"63999","msg":"internal error"}', ExchangeUnavailable, None, None),
    (parse_deribit, '{"id":5,"error":{"code":10028,"message":"too_many_requests"}}', RateLimited, None, "5"),
    (parse_deribit, '{"id":5,"error":{"code":11051,"message":"maintenance"}}', ExchangeUnavailable, None, "5"),
    (parse_deribit, '{"id":5,"error":{"code":-32602,"message":"Invalid params"}}', RequestRejected, None, "5"),
]  # fmt: skip


@pytest.mark.parametrize(("parse", "text", "error", "market_id", "request_id"), REFUSALS)
def test_a_refusal_says_whom_it_concerns_and_whether_a_retry_helps(parse, text, error, market_id, request_id):
    said = parse(text, NOW_US)
    assert isinstance(said, Refused)
    assert type(said.error) is error
    assert (said.market_id, said.request) == (market_id, request_id)


def test_binance_announces_its_end_and_deribit_asks_whether_somebody_is_there():
    assert isinstance(parse_binance('{"e":"serverShutdown","E":1700000000000}', NOW_US), Ending)
    asked = parse_deribit('{"jsonrpc":"2.0","method":"heartbeat","params":{"type":"test_request"}}', NOW_US)
    assert isinstance(asked, Asking)
    assert asked.answer["method"] == "public/test"


def tick(second: int, value: float) -> Tick:
    return Tick("BTC", value, OPEN_MS + second * 1_000, NOW_US)


def test_ticks_make_a_minute_that_is_never_closed_whatever_their_order():
    minutes = TickMinutes()
    for second, value in ((10, 50.0), (20, 53.0), (20, 53.0), (5, 49.0), (15, 48.0)):
        candle = minutes.take(tick(second, value))
    assert candle is not None
    assert candle[:10] == (OPEN_MS * 1_000, 49.0, 53.0, 48.0, 53.0, None, None, None, 1, CandleState.FORMING)


def test_a_late_tick_counts_for_the_minute_before_but_not_for_older_ones():
    minutes = TickMinutes()
    assert minutes.take(tick(30, 1.0)).open_us == OPEN_MS * 1_000
    assert minutes.take(tick(61, 2.0)).open_us == OPEN_MS * 1_000 + 60_000_000
    assert minutes.take(tick(59, 3.0))[:5] == (OPEN_MS * 1_000, 1.0, 3.0, 1.0, 3.0)
    assert minutes.take(tick(121, 4.0)) is not None
    assert minutes.take(tick(58, 9.0)) is None
    assert minutes.take(tick(62, 1.5))[:5] == (OPEN_MS * 1_000 + 60_000_000, 2.0, 2.0, 1.5, 1.5)


def test_a_tick_that_is_no_number_is_refused_for_its_index():
    text = json.dumps({
        "jsonrpc": "2.0", "method": "subscription",
        "params": {"channel": "deribit_volatility_index.eth_usd", "data": {"timestamp": OPEN_MS, "volatility": None}},
    })  # fmt: skip
    said = parse_deribit(text, NOW_US)
    assert isinstance(said, Unreadable)
    assert said.market_id == "ETH"
