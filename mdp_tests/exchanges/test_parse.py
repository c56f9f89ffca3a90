"""Bodies into tables: every number exactly, and every body that is not such a table an error that says where."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdp.domain.timeframe import EPOCH
from mdp.errors import PayloadError
from mdp.exchanges.binance import parse as binance
from mdp.exchanges.bybit import parse as bybit
from mdp.exchanges.deribit import parse as deribit
from mdp.exchanges.frames import ANSWER_SCHEMA, Asked, join_pages
from mdp.exchanges.okx import parse as okx
from mdp_tests.exchanges.wires import WIRES, BinanceWire, BybitWire, DeribitWire, OkxWire, row_at

NOW = datetime(2025, 1, 15, 12, 0, tzinfo=UTC)
PARSE = {
    BinanceWire: binance.parse_klines,
    BybitWire: bybit.parse_kline,
    OkxWire: okx.parse_candles,
    DeribitWire: lambda body, asked: deribit.parse_volatility_index(body, asked).rows,
}
TIME = {
    BinanceWire: binance.parse_time,
    BybitWire: bybit.parse_time,
    OkxWire: okx.parse_time,
    DeribitWire: deribit.parse_time,
}

every_wire = pytest.mark.parametrize("wire_class", WIRES, ids=lambda wire: wire.exchange.value)


def _asked(wire, settled_before=NOW):
    return Asked(wire.market, wire.timeframe, NOW, settled_before)


def _parse(wire, body):
    return PARSE[type(wire)](body, _asked(wire))


decimals = st.decimals(0, 10**9, allow_nan=False, allow_infinity=False, places=8).map(str) | st.floats(
    0, 1e12, allow_nan=False
).map(repr)


@given(st.lists(st.lists(decimals, min_size=6, max_size=6), max_size=5))
def test_a_number_written_as_text_becomes_the_nearest_double(numbers):
    wires = (BinanceWire(), BybitWire(), OkxWire())
    columns = ("open", "high", "low", "close", "volume", "quote_volume")
    for wire in wires:
        rows = [
            row_at(60_000 * index)._replace(**dict(zip(columns, row, strict=True))) for index, row in enumerate(numbers)
        ]
        table = _parse(wire, wire.wrap([wire.spell(row) for row in rows]))
        assert table.select(columns).rows() == [tuple(map(float, row)) for row in numbers]


@given(st.lists(st.lists(st.floats(0, 1e6, allow_nan=False), min_size=4, max_size=4), max_size=5))
def test_a_number_written_as_a_number_stays_the_same_double(numbers):
    wire = DeribitWire()
    rows = [[60_000 * index, *row] for index, row in enumerate(numbers)]
    table = _parse(wire, wire.wrap(rows))
    assert table.select("open", "high", "low", "close").rows() == [tuple(row) for row in numbers]


@every_wire
@given(open_ms=st.integers(0, 10**14 - 60_001))
def test_a_time_is_kept_to_the_millisecond(wire_class, open_ms):
    wire = wire_class()
    wire.book.now_ms = 0
    table = _parse(wire, wire.wrap([wire.spell(row_at(open_ms)._replace(open="1", high="1", low="1", close="1"))]))
    # A datetime holds no year after 9999; the table holds them all.
    assert table["open_time"].dt.epoch("ms").to_list() == [open_ms]


@every_wire
def test_the_table_has_our_columns_whether_there_are_rows_or_not(wire_class):
    wire = wire_class()
    for rows in ([], [wire.spell(row_at(0))]):
        table = _parse(wire, wire.wrap(rows))
        assert table.schema == ANSWER_SCHEMA
        assert table.height == len(rows)


@every_wire
def test_bytes_are_read_like_text(wire_class):
    wire = wire_class()
    body = wire.wrap([wire.spell(row_at(ms)) for ms in (0, 60_000)])
    assert _parse(wire, body.encode()).equals(_parse(wire, body))


@every_wire
def test_rows_stay_in_the_order_received(wire_class):
    wire = wire_class()
    sent = [180_000, 0, 60_000, 0, 120_000]
    table = _parse(wire, wire.wrap([wire.spell(row_at(ms)) for ms in sent]))
    assert table["open_time"].dt.epoch("ms").to_list() == sent


@pytest.mark.parametrize("wire_class", [BinanceWire, BybitWire, DeribitWire])
def test_a_candle_is_closed_when_it_ends_at_or_before_the_settled_time(wire_class):
    wire = wire_class()
    end = EPOCH + wire.timeframe.duration
    body = wire.wrap([wire.spell(row_at(0))])
    for settled_before, is_closed in ((end, True), (end - timedelta(microseconds=1), False)):
        table = PARSE[wire_class](body, _asked(wire, settled_before))
        assert table["closed"].to_list() == [is_closed]


def test_okx_says_itself_whether_a_candle_is_closed():
    wire = OkxWire()
    rows = [[*wire.spell(row_at(ms))[:-1], flag] for ms, flag in ((0, "1"), (60_000, "0"))]
    table = PARSE[OkxWire](wire.wrap(rows), _asked(wire, EPOCH))
    assert table["closed"].to_list() == [True, False]


@pytest.mark.parametrize("flag", ["2", "", "true", None, True, 1])
def test_okx_with_another_flag_is_an_error(flag):
    wire = OkxWire()
    with pytest.raises(PayloadError, match="okx: row 0, field confirm: "):
        _parse(wire, wire.wrap([[*wire.spell(row_at(0))[:-1], flag]]))


@pytest.mark.parametrize(("old", "new"), [("BTCUSDT", "ETHUSDT"), ('"spot"', '"linear"')])
def test_bybits_candles_of_another_market_are_refused(old, new):
    wire = BybitWire()
    body = wire.wrap([wire.spell(row_at(0))])
    with pytest.raises(PayloadError, match=r"bybit: field result\.(symbol|category): expected ") as caught:
        _parse(wire, body.replace(old, new))
    assert not caught.value.is_transient


def test_bybits_market_may_be_left_unsaid():
    body = json.dumps({"retCode": 0, "result": {"list": [BybitWire().spell(row_at(0))]}})
    assert _parse(BybitWire(), body).height == 1


@pytest.mark.parametrize("body", ['{"whatever": 1}', " {}", '{"serverTime":1}'])
def test_binance_with_an_object_in_place_of_the_candles_may_be_asked_again(body):
    with pytest.raises(PayloadError, match="binance: expected an array of candles, got an object") as caught:
        binance.parse_klines(body, _asked(BinanceWire()))
    assert caught.value.is_transient


NOT_TABLES = ["", " ", "<html>", "[", "[[", '{"data":[', "nul", "\x00", "[[1,2", "{'a':1}", "NaN"]


@every_wire
@pytest.mark.parametrize("body", NOT_TABLES)
def test_a_body_that_is_not_whole_json_may_be_asked_for_again(wire_class, body):
    with pytest.raises(PayloadError, match="expected JSON") as caught:
        _parse(wire_class(), body)
    assert caught.value.is_transient


@every_wire
def test_a_body_cut_anywhere_is_never_taken_for_a_shorter_one(wire_class):
    wire = wire_class()
    body = wire.wrap([wire.spell(row_at(ms)) for ms in (0, 60_000)])
    for length in range(len(body)):
        with pytest.raises(PayloadError) as caught:
            _parse(wire, body[:length])
        assert caught.value.is_transient, body[:length]


@every_wire
@pytest.mark.parametrize(
    "value", ["nan", "NaN", "inf", "-Infinity", "1e999", "1,5", "0x1F", " 1", "1 ", "1_000", "", "--"]
)
def test_text_that_is_no_finite_number_is_an_error_that_names_its_place(wire_class, value):
    wire = wire_class()
    rows = [wire.spell(row_at(ms)) for ms in (0, 60_000, 120_000)]
    rows[1][3] = value
    with pytest.raises(PayloadError, match=f"{wire.exchange.value}: row 1, field low: ") as caught:
        _parse(wire, wire.wrap(rows))
    assert not caught.value.is_transient


@every_wire
def test_a_number_too_large_for_a_double_is_an_error(wire_class):
    wire = wire_class()
    row = wire.spell(row_at(0))
    body = wire.wrap([row]).replace(json.dumps(row[2]), "1e999", 1)
    with pytest.raises(PayloadError, match="row 0, field high: ") as caught:
        _parse(wire, body)
    assert not caught.value.is_transient


@pytest.mark.parametrize("trades", [None, "many", -1, 1.5, 2**63, True])
def test_a_number_of_trades_is_whole_and_not_negative(trades):
    wire = BinanceWire()
    row = wire.spell(row_at(0))
    row[8] = trades
    with pytest.raises(PayloadError, match="binance: row 0, field trades: "):
        _parse(wire, wire.wrap([row]))


@every_wire
def test_a_time_before_the_epoch_or_in_another_unit_is_an_error(wire_class):
    wire = wire_class()
    for wrong in (-1, 10**14, 1.5):
        row = [wrong, *wire.spell(row_at(0))[1:]]
        with pytest.raises(PayloadError, match="row 0, field open_time: "):
            _parse(wire, wire.wrap([row]))


@every_wire
def test_the_exchanges_clock_is_read(wire_class):
    wire = wire_class()
    wire.book.now_ms = 1_736_942_400_123
    assert TIME[wire_class](wire.time()) == datetime(2025, 1, 15, 12, 0, 0, 123_000, tzinfo=UTC)


@every_wire
@pytest.mark.parametrize(
    "body", ["[]", "{}", '{"result": null}', '{"data": []}', '{"serverTime": "soon"}', '{"time": -1}']
)
def test_a_clock_that_says_something_else_is_an_error(wire_class, body):
    with pytest.raises(PayloadError) as caught:
        TIME[wire_class](body)
    assert not caught.value.is_transient


def test_no_pages_are_an_empty_table():
    assert join_pages([]).schema == ANSWER_SCHEMA
