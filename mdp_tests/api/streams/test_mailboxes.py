"""What waits for a client is the newest of each candle, is bounded, and never hides an end state."""

from __future__ import annotations

import random

import pytest

from mdp.api.streams.mailboxes import MOST_PENDING
from mdp.api.streams.messages import Message, Pong
from mdp.api.streams.topics import LONGEST_LOG
from mdp_tests.api.live_service import CONFIRMED, FORMING
from mdp_tests.api.streams.scripted import BUFFERS, CLOSED, Believer, Scene, kinds, said


@pytest.fixture
def scene(tmp_path):
    return Scene(tmp_path).begin()


def test_the_whole_comes_first_then_each_change_with_the_next_number(scene):
    mailbox = scene.listen()
    [whole] = said(mailbox)
    assert (whole["type"], whole["seq"], len(whole["rows"])) == ("snapshot", 10, 3)
    for close, state in ((7.0, FORMING), (8.0, FORMING), (8.5, CLOSED)):
        scene.change(3, close, state)
        [candle] = said(mailbox)
        assert (candle["type"], candle["seq"], candle["close"], candle["state"]) == (
            "candle", scene.buffer.seq, close, state.value,
        )  # fmt: skip
        assert "skipped" not in candle
    assert candle["open_time"] == "2025-01-06T10:03:00Z", "spelled as in the snapshot"


def test_a_change_that_came_before_the_first_look_is_in_the_snapshot_alone(scene):
    mailbox = scene.listen()
    scene.change(3, 7.0)
    [whole] = said(mailbox)
    assert (whole["type"], whole["seq"], whole["rows"][-1][4]) == ("snapshot", 11, 7.0)


def test_the_newest_state_replaces_older_ones_of_the_same_candle_and_says_how_many(scene):
    mailbox = scene.listen()
    said(mailbox)
    for close in (7.0, 8.0, 9.0):
        scene.change(3, close)
    [candle] = said(mailbox)
    assert (candle["close"], candle["seq"], candle["skipped"]) == (9.0, 13, 2)
    assert scene.measures.messages_conflated == 2


def test_ends_of_different_candles_all_wait(scene):
    mailbox = scene.listen()
    said(mailbox)
    for number in range(3, 3 + MOST_PENDING):
        scene.change(number, 1.0)
        scene.change(number, 2.0, CLOSED)
    found = said(mailbox)
    assert [one["state"] for one in found] == ["closed"] * MOST_PENDING
    assert [one.get("skipped", 0) for one in found] == [1] * MOST_PENDING


def test_more_than_may_wait_becomes_the_whole_once(scene):
    mailbox = scene.listen()
    believer = Believer().hear(mailbox)
    for number in range(3, 3 + 3 * MOST_PENDING):
        scene.change(number, 2.0, CLOSED)
    [whole] = said(mailbox)
    assert (whole["type"], whole["seq"]) == ("snapshot", scene.buffer.seq)
    believer.believe(whole)
    scene.change(3, 9.0, CONFIRMED)
    believer.hear(mailbox)
    assert len(believer.ends) == 3 + 3 * MOST_PENDING + 1


@pytest.mark.parametrize("seed", range(12))
def test_whoever_believes_what_it_hears_knows_the_buffer_however_seldom_it_reads(scene, seed):
    chance = random.Random(seed)
    mailbox = scene.listen()
    believer = Believer()
    number = 3
    for _ in range(200):
        step = chance.random()
        if step < 0.02:
            scene.lose((number, 5.0), (number - 1, 6.0, CLOSED)) if chance.random() < 0.5 else scene.age()
        elif step < 0.08:
            scene.change(chance.randrange(max(0, number - 20), number), chance.random(), CONFIRMED)
        else:
            number += step > 0.8
            scene.change(number, chance.random(), CLOSED if step > 0.6 else FORMING)
        if chance.random() < 0.15:
            believer.hear(mailbox)
    believer.hear(mailbox)
    assert believer.seq == scene.buffer.seq
    assert believer.is_stale == scene.buffer.is_stale
    newest = [(one.close, one.state.value) for one in scene.buffer.candles]
    assert [believer.rows[opened] for opened in sorted(believer.rows)][-len(newest) :] == newest


@pytest.mark.parametrize("away", [0, 1, 5, 40, LONGEST_LOG - 1])
def test_whoever_comes_back_hears_only_what_changed_since(scene, away):
    believer = Believer().hear(scene.listen())
    since = believer.seq
    for number in range(away):
        scene.change(3 + number // 2, float(number), CLOSED if number % 2 else FORMING)
    mailbox = scene.listen(resumed=scene.topic().since_seq(since))
    found = said(mailbox)
    assert [one["type"] for one in found if one["type"] != "fresh"] == ["candle"] * ((away + 1) // 2)
    for one in found:
        believer.believe(one)
    assert believer.seq == scene.buffer.seq
    assert sum(1 for one in believer.ends[3:]) == away // 2, "each end once, also of those that left the buffer"


def test_what_changed_since_comes_in_the_order_of_its_last_changes_and_adds_up(scene):
    believer = Believer(seq=10)
    for number, close in ((3, 1.0), (4, 2.0), (3, 3.0), (2, 4.0), (4, 5.0), (3, 6.0)):
        scene.change(number, close, CONFIRMED)
    mailbox = scene.listen(resumed=scene.topic().since_seq(10))
    assert [(one["seq"], one["close"]) for one in said(mailbox) if one["type"] == "candle"] == [
        (14, 4.0), (15, 5.0), (16, 6.0),
    ]  # fmt: skip
    believer.hear(scene.listen(resumed=scene.topic().since_seq(10)))
    assert believer.seq == 16


def test_changes_that_nobody_can_go_on_from_any_more_are_forgotten(scene):
    for number in range(3 * LONGEST_LOG):
        scene.change(3 + number, 1.0, CLOSED)
    assert len(scene.topic()._changes) <= LONGEST_LOG


def test_what_is_too_long_ago_or_of_another_life_of_the_buffer_is_no_place_to_go_on_from(scene):
    assert scene.topic().since_seq(9) is None
    assert scene.topic().since_seq(11) is None
    assert scene.topic().since_seq(10) == (10, [])
    for number in range(LONGEST_LOG + 1):
        scene.change(3 + number, 1.0, CLOSED)
    assert scene.topic().since_seq(10) is None
    assert len(scene.topic().since_seq(11).news) == LONGEST_LOG
    scene.lose((3 + LONGEST_LOG + 1, 2.0, CLOSED))
    assert scene.topic().since_seq(scene.buffer.seq - 1) is None, "nobody knows what was said in between"
    assert scene.topic().since_seq(scene.buffer.seq) is not None


def test_lost_changes_are_told_by_one_snapshot(scene):
    mailbox = scene.listen()
    said(mailbox)
    scene.lose((3, 1.0, CLOSED), (4, 2.0, CLOSED), (5, 3.0))
    assert kinds(mailbox) == ["snapshot"]


def test_age_is_told_once_each_way_and_a_snapshot_tells_it_itself(scene):
    mailbox = scene.listen()
    said(mailbox)
    scene.age()
    assert said(mailbox) == [{"type": "stale", "topic": "candles.binance.BTC-USDT.1m"}]
    scene.come_back()
    assert kinds(mailbox) == ["fresh"]
    scene.age()
    scene.come_back()
    assert kinds(mailbox) == [], "it was never told that it was stale"
    scene.age()
    scene.change(3, 1.0)
    scene.age()
    assert kinds(mailbox) == ["candle", "stale"]
    assert [(one["type"], one["is_stale"]) for one in said(scene.listen())] == [("snapshot", True)]
    assert kinds(scene.listen(resumed=scene.topic().since_seq(scene.buffer.seq))) == ["stale"]


def test_a_buffer_that_nobody_wrote_yet_comes_when_it_is_there(tmp_path):
    scene = Scene(tmp_path)
    mailbox = scene.listen()
    assert kinds(mailbox) == []
    scene.begin()
    scene.change(3, 1.0)
    assert kinds(mailbox) == ["snapshot"]


def test_what_waits_of_a_topic_that_is_not_wanted_any_more_is_not_sent(scene):
    mailbox = scene.listen()
    scene.change(3, 1.0)
    mailbox.unsubscribe("candles.binance.BTC-USDT.1m")
    scene.change(3, 2.0)
    assert mailbox.take() == []
    assert scene.topic().listeners == set()


def test_buffers_tell_ends_and_not_what_forms(scene):
    mailbox = scene.listen(BUFFERS)
    assert [(one["reason"], one["seq"]) for one in said(mailbox)] == [("rewritten", 10)]
    scene.change(3, 1.0)
    scene.change(3, 2.0, CLOSED)
    scene.change(2, 9.0, CONFIRMED)
    found = [(one["type"], one["reason"], one["seq"], one["open_time"]) for one in said(mailbox)]
    assert found == [
        ("buffer", "closed", 12, "2025-01-06T10:03:00Z"), ("buffer", "confirmed", 13, "2025-01-06T10:02:00Z"),
    ]  # fmt: skip
    scene.lose((4, 1.0, CLOSED), (5, 1.0, CLOSED))
    assert [one["reason"] for one in said(mailbox)] == ["rewritten"]


def test_a_take_is_bounded_and_the_rest_comes_with_the_next(scene):
    mailbox = scene.listen()
    for _ in range(400):
        mailbox.answer(next(iter(scene.listen().take())))
    first = mailbox.take()
    assert sum(len(one.text) for one in first) < 70_000
    assert len(first) + len(said(mailbox)) == 401


def test_who_is_dismissed_hears_only_goodbye_however_much_it_asks(scene):
    mailbox = scene.listen()
    mailbox.answer(Message.of(Pong("2026-01-01T00:00:00Z")))
    mailbox.dismiss("the key is not valid any more")
    for number in range(3):
        mailbox.subscribe(scene.topic(), None)
        mailbox.answer(Message.of(Pong("2026-01-01T00:00:00Z")))
        scene.change(number, 5.0)
        assert (mailbox.take(), mailbox.is_empty, mailbox.closing) == ([], True, "the key is not valid any more")
    assert not scene.topic().listeners
