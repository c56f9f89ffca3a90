"""Buffers of one market: what each kind of answer does, and what they say of themselves."""

from __future__ import annotations

import pytest

from mdp.domain.buffers import FUTURE_SLOTS, Counts, MarketBuffers
from mdp.domain.live import CandleState, Change, LiveCandle
from mdp.domain.live_frames import from_frame, to_frame
from mdp.domain.market import Market
from mdp.domain.resample import resample
from mdp.domain.timeframe import RESAMPLED, Timeframe
from mdp_tests.support.builders import MARKET, at

FORMING, CLOSED, CONFIRMED, CORRECTED = CandleState
M1, M5, M15, H1, H4, D1 = Timeframe
MINUTE = 60_000_000
SECOND = 1_000_000
DAY = int(at("2024-02-29").timestamp()) * SECOND


def slot(text: str) -> int:
    """Microseconds of a time of 2024-02-29."""
    return int(at(f"2024-02-29T{text}").timestamp()) * SECOND


def minute(text: str, state: CandleState = CLOSED, **values) -> LiveCandle:
    """A minute of 2024-02-29, flat at 100 with volume 1; heard when it ends, by REST five seconds later."""
    opened = slot(text)
    price = values.get("close", 100.0)
    rest = state in (CONFIRMED, CORRECTED)
    made = LiveCandle(opened, price, price, price, price, 1.0, price, 3, 1, state, "rest" if rest else "stream",
                      opened + MINUTE + 5 * SECOND * rest)  # fmt: skip
    return made._replace(**values)


def buffers_of(*minutes: LiveCandle, size: int = 100, market: Market = MARKET) -> MarketBuffers:
    buffers = MarketBuffers(market, size)
    buffers.seed(M1, minutes)
    return buffers


def every(start: str, end: str, state: CandleState = CLOSED, **values) -> list[LiveCandle]:
    """A minute for each slot of [start, end)."""
    slots = range(slot(start), slot(end), MINUTE)
    first = minute(start, state, **values)
    return [first._replace(open_us=s, received_us=first.received_us + s - first.open_us) for s in slots]


def shown(buffers: MarketBuffers, timeframe: Timeframe = M1) -> LiveCandle:
    (candle,) = buffers.buffer(timeframe)
    return candle


class TestOneMinute:
    def test_it_is_told_in_every_timeframe(self):
        buffers = MarketBuffers(MARKET, 100)
        given = minute("10:37", FORMING)
        changes = buffers.take(given)
        assert [change.timeframe for change in changes] == list(Timeframe)
        assert changes[0] == Change(M1, given)
        assert [change.candle.open_us for change in changes[1:]] == [
            slot("10:35"), slot("10:30"), slot("10:00"), slot("08:00"), slot("00:00")
        ]  # fmt: skip
        assert {change.candle.source for change in changes[1:]} == {"resampled"}
        assert {(change.candle.state, change.candle.minutes) for change in changes} == {(FORMING, 1)}

    def test_said_again_it_is_no_change(self):
        buffers = buffers_of(minute("10:00"))
        assert buffers.take(minute("10:00")) == ()
        assert buffers.take(minute("10:00", FORMING)) == ()
        assert buffers.counts.repeated == 2

    def test_closed_takes_the_place_of_forming_and_never_the_other_way_round(self):
        buffers = buffers_of(minute("10:00", FORMING, volume=5.0))
        assert buffers.take(minute("10:00", volume=4.0))[0].candle.volume == 4.0
        assert buffers.take(minute("10:00", FORMING, volume=6.0)) == ()
        assert (shown(buffers).volume, shown(buffers).state) == (4.0, CLOSED)
        assert (buffers.counts.out_of_order, buffers.counts.corrected) == (1, 0)

    @pytest.mark.parametrize("older", [{"volume": 4.0}, {"trades": 2}, {"received_us": slot("10:00") + 9 * SECOND}])
    def test_an_older_forming_one_is_passed_by(self, older):
        held = minute("10:00", FORMING, volume=5.0, trades=3, received_us=slot("10:00") + 10 * SECOND)
        other = held._replace(close=99.0, low=99.0, **older)
        buffers = buffers_of(held)
        assert buffers.take(other) == ()
        assert shown(buffers) == held
        turned = buffers_of(other)
        assert turned.take(held)[0].candle == held

    def test_more_volume_is_younger_whatever_the_clocks_say(self):
        held = minute("10:00", FORMING, volume=5.0)
        buffers = buffers_of(held)
        assert buffers.take(held._replace(volume=6.0, received_us=held.received_us - 9 * SECOND, source="rest"))
        assert shown(buffers).volume == 6.0

    def test_the_exchanges_own_time_decides_before_that_of_receipt(self):
        held = minute("10:00", FORMING, volume=None, quote_volume=None, trades=None)
        buffers = buffers_of()
        buffers.take(held, event_us=2)
        assert buffers.take(held._replace(high=101.0, received_us=held.received_us + 5), event_us=1) == ()
        assert buffers.take(held._replace(high=102.0, received_us=held.received_us - 5), event_us=3)

    def test_confirmed_with_the_same_values_it_keeps_when_and_whence_they_came(self):
        buffers = buffers_of(minute("10:00"))
        (change,) = buffers.take(minute("10:00", CONFIRMED))[:1]
        assert change.candle == minute("10:00")._replace(state=CONFIRMED)
        assert buffers.take(minute("10:00", CONFIRMED)) == ()

    def test_closed_after_it_was_confirmed_it_stays_confirmed(self):
        buffers = buffers_of(minute("10:00", CONFIRMED))
        assert buffers.take(minute("10:00")) == ()
        assert shown(buffers) == minute("10:00", CONFIRMED)

    @pytest.mark.parametrize("first", [CLOSED, CONFIRMED])
    @pytest.mark.parametrize("second", [CLOSED, CONFIRMED])
    def test_finished_twice_with_other_values_it_is_corrected_whichever_comes_first(self, first, second):
        one = minute("10:00", first)
        other = minute("10:00", second, volume=2.0, received_us=one.received_us + SECOND)
        stands = one if (first, second) == (CONFIRMED, CLOSED) else other
        for arriving in ([one, other], [other, one]):
            buffers = buffers_of()
            buffers.take(arriving[0])
            (change, *longer) = buffers.take(arriving[1])
            assert change.candle == stands._replace(state=CORRECTED)
            assert {change.candle.volume for change in longer} <= {stands.volume}
            assert shown(buffers, D1).volume == stands.volume
            assert buffers.counts.corrected == 1
            assert not [*buffers.take(one), *buffers.take(other)]

    def test_a_correction_that_is_confirmed_stays_a_correction(self):
        buffers = buffers_of(minute("10:00"), minute("10:00", CONFIRMED, volume=2.0))
        assert buffers.take(minute("10:00", CONFIRMED, volume=2.0, received_us=slot("10:05"))) == ()
        assert (shown(buffers).state, shown(buffers).volume) == (CORRECTED, 2.0)

    def test_corrected_back_the_later_answer_stands(self):
        buffers = buffers_of(
            minute("10:00", CONFIRMED), minute("10:00", CONFIRMED, volume=2.0, received_us=slot("10:03"))
        )
        buffers.take(minute("10:00", CONFIRMED, received_us=slot("10:04")))
        assert buffers.take(minute("10:00", CONFIRMED, volume=2.0, received_us=slot("10:03"))) == ()
        assert (shown(buffers).state, shown(buffers).volume) == (CORRECTED, 1.0)

    def test_late_it_is_taken_and_counted(self):
        buffers = buffers_of(minute("10:02"))
        assert len(buffers.take(minute("10:00"))) == 6
        assert [candle.open_us for candle in buffers.buffer(M1)] == [slot("10:00"), slot("10:02")]
        assert buffers.counts.late == 1


class TestCounts:
    def test_each_answer_is_counted_once(self):
        buffers = MarketBuffers(MARKET, 100)
        assert buffers.counts == Counts()
        for given in (
            minute("10:00", FORMING),
            minute("10:00"),
            minute("10:00"),
            minute("10:00", FORMING, volume=0.5),
            minute("10:00", CONFIRMED, volume=2.0),
            minute("10:02"),
            minute("10:01"),
            minute("10:03", low=0.0),
            minute("10:00")._replace(open_us=0),
        ):
            buffers.take(given)
        buffers.absent(slot("10:04"))
        assert buffers.counts == Counts(
            taken=5, late=1, repeated=1, out_of_order=1, too_old=1, refused=1, corrected=1, absent=1
        )

    def test_seeding_counts_nothing_as_late(self):
        assert buffers_of(minute("10:02"), minute("10:00")).counts == Counts(taken=2)


class TestWhatIsNotTaken:
    def test_what_opens_too_far_in_the_future_is_refused_and_moves_nothing(self):
        buffers = buffers_of(minute("10:00"))
        far = minute("10:00")._replace(open_us=slot("10:01") + FUTURE_SLOTS * MINUTE)
        assert buffers.take(far, now_us=slot("10:01") - 1) == ()
        assert buffers.take(far) != ()
        assert buffers.counts.refused == 1
        assert "future" in buffers.refusals[0]

    @pytest.mark.parametrize("open_us", [10**19, -(10**19)])
    def test_a_time_that_no_calendar_holds_is_refused_and_told(self, open_us):
        buffers = buffers_of(minute("10:00"))
        assert buffers.take(minute("10:00")._replace(open_us=open_us * MINUTE)) == ()
        assert buffers.counts.refused + buffers.counts.too_old == 1
        assert buffers.newest_us == slot("10:00")

    def test_without_a_time_that_of_receipt_is_the_measure(self):
        buffers = buffers_of(minute("10:00"))
        assert buffers.take(minute("10:09", received_us=slot("10:01"))) == ()
        assert (buffers.newest_us, buffers.counts.refused) == (slot("10:00"), 1)

    def test_a_candle_that_breaks_a_rule_is_refused_by_its_name(self):
        buffers = buffers_of(minute("10:00"))
        assert buffers.take(minute("10:01", high=99.0)) == ()
        assert buffers.seed(H1, [minute("09:00", close=float("nan"))]) == ()
        assert buffers.refusals[0] == "1m 2024-02-29T10:01:00Z: high_is_highest"
        assert "prices_are_finite" in buffers.refusals[1]
        assert buffers.counts.refused == 2

    def test_what_is_older_than_all_that_is_kept_is_counted_and_changes_nothing(self):
        kept = minute("10:00")
        buffers = buffers_of(kept)
        yesterday = DAY - 24 * 60 * MINUTE
        assert buffers.take(kept._replace(open_us=yesterday - MINUTE)) == ()
        assert buffers.absent(yesterday - MINUTE) == ()
        assert buffers.counts.too_old == 2
        assert buffers.take(kept._replace(open_us=yesterday))

    def test_a_minute_that_the_buffer_shows_no_more_still_changes_the_longer_candles(self):
        buffers = buffers_of(*every("06:00", "10:00"), size=10)
        buffers.take(minute("06:30", CONFIRMED, volume=8.0))
        assert slot("06:30") not in [candle.open_us for candle in buffers.buffer(M1)]
        assert [candle.volume for candle in buffers.buffer(H1)] == [67.0, 60.0, 60.0, 60.0]
        assert shown(buffers, D1).volume == 247.0

    def test_a_buffer_is_no_longer_than_it_is_meant_to_be(self):
        buffers = buffers_of(*every("06:00", "10:00"), size=10)
        assert [candle.open_us for candle in buffers.buffer(M1)] == list(range(slot("09:49"), slot("10:00"), MINUTE))
        assert len(buffers.buffer(M5)) == 11

    def test_after_a_jump_over_days_only_what_is_in_reach_is_kept(self):
        buffers = buffers_of(*every("06:00", "10:00"))
        later = minute("10:00")._replace(open_us=slot("10:00") + 3 * 1440 * MINUTE, received_us=slot("10:00") * 2)
        buffers.take(later)
        assert buffers.buffer(M1) == (later,)
        assert [len(buffers.buffer(timeframe)) for timeframe in (M5, M15, H1, H4, D1)] == [1, 1, 5, 3, 2]
        assert buffers.take(minute("09:59", CONFIRMED)) == ()

    @pytest.mark.parametrize("size", [0, -1])
    def test_a_size_below_one_is_an_error(self, size):
        with pytest.raises(ValueError, match="size: expected at least 1"):
            MarketBuffers(MARKET, size)


class TestClosing:
    def test_a_longer_candle_is_as_sure_as_its_least_sure_minute(self):
        buffers = buffers_of(*every("10:00", "10:04", CONFIRMED), minute("10:04", FORMING))
        assert shown(buffers, M5).state is FORMING
        buffers.take(minute("10:04", volume=7.0))
        assert shown(buffers, M5).state is CLOSED
        buffers.take(minute("10:04", CONFIRMED, volume=7.0))
        assert shown(buffers, M5).state is CONFIRMED
        buffers.take(minute("10:02", CONFIRMED, volume=2.0, received_us=slot("10:09")))
        assert shown(buffers, M5).state is CORRECTED

    def test_nothing_closes_by_the_clock_alone(self):
        """Minutes later are no proof: what is missing may come."""
        buffers = buffers_of(*every("10:00", "10:04"), *every("10:05", "11:00"))
        assert [candle.state for candle in buffers.buffer(M5)][:2] == [FORMING, CLOSED]
        assert (shown(buffers, H1).state, shown(buffers, H1).minutes) == (FORMING, 59)

    def test_a_slot_that_is_absent_for_sure_counts_as_settled(self):
        buffers = buffers_of(*every("10:00", "10:04"), *every("10:05", "11:00"))
        changes = buffers.absent(slot("10:04"))
        assert [change.timeframe for change in changes] == [M5, M15, H1]
        assert {change.candle.state for change in changes} == {CLOSED}
        assert changes[0].candle.minutes == 4
        assert buffers.absent(slot("10:04")) == ()
        assert buffers.counts.absent == 1

    def test_a_bucket_whose_last_minutes_never_come_closes_when_they_are_known_to_be_absent(self):
        buffers = buffers_of(*every("10:00", "10:03"))
        assert buffers.absent(slot("10:03")) == ()
        assert [change.candle.state for change in buffers.absent(slot("10:04"))] == [CLOSED]

    def test_a_bucket_without_any_minute_does_not_exist_and_does_not_keep_longer_ones_open(self):
        buffers = buffers_of(*every("10:00", "10:05"), *every("10:10", "10:15"))
        changes = [change for offset in range(5) for change in buffers.absent(slot("10:05") + offset * MINUTE)]
        assert [candle.open_us for candle in buffers.buffer(M5)] == [slot("10:00"), slot("10:10")]
        assert [(change.timeframe, change.candle.state, change.candle.minutes) for change in changes] == [
            (M15, CLOSED, 10)
        ]

    def test_what_comes_after_it_was_absent_is_a_correction(self):
        buffers = buffers_of(*every("10:00", "10:04"))
        buffers.absent(slot("10:04"))
        assert buffers.take(minute("10:04", FORMING)) == ()
        changes = buffers.take(minute("10:04", CONFIRMED))
        assert [change.candle.state for change in changes[:2]] == [CORRECTED, CORRECTED]
        assert changes[1].candle.minutes == 5
        assert buffers.counts.corrected == 1

    def test_a_forming_minute_that_turns_out_to_be_absent_is_gone(self):
        buffers = buffers_of(*every("10:00", "10:04"), minute("10:04", FORMING, volume=9.0))
        (change, *longer) = buffers.absent(slot("10:04"))
        assert (change.timeframe, change.candle.volume, change.candle.state) == (M5, 4.0, CLOSED)
        assert {change.candle.volume for change in longer} == {4.0}
        assert slot("10:04") not in [candle.open_us for candle in buffers.buffer(M1)]
        assert buffers.lost() == {M1}
        assert buffers.lost() == frozenset()

    def test_a_longer_candle_of_that_minute_alone_is_gone_too(self):
        buffers = buffers_of(*every("10:00", "10:05"), minute("10:05", FORMING))
        buffers.absent(slot("10:05"))
        assert buffers.lost() == {M1, M5}
        assert [candle.open_us for candle in buffers.buffer(M5)] == [slot("10:00")]

    def test_a_closed_minute_stays_though_rest_has_none(self):
        buffers = buffers_of(*every("10:00", "10:05"))
        assert buffers.absent(slot("10:02")) == ()
        assert len(buffers.buffer(M1)) == 5
        assert slot("10:02") not in buffers.unconfirmed(slot("10:05"))

    def test_an_open_time_off_the_grid_cannot_be_absent(self):
        with pytest.raises(ValueError, match="open_us: expected the open time of a minute, got 2024-02-29T10:00:01Z"):
            buffers_of().absent(slot("10:00") + SECOND)


class TestAmounts:
    @pytest.mark.parametrize("volumes", [
        [0.1, 0.2, 0.3], [1e-9, 0.0, 0.0], [0.0, 1e-9, 0.0], [45_035_996.27370496, 45_035_996.27370497, 0.00000003],
        [9e7, 71_992.54740993, 0.1], [6_507_176_164.59, 0.1, 0.2], [1e15 + 0.5, 0.1, 0.0], [1e299, 1e299, 1.0],
    ])  # fmt: skip
    def test_a_volume_of_any_size_is_added_as_resampling_adds_it(self, volumes):
        minutes = [
            minute(f"10:0{place}", close=100.0 + place, volume=volume, quote_volume=volume / 3)
            for place, volume in enumerate(volumes)
        ]
        (expected,) = from_frame(resample(to_frame(MARKET, M1, minutes), M5))
        assert shown(buffers_of(*minutes), M5)[:9] == expected[:9]


class TestLongerCandlesGiven:
    """History of the longer timeframes, from storage or the exchange's own."""

    def given(self, text: str, **values) -> LiveCandle:
        return minute(text, CONFIRMED, minutes=60, volume=60.0, quote_volume=6_000.0, trades=180)._replace(
            **{"received_us": slot("23:00"), **values}
        )

    def test_it_stands_while_only_some_of_its_minutes_are_known(self):
        buffers = buffers_of(*every("10:20", "11:10"))
        assert buffers.buffer(H1)[0].minutes == 40
        changes = buffers.seed(H1, [self.given("10:00", volume=77.0)])
        assert [change.timeframe for change in changes] == [H1, H4, D1]
        buffers.take(minute("10:50", CONFIRMED, volume=5.0))
        assert buffers.buffer(H1)[0] == self.given("10:00", volume=77.0)
        assert [shown(buffers, timeframe).minutes for timeframe in (H4, D1)] == [70, 70]

    def test_it_gives_way_to_one_made_of_all_its_minutes_which_says_the_same(self):
        buffers = buffers_of(*every("10:20", "11:00"))
        buffers.seed(H1, [self.given("10:00")])
        buffers.seed(M1, every("10:00", "10:20"))
        assert (shown(buffers, H1).source, shown(buffers, H1).state) == ("resampled", CLOSED)
        assert buffers.counts.inconsistent == 0
        assert buffers.counts.checked > 1

    @pytest.mark.parametrize("is_first", [True, False])
    @pytest.mark.parametrize("told", [{"high": 101.0}, {"volume": 60.1}, {"quote_volume": 6_001.0}, {"trades": 181},
                                      {"open": 99.0, "low": 99.0}, {"close": 101.0, "high": 101.0}])  # fmt: skip
    def test_saying_something_else_it_is_counted_and_the_minutes_stand_as_a_correction(self, is_first, told):
        buffers = buffers_of(*([] if is_first else every("10:00", "11:00")))
        buffers.seed(H1, [self.given("10:00", **told)])
        buffers.seed(M1, every("10:00", "11:00"))
        assert (shown(buffers, H1).source, shown(buffers, H1).state) == ("resampled", CORRECTED)
        assert buffers.counts.inconsistent == 1
        (note,) = buffers.inconsistencies
        assert note.startswith("1h 2024-02-29T10:00:00Z: the candles in it say otherwise in ")
        assert all(name in note for name in told)

    def test_a_forming_one_is_not_taken_for_it_is_made_of_its_parts(self):
        buffers = buffers_of(minute("10:00"))
        assert buffers.seed(H1, [self.given("10:00", state=FORMING)]) == ()

    def test_one_that_closes_in_the_future_is_refused(self):
        assert buffers_of().seed(H1, [self.given("10:00")], now_us=slot("10:50")) == ()

    def test_stored_before_all_its_minutes_had_come_it_is_no_inconsistency(self):
        partial = self.given("10:00", minutes=23, volume=23.0, source="resampled")
        buffers = buffers_of()
        buffers.seed(H1, [partial])
        assert shown(buffers, H1).minutes == 23
        buffers.seed(M1, every("10:00", "11:00"))
        assert buffers.seed(H1, [partial]) == ()
        assert (shown(buffers, H1).minutes, shown(buffers, H1).state) == (60, CLOSED)
        assert buffers.counts.inconsistent == 0

    @pytest.mark.parametrize("order", [1, -1])
    def test_of_several_that_with_more_minutes_stands(self, order):
        partial = self.given("10:00", minutes=23, volume=23.0, source="resampled", received_us=slot("23:30"))
        buffers = buffers_of()
        buffers.seed(H1, [partial, self.given("10:00")][::order])
        assert shown(buffers, H1) == self.given("10:00")

    @pytest.mark.parametrize("order", [1, -1])
    def test_of_several_that_agree_that_which_knows_its_minutes_stands(self, order):
        ours = self.given("10:00", minutes=58, source="resampled", received_us=slot("11:00"))
        buffers = buffers_of()
        buffers.seed(H1, [ours, self.given("10:00")][::order])
        assert shown(buffers, H1) == ours

    @pytest.mark.parametrize("order", [1, -1])
    def test_of_several_that_differ_the_later_one_stands_as_a_correction(self, order):
        later = self.given("10:00", volume=61.0, received_us=slot("23:30"))
        buffers = buffers_of()
        buffers.seed(H1, [self.given("10:00"), later][::order])
        assert shown(buffers, H1) == later._replace(state=CORRECTED)

    def test_longer_ones_are_made_of_given_and_made_ones_together(self):
        """At 10:37 with the minutes of the last hour alone: nothing of the day is missing."""
        buffers = buffers_of(*every("10:00", "10:37"), minute("10:37", FORMING))
        buffers.seed(H4, [self.given(f"{hour:02}:00", minutes=240, volume=240.0) for hour in (0, 4)])
        buffers.seed(H1, [self.given("08:00"), self.given("09:00")])
        assert [(candle.minutes, candle.volume) for candle in buffers.buffer(H4)][-1] == (158, 158.0)
        assert (shown(buffers, D1).minutes, shown(buffers, D1).state) == (638, FORMING)

    @pytest.mark.parametrize("order", [1, -1])
    def test_one_that_holds_more_than_the_given_ones_in_it_stands(self, order):
        """Stored in part, because collecting began at 10:37; the exchange's own longer candle is whole."""
        hours = [self.given(f"{hour:02}:00") for hour in (8, 9, 11)]
        hours.append(self.given("10:00", minutes=23, volume=23.0, source="resampled"))
        whole = self.given("08:00", minutes=240, volume=240.0, quote_volume=24_000.0, trades=720)
        buffers = buffers_of()
        for timeframe, candles in [(H1, hours), (H4, [whole])][::order]:
            buffers.seed(timeframe, candles)
        assert shown(buffers, H4) == whole
        assert buffers.counts.inconsistent == 0
        buffers.seed(M1, every("08:00", "12:00", quote_volume=100.0, trades=3))
        assert (shown(buffers, H4).source, shown(buffers, H4).minutes) == ("resampled", 240)
        assert buffers.counts.inconsistent == 0

    def test_of_one_whose_minutes_are_all_absent_nothing_is_left_but_the_count(self):
        buffers = buffers_of(*every("10:00", "10:05"))
        buffers.seed(M5, [minute("10:05", CONFIRMED, minutes=5, received_us=slot("10:11"))])
        for offset in range(5):
            buffers.absent(slot("10:05") + offset * MINUTE)
        assert [candle.open_us for candle in buffers.buffer(M5)] == [slot("10:00")]
        assert buffers.inconsistencies == (
            "5m 2024-02-29T10:05:00Z: the candles in it say otherwise in that there is one",
        )
        assert buffers.lost() == {M5}

    def test_it_tells_that_time_has_gone_on(self):
        buffers = buffers_of()
        buffers.seed(H1, [self.given("10:00")])
        assert buffers.newest_us == slot("10:59")

    def test_where_minutes_are_kept_no_more_a_later_one_counts(self):
        buffers = buffers_of(*every("10:00", "11:00"))
        days = 3 * 1440 * MINUTE
        buffers.take(minute("10:00")._replace(open_us=slot("10:00") + days, received_us=slot("10:01") + days))
        revised = self.given("10:00", volume=61.0, source="resampled")
        buffers.seed(H1, [revised])
        assert buffers.buffer(H1)[0] == revised._replace(state=CORRECTED)


class TestVolatilityIndex:
    NONE = {"volume": None, "quote_volume": None, "trades": None}  # noqa: RUF012

    def test_a_bucket_is_first_highest_lowest_last(self):
        index = Market.parse("deribit:BTC-DVOL")
        closes = [50.0, 52.0, 49.0, 49.0, 51.0]
        minutes = [minute(f"10:0{n}", close=close, **self.NONE) for n, close in enumerate(closes)]
        made = shown(buffers_of(*minutes, market=index), M5)
        assert made[1:9] == (50.0, 52.0, 49.0, 51.0, None, None, None, 5)


class TestWhatToAsk:
    def test_nothing_before_anything_came(self):
        assert buffers_of().unconfirmed(slot("10:00")) == ()
        assert buffers_of().confirmed_until_us is None
        assert buffers_of().buffer(M1) == ()
        assert buffers_of().newest_us is None

    def test_unconfirmed_unfinished_and_missing_minutes_are_asked_for_and_no_others(self):
        buffers = buffers_of(
            minute("10:00", CONFIRMED), minute("10:01"), minute("10:03"), minute("10:04", FORMING),
            minute("10:05", CONFIRMED, volume=2.0), minute("10:05"),
        )  # fmt: skip
        buffers.absent(slot("10:03"))
        asked = [slot(text) for text in ("10:01", "10:02", "10:04")]
        assert list(buffers.unconfirmed(slot("10:06"))) == asked
        assert list(buffers.unconfirmed(slot("10:05"))) == asked
        assert list(buffers.unconfirmed(slot("10:05") - 1)) == asked[:2]
        assert list(buffers.unconfirmed(slot("10:05"), since_us=slot("10:01") + 1)) == asked[1:]
        assert list(buffers.unconfirmed(slot("10:08"))) == [*asked, slot("10:06"), slot("10:07")]

    def test_only_as_far_back_as_the_buffer_shows_unless_told_otherwise(self):
        buffers = buffers_of(*every("10:00", "10:30"), size=10)
        assert buffers.unconfirmed(slot("10:30"))[0] == slot("10:19")
        assert buffers.unconfirmed(slot("10:30"), since_us=slot("09:00"))[0] == slot("10:00")

    def test_two_finished_answers_that_differ_are_not_confirmed_without_rest(self):
        buffers = buffers_of(minute("10:00"), minute("10:00", volume=2.0))
        assert shown(buffers).state is CORRECTED
        assert buffers.unconfirmed(slot("10:01")) == (slot("10:00"),)
        buffers.take(minute("10:00", CONFIRMED, volume=2.0))
        assert buffers.unconfirmed(slot("10:01")) == ()

    def test_a_correction_handed_over_by_another_feed_is_asked_for_unless_rest_gave_it(self):
        buffers = buffers_of(minute("10:00", CORRECTED, source="stream"), minute("10:01", CORRECTED, source="rest"))
        assert buffers.unconfirmed(slot("10:02")) == (slot("10:00"),)
        buffers.take(minute("10:00", CONFIRMED))
        assert buffers.unconfirmed(slot("10:02")) == ()
        assert [candle.state for candle in buffers.buffer(M1)] == [CORRECTED, CORRECTED]

    def test_confirmed_until_the_first_minute_that_is_neither_confirmed_nor_absent(self):
        buffers = buffers_of(*every("10:00", "10:03", CONFIRMED), minute("10:04", CONFIRMED), minute("10:05", FORMING))
        assert buffers.confirmed_until_us == slot("10:03")
        buffers.absent(slot("10:03"))
        assert buffers.confirmed_until_us == slot("10:05")


class TestConsistency:
    def test_every_closed_candle_is_checked_against_its_minutes(self):
        buffers = buffers_of(*every("00:00", "10:00"))
        assert buffers.counts.checked == 120 + 40 + 10 + 2
        for text in ("10:00", "10:01", "10:02", "10:03", "10:04"):
            buffers.take(minute(text))
        assert buffers.counts.checked == 120 + 40 + 10 + 2 + 1
        assert buffers.inconsistencies == ()

    def test_a_candle_with_absent_minutes_is_checked_too(self):
        buffers = buffers_of(*every("10:00", "10:04"))
        buffers.absent(slot("10:02"))
        assert buffers.counts.checked == 0
        buffers.absent(slot("10:04"))
        assert buffers.counts.checked == 1

    def test_a_candle_of_which_a_minute_is_not_known_cannot_be_checked(self):
        buffers = buffers_of(*every("10:00", "10:04"))
        buffers.seed(M5, [minute("10:00", CONFIRMED, minutes=5, volume=9.0, received_us=slot("10:06"))])
        assert shown(buffers, M5).volume == 9.0
        assert buffers.counts.checked == 0

    def test_a_cascade_that_went_wrong_is_seen(self):
        """Damage one candle in between: what is made of it must not pass unnoticed."""
        buffers = buffers_of(*every("10:00", "10:14"))
        fives = buffers._ladder.level(M5).candles
        fives[slot("10:05")] = fives[slot("10:05")]._replace(high=500.0)
        buffers.take(minute("10:14"))
        assert buffers.inconsistencies == ("15m 2024-02-29T10:00:00Z: its minutes say otherwise in high",)

    def test_a_state_alone_is_not_checked_again(self):
        buffers = buffers_of(*every("10:00", "10:05"))
        before = buffers.counts.checked
        for candle in every("10:00", "10:05", CONFIRMED):
            buffers.take(candle)
        assert shown(buffers, M5).state is CONFIRMED
        assert buffers.counts.checked == before

    def test_buffers_are_given_all_at_once_too(self):
        buffers = buffers_of(*every("10:00", "10:05"))
        assert list(buffers.buffers()) == [M1, *RESAMPLED]
        assert buffers.buffers()[M5] == buffers.buffer(M5)
