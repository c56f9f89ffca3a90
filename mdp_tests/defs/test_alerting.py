"""Which alerts are due, and that each arrives once however the webhook behaves."""

from __future__ import annotations

import msgspec
import pytest

from mdp.defs.alerting import (
    MOST_AT_ONCE,
    MOST_WAITING,
    OVERLAP_S,
    Alert,
    Facts,
    FailedBackfill,
    FailedCheck,
    FailedRun,
    State,
    alerts_of,
    due,
    news,
    read_state,
    state_after,
)

DOWN = FailedRun("11111111-2", "candles_job", "okx: no answer", 90.0, "okx")


def alert(number=0):
    return Alert("check_failed", f"check {number}", "it failed")


def wrong(partition):
    return FailedCheck("ohlcv:integrity", "3 rows", "r", 90.0, partition)


def test_runs_of_one_job_and_exchange_are_one_alert():
    others = [
        FailedRun("22222222-3", "candles_job", "okx: no answer", 90.0, "okx"),
        FailedRun("3", "heal_job", "no room", 95.0),
    ]
    found = alerts_of(Facts(100.0, failed_runs=[DOWN, *others]))
    assert [(one.kind, one.about) for one in found] == [("run_failed", "candles_job okx"), ("run_failed", "heal_job")]
    assert found[0].text == "Run 11111111 of candles_job okx failed: okx: no answer"
    assert found[0].fields == {"run_id": "11111111-2", "job": "candles_job", "exchange": "okx"}


def test_each_kind_of_trouble_is_told():
    facts = Facts(
        100.0,
        failed_checks=[wrong("a|2024-12-01"), wrong("b|2024-12-01"), FailedCheck("dvol:holds", "no", "r", 90.0)],
        failed_backfills=[FailedBackfill("abc", "some", 90.0)],
        stuck_runs={"r": 7_200.0},
    )
    assert [one.text for one in alerts_of(facts)] == [
        "Check ohlcv:integrity of a|2024-12-01 failed (and 1 more): 3 rows", "Check dvol:holds failed: no",
        "Backfill abc: some", "Run r has been silent for 2.0 hours",
    ]  # fmt: skip


@pytest.mark.parametrize(("sent_at", "is_due"), [(None, True), (50.0, False), (40.0, True), (101.0, True)])
def test_the_same_alert_comes_again_only_after_a_while(sent_at, is_due):
    state = State(90.0, {} if sent_at is None else {alert().identity: sent_at})
    assert bool(due([alert()], state, now=100.0, repeat_after_s=60.0)) is is_due


def test_what_waits_goes_first_and_once():
    state = State(90.0, waiting=(alert(1), alert(2)))
    assert due([alert(2), alert(3)], state, now=100.0, repeat_after_s=60.0) == [alert(1), alert(2), alert(3)]


def test_a_thousand_alerts_are_summed_up():
    found = due(map(alert, range(1_000)), State(0.0), now=1.0, repeat_after_s=60.0)
    assert len(found) == MOST_AT_ONCE + 1
    assert found[-1].text == f"And {1_000 - MOST_AT_ONCE} more alerts; see Dagster."


def test_what_could_not_be_sent_for_hours_waits_and_is_not_summed_up_a_second_time():
    state, found = State(0.0), []
    for look in range(1, 6):  # each brings more than one look may send, and the webhook is down
        found = due([alert(100 * look + number) for number in range(30)], state, now=60.0 * look, repeat_after_s=3_600)
        state = state_after(state, Facts(60.0 * look), sent=[], unsent=found, repeat_after_s=3_600)
    assert [one.about for one in found if one.kind == "check_failed"] == [
        f"check {100 * look + number}" for look in range(1, 6) for number in range(MOST_AT_ONCE)
    ]
    assert [one.text for one in found if one.kind == "too_many"] == ["And 50 more alerts; see Dagster."]
    assert due([], state, now=400.0, repeat_after_s=3_600) == found


def test_a_given_up_alert_is_counted_once_however_long_nobody_is_there():
    state = State(0.0, waiting=tuple(map(alert, range(MOST_WAITING))))
    for look in (1, 2, 3):
        found = due([alert(1_000 + look)], state, now=60.0 * look, repeat_after_s=3_600)
        state = state_after(state, Facts(60.0 * look), sent=[], unsent=found, repeat_after_s=3_600)
    assert len(state.waiting) == MOST_WAITING
    assert state.waiting[0].text == "4 alerts could not be sent and were given up; see Dagster."
    assert state.waiting[-1] == alert(1_003)


def test_what_is_remembered_survives_and_stays_small():
    state = State(0.0, {"old": 1.0, "young": 95.0})
    after = state_after(state, Facts(100.0), sent=[alert(1)], unsent=[alert(2)], repeat_after_s=60.0)
    assert after == State(100.0, {"young": 95.0, alert(1).identity: 100.0}, (alert(2),))
    assert read_state(msgspec.json.encode(after).decode(), 200.0) == after
    assert read_state("{}", 200.0) == read_state(None, 200.0) == State(200.0)
    many = state_after(state, Facts(100.0), sent=[], unsent=[*map(alert, range(999))], repeat_after_s=60.0)
    assert len(many.waiting) == MOST_WAITING
    assert many.waiting[0].text.startswith(f"{999 - MOST_WAITING + 1} alerts could not be sent")
    assert many.waiting[-1] == alert(998)


def test_what_was_found_once_is_no_news_though_each_look_goes_back_behind_the_last():
    facts = Facts(100.0, [DOWN], [wrong("a|2024-12-01")], [FailedBackfill("abc", "some", 90.0)])
    after = state_after(State(50.0), facts, sent=[], unsent=[], repeat_after_s=60.0)
    assert alerts_of(news(facts, after)) == []
    late = FailedRun("late", "candles_job", "its row came after the look", 60.0, "okx")
    assert news(Facts(160.0, [DOWN, late]), after).failed_runs == [late]
    much_later = state_after(after, Facts(100.0 + 2 * OVERLAP_S), sent=[], unsent=[], repeat_after_s=60.0)
    assert much_later.known == {}
