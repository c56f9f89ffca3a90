"""What of a stream is news: each end state once and in order, whatever is lost, doubled or late."""

from __future__ import annotations

import json
from datetime import timedelta
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdp.client import BadAnswer, BufferSnapshot, CandleUpdate, Fresh, Missing, NotFound, Stale, Told
from mdp.client.topics import topics_of
from mdp.client.tracking import Closing, Fill, Send, Tracker
from mdp.domain.buffers import MarketBuffers
from mdp.domain.interval import Interval
from mdp.domain.live import CandleState
from mdp.domain.live_frames import from_frame
from mdp.domain.market import Market
from mdp.domain.timeframe import EPOCH, Timeframe
from mdp_tests.client.scripted import TOPIC, row, snapshot, stored, told
from mdp_tests.support.builders import MARKET, at

TEN = at("2024-12-30T10:00")


def tracker(*messages):
    made = Tracker([TOPIC], heartbeat_s=15)
    for message in messages:
        made.hear(message)
    return made


def minute_of(candle):
    return (EPOCH + timedelta(microseconds=candle.open_us) - TEN) // timedelta(minutes=1)


def minute(update):
    return minute_of(update.candle)


def news(steps):
    """Updates of candles as (minute, state, reason)."""
    return [(minute(step), step.candle.state.value, step.reason) for step in steps if isinstance(step, CandleUpdate)]


def test_the_first_snapshot_is_given_whole_and_changes_after_it_one_by_one():
    stream = tracker()
    [first] = stream.hear(snapshot(row(0), row(1, state="forming"), seq=5))
    assert isinstance(first, BufferSnapshot)
    assert (first.market, first.timeframe, len(first.buffer.closed), first.buffer.frame().height) == (
        MARKET,
        "1m",
        1,
        2,
    )
    assert news(stream.hear(told(6, row(1, close=101.0, state="forming")))) == [(1, "forming", "changed")]
    [closed] = stream.hear(told(7, row(1, close=101.0)))
    assert (closed.is_closed, closed.candle.close, closed.seq) == (True, 101.0, 7)
    held = stream.buffer(MARKET, Timeframe.M1)
    assert (held.seq, [candle.close for candle in held.closed]) == (7, [100.0, 101.0])


def test_what_comes_twice_is_told_once():
    stream = tracker(snapshot(row(0), seq=5))
    assert news(stream.hear(told(6, row(1)))) == [(1, "closed", "changed")]
    assert stream.hear(told(6, row(1))) == []
    assert stream.hear(told(4, row(1, close=9.0))) == []
    assert stream.hear(told(6, row(1, close=9.0))) == []
    assert stream.hear(told(7, row(1))) == []  # the same words under another number


def test_messages_that_were_skipped_on_purpose_are_no_loss():
    stream = tracker(snapshot(row(0), seq=5))
    assert news(stream.hear(told(9, row(1), skipped=3))) == [(1, "closed", "changed")]


def test_a_candle_that_another_one_overtook_is_told_all_the_same():
    stream = tracker(snapshot(row(0), seq=5))
    found = [
        *stream.hear(told(8, row(2), skipped=2)),
        *stream.hear(told(7, row(1))),
        *stream.hear(told(6, row(2, state="forming"))),
    ]
    assert news(found) == [(2, "closed", "changed"), (1, "closed", "changed")]
    assert json.loads(stream.opening())["since"] == {TOPIC: 8}


def test_a_loss_is_noticed_and_the_buffer_read_again():
    stream = tracker(snapshot(row(0), seq=5))
    asked = stream.hear(told(9, row(3)))
    assert [json.loads(step.text)["op"] for step in asked if isinstance(step, Send)] == ["unsubscribe", "subscribe"]
    assert "since" not in json.loads(asked[1].text)
    assert stream.hear(told(10, row(4))) == []  # says nothing as long as the loss is not made good
    found = stream.hear(snapshot(row(0), row(1), row(2), row(3), row(4), seq=10))
    assert news(found) == [(one, "closed", "read") for one in (1, 2, 3, 4)]
    assert news(stream.hear(told(11, row(5)))) == [(5, "closed", "changed")]


def test_a_new_connection_says_from_where_to_go_on():
    stream = tracker()
    assert json.loads(stream.opening()) == {"op": "subscribe", "topics": [TOPIC]}
    stream.hear(snapshot(row(0), seq=5))
    assert json.loads(stream.opening())["since"] == {TOPIC: 5}


def test_after_a_short_absence_only_what_changed_is_told():
    stream = tracker(snapshot(row(0), row(1, state="forming"), seq=5))
    found = stream.hear(snapshot(row(0, state="confirmed"), row(1), row(2, state="forming"), seq=9))
    assert news(found) == [(1, "closed", "read"), (2, "forming", "read")]


def test_an_end_that_only_becomes_surer_is_in_the_buffer_and_no_news():
    stream = tracker(snapshot(row(0), seq=5), told(6, row(1)), told(7, row(2, state="forming")))
    assert stream.hear(told(8, row(1, state="confirmed"))) == []
    held = stream.buffer(MARKET, Timeframe.M1)
    assert (held.seq, [candle.state for candle in held.candles]) == (8, ["closed", "confirmed", "forming"])
    assert stream.hear(snapshot(row(0, state="confirmed"), row(1, state="confirmed"), seq=9)) == []


def test_what_the_buffers_of_a_feed_say_of_a_minute_is_one_end():
    buffers, stream, found = MarketBuffers(MARKET, 500), tracker(snapshot(seq=1)), []
    [first, second] = from_frame(stored(0, 2))
    heard = [
        first._replace(state=CandleState.FORMING, source="stream"),
        first._replace(state=CandleState.CLOSED, source="stream"),
        second._replace(state=CandleState.FORMING, source="stream"),
        first,  # by REST
    ]
    seqs = count(2)
    for candle in heard:
        for change in buffers.take(candle):
            if change.timeframe is Timeframe.M1:
                said = change.candle
                found += stream.hear(told(next(seqs), row(minute(change), said.close, said.state.value)))
    assert next(seqs) == 6  # the confirmation was published
    assert news(found) == [(0, "forming", "changed"), (0, "closed", "changed"), (1, "forming", "changed")]


def test_a_correction_is_told_as_such_however_it_comes():
    stream = tracker(snapshot(row(0), seq=5), told(6, row(1)), told(7, row(2)))
    assert news(stream.hear(told(8, row(1, 101.0, "corrected")))) == [(1, "corrected", "corrected")]
    found = stream.hear(snapshot(row(0), row(1, 101.0, "corrected"), row(2, 102.0, "corrected"), row(3), seq=11))
    assert news(found) == [(2, "corrected", "corrected"), (3, "closed", "read")]


def test_a_candle_that_was_taken_back_is_gone():
    stream = tracker(snapshot(row(0), seq=5), told(6, row(1, state="forming")))
    assert stream.hear(snapshot(row(0), seq=7)) == []
    assert [minute_of(one) for one in stream.buffer(MARKET, Timeframe.M1).candles] == [0]
    assert news(stream.hear(told(8, row(1)))) == [(1, "closed", "changed")]


def test_a_feed_that_begins_anew_tells_no_end_a_second_time():
    stream = tracker(snapshot(row(0), seq=5), told(6, row(1)), told(7, row(2, state="forming")))
    anew = snapshot(row(1, state="forming"), row(2, state="forming"), seq=2, written_at="2024-12-30T10:16:00Z")
    assert news(stream.hear(anew)) == []
    assert [minute_of(one) for one in stream.buffer(MARKET, Timeframe.M1).closed] == [1]
    found = [step for seq, one in ((3, row(0)), (4, row(1)), (5, row(2))) for step in stream.hear(told(seq, one))]
    assert news(found) == [(2, "closed", "changed")]


def test_what_closed_before_the_buffer_reaches_is_fetched_first():
    stream = tracker(snapshot(row(0), row(1, state="forming"), seq=5, size=3))
    [fill] = stream.hear(snapshot(row(7), row(8), row(9), row(10, state="forming"), seq=40, size=3))
    assert isinstance(fill, Fill)
    assert fill.interval == Interval(at("2024-12-30T10:01"), at("2024-12-30T10:07"))
    found = stream.filled(fill, from_frame(stored(1, 7)))
    states = [(one, "confirmed", "history") for one in range(1, 7)]
    assert news(found) == [*states, *((one, "closed", "read") for one in (7, 8, 9)), (10, "forming", "read")]
    assert [step for step in found if isinstance(step, Missing)] == []


def test_a_buffer_that_begins_with_the_very_next_candle_leaves_nothing_to_fetch():
    stream = tracker(snapshot(row(0), row(1), seq=5, size=3))
    assert news(stream.hear(snapshot(row(2), row(3), seq=9, size=3))) == [(2, "closed", "read"), (3, "closed", "read")]


def test_what_nobody_has_is_told_to_be_missing():
    stream = tracker(snapshot(row(0), seq=5, size=3))
    [fill] = stream.hear(snapshot(row(7), seq=40, size=3))
    found = stream.filled(fill, from_frame(stored(1, 3)), "storage is away")
    [missing] = [step for step in found if isinstance(step, Missing)]
    assert (missing.slots, missing.interval, missing.detail) == (4, fill.interval, "storage is away")
    assert [one for one, _, _ in news(found)] == [1, 2, 7]


def test_candles_of_an_index_are_not_stored_and_so_missing():
    stream = Tracker(["candles.deribit.BTC-DVOL.1m"], heartbeat_s=15)
    whose = {"exchange": "deribit", "symbol": "BTC-DVOL", "topic": "candles.deribit.BTC-DVOL.1m"}
    stream.hear(snapshot(row(0), seq=5, size=3, **whose))
    missing, newest = stream.hear(snapshot(row(7), seq=40, size=3, **whose))
    assert (missing.slots, "dvol" in missing.detail, minute(newest)) == (6, True, 7)


def test_an_absence_is_filled_again_when_it_could_not_be():
    stream = tracker(snapshot(row(0), seq=5, size=3))
    message = snapshot(row(7), seq=40, size=3)
    assert stream.hear(message) == stream.hear(message)  # the first was never answered: the connection broke again


def test_a_process_that_lags_behind_does_not_take_back_what_was_told():
    stream = tracker(
        snapshot(row(0), seq=5, written_at="2024-12-30T10:01:01Z"),
        told(6, row(1, state="forming")), told(7, row(1)), told(8, row(2, state="forming")), told(9, row(2)),
    )  # fmt: skip
    behind = snapshot(row(0), row(1), row(2, state="forming"), seq=8, written_at="2024-12-30T10:02:59Z")
    assert stream.hear(behind) == []
    assert stream.hear(told(9, row(2))) == []
    assert news(stream.hear(told(10, row(3)))) == [(3, "closed", "changed")]


def test_a_bus_that_counts_anew_is_believed():
    stream = tracker(snapshot(row(0), seq=900))
    found = stream.hear(snapshot(row(0), row(1), seq=3, written_at="2024-12-30T10:16:00Z"))
    assert news(found) == [(1, "closed", "read")]
    assert news(stream.hear(told(4, row(2)))) == [(2, "closed", "changed")]


def test_stale_and_fresh_are_told_once():
    stream = tracker(snapshot(row(0), seq=5))
    aged = [stream.hear(json.dumps({"type": kind, "topic": TOPIC})) for kind in ("stale", "stale", "fresh", "fresh")]
    assert aged == [[Stale(MARKET, Timeframe.M1)], [], [Fresh(MARKET, Timeframe.M1)], []]
    assert stream.hear(snapshot(row(0), seq=5, is_stale=True)) == [Stale(MARKET, Timeframe.M1)]
    assert stream.buffer(MARKET, Timeframe.M1).is_stale


def test_other_messages_are_handed_on_or_mean_nothing():
    stream = tracker()
    generation = {"type": "generation", "topic": "generation.3f9a", "state": "running"}
    assert stream.hear(json.dumps(generation)) == [Told("generation.3f9a", generation)]
    assert stream.hear('{"type":"heartbeat","at":"2024-12-30T10:00:00Z"}') == []
    assert stream.hear('{"type":"subscribed","heartbeat_s":0.5}') == []
    assert stream.silence_s == 1.5


@pytest.mark.parametrize("text", ["", "{", "[]", '{"type":1}', '{"type":"candle"}', '{"type":"snapshot"}', b"\xff"])
def test_a_message_that_cannot_be_read_is_an_error(text):
    with pytest.raises(BadAnswer):
        tracker().hear(text)


def test_what_the_service_refuses_and_its_end_are_errors():
    with pytest.raises(NotFound, match=r"candles\.nyse"):
        tracker().hear('{"type":"error","detail":"candles.nyse: expected one of …"}')
    with pytest.raises(Closing, match="restart"):
        tracker().hear('{"type":"closing","reason":"restart"}')


def test_a_long_stream_keeps_no_more_than_a_buffer_holds():
    stream = tracker(snapshot(row(0), seq=1, size=5))
    for one in range(1, 50):
        stream.hear(told(one + 1, row(one)))
    held = stream.buffer(MARKET, Timeframe.M1).candles
    assert (len(held), held[0].open_us) == (6, (TEN + timedelta(minutes=44) - EPOCH) // EPOCH.resolution)


def test_topics_are_those_of_markets_and_timeframes_each_once():
    assert topics_of(None, "1m", ()) == ["candles.*.*.1m"]
    assert topics_of("binance:BTC-USDT", ["1m", "1h", "1m"], "feeds.*") == [
        TOPIC, "candles.binance.BTC-USDT.1h", "feeds.*",
    ]  # fmt: skip
    assert topics_of(None, "1m", ["generation.x"]) == ["generation.x"]
    assert topics_of([Market.parse("okx:SOL-USDT")], Timeframe.D1, ()) == ["candles.okx.SOL-USDT.1d"]


class Played:
    """A service that holds the last ``size`` minutes, with all of them in storage, and loses messages."""

    def __init__(self, size):
        self.size, self.seq, self.last, self.heard = size, 1, 0, []
        self.stream = tracker(snapshot(row(0), seq=1, size=size))

    def close_minute(self, fate):
        self.seq, self.last = self.seq + 1, self.last + 1
        if fate in ("broken", "late"):
            self.stream.opening()
            self.read()
        if fate in ("heard", "twice", "late"):  # late: the snapshot after the break held it already
            self.hear(told(self.seq, row(self.last)))
        if fate == "twice":
            self.hear(told(self.seq, row(self.last)))
        if fate == "heard" and self.last > 1:  # REST confirms the one before
            self.seq += 1
            self.hear(told(self.seq, row(self.last - 1, state="confirmed")))

    def read(self):
        first = max(0, self.last - self.size)
        rows = [row(one, state="confirmed" if one < self.last else "closed") for one in range(first, self.last + 1)]
        self.hear(snapshot(*rows, seq=self.seq, size=self.size))

    def hear(self, message):
        steps = self.stream.hear(message)
        while steps:
            step = steps.pop(0)
            if isinstance(step, Fill):
                bounds = ((bound - TEN) // timedelta(minutes=1) for bound in (step.interval.start, step.interval.end))
                steps[:0] = self.stream.filled(step, [STORED[one] for one in range(*bounds)])
            elif isinstance(step, Send):
                if '"op":"subscribe"' in step.text:
                    self.read()
            else:
                self.heard.append(step)


STORED = from_frame(stored(0, 40))
FATES = st.lists(st.sampled_from(["heard", "lost", "twice", "broken", "late"]), min_size=1, max_size=30)


@given(FATES, st.integers(1, 6))
def test_every_minute_that_closes_is_told_once_and_in_order_whatever_happens(fates, size):
    service = Played(size)
    for fate in fates:
        service.close_minute(fate)
    service.read()
    ends = [minute(update) for update in service.heard if update.candle.state is not CandleState.FORMING]
    assert ends == list(range(1, len(fates) + 1))
