"""What every source promises, over a real connection to a scripted exchange; the wire is the exchange's own."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from mdp.config.exchange_sections import ExchangeSettings
from mdp.domain.interval import Interval
from mdp.domain.market import Exchange, Market
from mdp.domain.timeframe import Timeframe
from mdp.errors import ConfigError, InputError
from mdp.exchanges import open_source
from mdp.exchanges.frames import ANSWER_SCHEMA
from mdp_tests.exchanges.harness import (
    EasyBudget,
    expected_ms,
    expected_prices,
    fetch,
    recent,
    slots_ending,
    with_source,
)
from mdp_tests.exchanges.wires import NOW, WIRES, BinanceWire, DeribitWire, OkxWire, row_at
from mdp_tests.support.scripted_exchange import Reply

every_wire = pytest.mark.parametrize("wire_class", WIRES, ids=lambda wire: wire.exchange.value)


@every_wire
def test_every_candle_of_the_window_comes_once_with_the_numbers_that_were_sent(wire_class):
    wire = wire_class()
    window = recent(wire, 2_345)
    seen = fetch(wire, window)
    rows = seen.fetched.rows
    assert rows.schema == ANSWER_SCHEMA
    assert seen.open_times_ms == expected_ms(window, wire)
    assert rows.select("open", "high", "low", "close").equals(expected_prices(seen.open_times_ms, wire))
    assert rows["symbol"].unique().to_list() == [wire.market.symbol_key]
    assert rows["exchange"].unique().to_list() == [wire.exchange.value]
    assert rows["timeframe"].unique().to_list() == [wire.timeframe.value]
    assert rows["source"].unique().to_list() == ["rest"]
    assert rows["fetched_at"].unique().to_list() == [NOW]
    assert rows["closed"].all()


@every_wire
def test_a_window_takes_as_many_requests_as_it_has_full_pages(wire_class):
    wire = wire_class()
    slots = 2 * wire.max_rows + 1
    seen = fetch(wire, recent(wire, slots))
    assert seen.fetched.rows.height == slots
    assert seen.fetched.requests == len(seen.asked) == 3


@every_wire
def test_amounts_are_kept_where_they_are_given_and_null_where_they_are_not(wire_class):
    wire = wire_class()
    rows = fetch(wire, recent(wire, 3)).fetched.rows
    sent = [row_at(ms) for ms in rows["open_time"].dt.epoch("ms")]
    is_traded = not wire.market.is_volatility_index
    counts_trades = wire.exchange is Exchange.BINANCE
    assert rows["volume"].to_list() == [float(row.volume) if is_traded else None for row in sent]
    assert rows["quote_volume"].to_list() == [float(row.quote_volume) if is_traded else None for row in sent]
    assert rows["trades"].to_list() == [row.trades if counts_trades else None for row in sent]


@every_wire
def test_the_forming_candle_is_returned_and_said_to_be_open(wire_class):
    wire = wire_class()
    now_slot = wire.timeframe.floor(NOW)
    seen = fetch(wire, slots_ending(wire, now_slot + 5 * wire.timeframe.duration, 8))
    assert seen.open_times_ms[-1] == int(now_slot.timestamp() * 1_000)
    assert seen.fetched.rows["closed"].to_list() == [True, True, True, False]


@pytest.mark.parametrize("wire_class", [wire for wire in WIRES if wire is not OkxWire])
def test_a_candle_is_closed_from_the_very_instant_it_has_settled(wire_class):
    wire = wire_class()
    close = wire.timeframe.floor(NOW)
    for seconds, is_closed in ((10, True), (9.999, False)):
        wire.book.now_ms = int(close.timestamp() * 1_000 + seconds * 1_000)
        seen = fetch(wire, slots_ending(wire, close, 1), settle_s=10)
        assert seen.fetched.rows["closed"].to_list() == [is_closed], seconds


@every_wire
@pytest.mark.parametrize("error", [timedelta(days=-400), timedelta(hours=-1), timedelta(hours=1), timedelta(days=400)])
def test_a_wrong_clock_of_ours_changes_nothing_but_what_it_says_itself(wire_class, error):
    wire = wire_class()
    window = slots_ending(wire, wire.timeframe.floor(NOW) + wire.timeframe.duration, 400)
    right = fetch(wire, window).fetched.rows
    fetched = fetch(wire, window, clock=lambda: NOW + error).fetched
    assert fetched.clock_ahead == -error, "live trading beside a wrong clock goes by it"
    wrong = fetched.rows
    assert wrong.drop("fetched_at").equals(right.drop("fetched_at"))
    assert wrong["fetched_at"].unique().to_list() == [NOW + error]


@pytest.mark.parametrize("wire_class", [wire for wire in WIRES if wire is not OkxWire])
def test_the_exchange_is_taken_to_have_read_its_clock_in_the_middle_of_the_round_trip(wire_class):
    wire = wire_class()
    close, ours = wire.timeframe.floor(NOW), [NOW]

    def slowly(told=wire.time):
        ours[0] += timedelta(seconds=4)  # passes between our question and the answer
        return told()

    wire.time = slowly
    for seconds, is_closed in ((8, True), (7.999, False)):
        wire.book.now_ms = int(close.timestamp() * 1_000 + seconds * 1_000)
        seen = fetch(wire, slots_ending(wire, close, 1), clock=lambda: ours[0], settle_s=10)
        assert seen.fetched.rows["closed"].to_list() == [is_closed], seconds


@every_wire
def test_the_exchanges_clock_is_asked_once_for_an_opened_source(wire_class):
    wire = wire_class()
    times = []
    wire.time = lambda told=wire.time: times.append(1) or told()

    async def work(source):
        for _ in range(3):
            fetched = await source.fetch(wire.market, wire.timeframe, recent(wire, 2))
        return fetched

    with_source(wire, work)
    assert len(times) == 1


def test_the_exchanges_clock_is_asked_again_when_ours_has_moved_on():
    wire = BinanceWire()
    times, clock = [], [NOW]
    wire.time = lambda told=wire.time: times.append(1) or told()

    async def work(source):
        for _ in range(3):
            fetched = await source.fetch(wire.market, wire.timeframe, recent(wire, 2))
            clock[0] += timedelta(minutes=10, seconds=1)
        return fetched

    with_source(wire, work, clock=lambda: clock[0])
    assert len(times) == 3


@every_wire
def test_what_the_exchange_cannot_know_yet_is_not_asked(wire_class):
    wire = wire_class()
    seen = fetch(wire, Interval(NOW + timedelta(days=2), NOW + timedelta(days=300)))
    assert seen.fetched.rows.is_empty()
    assert seen.fetched.requests == 0
    assert seen.asked == []


@every_wire
def test_an_empty_window_asks_nothing(wire_class):
    wire = wire_class()
    seen = fetch(wire, Interval(NOW, NOW))
    assert seen.fetched.rows.schema == ANSWER_SCHEMA
    assert seen.asked == []


@every_wire
def test_rows_off_the_grid_repeated_or_outside_the_window_are_kept_for_the_judge(wire_class):
    wire = wire_class()
    window = recent(wire, 10)
    slots = expected_ms(window, wire)
    sent = [*slots[:5], slots[4], slots[4] + 14_800, *slots[5:], slots[0] - 10 * wire.timeframe.milliseconds]
    body = wire.wrap([wire.spell(row_at(ms)) for ms in sent])
    seen = fetch(wire, window, [Reply(body)])
    assert seen.open_times_ms == sorted(sent)
    assert len(seen.asked) == 1


@every_wire
def test_rows_in_the_wrong_order_are_sorted_with_ties_as_received(wire_class):
    wire = wire_class()
    window = recent(wire, 10)
    slots = expected_ms(window, wire)
    first, second = row_at(slots[3])._replace(close="40001.5"), row_at(slots[3])._replace(close="40002.5")
    rows = [row_at(ms) for ms in (slots[7], slots[2], slots[9], slots[0], slots[1])]
    rows += [first, *[row_at(ms) for ms in (slots[8], slots[6], slots[5], slots[4])], second]
    seen = fetch(wire, window, [Reply(wire.wrap([wire.spell(row) for row in rows]))])
    assert seen.open_times_ms == [*slots[:4], slots[3], *slots[4:]]
    scale = 1_000 if isinstance(wire, DeribitWire) else 1
    assert seen.fetched.rows["close"].to_list()[3:5] == [40001.5 / scale, 40002.5 / scale]


@every_wire
def test_no_more_pages_wait_for_an_answer_than_the_setting_says(wire_class):
    wire = wire_class()
    slow = [lambda request: _slow(wire, request)] * 5
    seen = fetch(wire, recent(wire, 5 * wire.max_rows), slow, pages_in_flight=3)
    assert seen.most_at_once == 3
    assert seen.fetched.rows.height == 5 * wire.max_rows


@every_wire
def test_pages_that_are_answered_out_of_turn_do_not_get_each_others_rows(wire_class):
    wire = wire_class()
    delays = [0.06, 0.0, 0.04, 0.0, 0.02]
    script = [lambda request, delay=delay: _slow(wire, request, delay) for delay in delays]
    window = recent(wire, 5 * wire.max_rows)
    seen = fetch(wire, window, script, pages_in_flight=8)
    assert seen.open_times_ms == expected_ms(window, wire)
    assert seen.fetched.rows.select("open", "high", "low", "close").equals(expected_prices(seen.open_times_ms, wire))


@every_wire
def test_markets_and_timeframes_that_are_not_offered_are_refused_by_name(wire_class):
    wire = wire_class()
    other = "okx" if wire.exchange is not Exchange.OKX else "bybit"

    async def work(source):
        with pytest.raises(InputError, match=f"market: expected a market of {wire.exchange.value}"):
            await source.fetch(Market.parse(f"{other}:BTC-USDT"), Timeframe.M1, recent(wire, 1))
        wrong = "SOL-DVOL" if wire.market.is_volatility_index else "BTC-DVOL"
        with pytest.raises(InputError, match="market: expected "):
            await source.fetch(Market.parse(f"{wire.exchange.value}:{wrong}"), Timeframe.M1, recent(wire, 1))

    assert with_source(wire, work).asked == []


def test_deribit_refuses_a_timeframe_that_it_does_not_offer():
    wire = DeribitWire()

    async def work(source):
        with pytest.raises(InputError, match="timeframe: expected one that deribit offers: 1m, 1h, 1d, got '5m'"):
            await source.fetch(wire.market, Timeframe.M5, recent(wire, 1))

    with_source(wire, work)


@pytest.mark.parametrize("exchange", list(Exchange))
def test_a_source_without_an_address_is_a_setting_that_a_person_must_fill(exchange):
    with pytest.raises(ConfigError, match=f"MDP_EXCHANGES__{exchange.name}__REST_URL"):
        open_source(exchange, ExchangeSettings(), clock=lambda: NOW, budget=EasyBudget())


def test_deribit_follows_the_continuation_of_a_page_and_counts_the_seam_once():
    wire = DeribitWire()
    wire.rows_given = 7
    window = recent(wire, 50)
    seen = fetch(wire, window)
    assert seen.open_times_ms == expected_ms(window, wire)
    assert seen.fetched.requests == len(seen.asked) == 9


def test_deribit_does_not_follow_a_continuation_that_leads_nowhere():
    wire = DeribitWire()
    window = recent(wire, 50)
    slots = expected_ms(window, wire)
    newest = [wire.spell(row_at(ms)) for ms in slots[40:]]
    for continuation in (slots[-1] + wire.timeframe.milliseconds, slots[-1] + 5, slots[0] - 1):
        seen = fetch(wire, window, [Reply(wire.wrap(newest, continuation))])
        assert seen.open_times_ms == slots
        assert len(seen.asked) == 2  # the second asks again for what is missing


def test_okx_is_asked_for_the_newest_at_one_endpoint_and_for_the_past_at_the_other():
    wire = OkxWire()
    now_slot = wire.timeframe.floor(NOW) + wire.timeframe.duration
    seen = fetch(wire, slots_ending(wire, now_slot, 2_000))
    assert seen.open_times_ms == expected_ms(slots_ending(wire, now_slot, 2_000), wire)
    by_path = {request.path.rsplit("/", 1)[1] for request in seen.asked}
    assert by_path == {"candles", "history-candles"}
    oldest_newest = min(int(r.query["before"]) for r in seen.asked if r.path.endswith("/candles"))
    assert oldest_newest > wire.book.now_ms - 1_440 * 60_000


@every_wire
def test_a_window_off_the_grid_is_asked_to_the_millisecond(wire_class):
    wire = wire_class()
    window = recent(wire, 4)
    off = Interval(window.start + timedelta(milliseconds=1), window.end - timedelta(milliseconds=1))
    inside = int(off.end.timestamp() * 1_000)
    wire.book.extra = [row_at(inside - 1), row_at(inside)]
    seen = fetch(wire, off)
    assert seen.open_times_ms == [*expected_ms(window, wire)[1:], inside - 1]


def _slow(wire, request, delay_s=0.03):
    return replace(wire.answer(request), delay_s=delay_s)
