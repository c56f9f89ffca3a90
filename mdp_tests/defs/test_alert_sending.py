"""Each alert arrives once however the webhook behaves, over real connections."""

from __future__ import annotations

import logging
import time

import pytest

from mdp.defs import alert_sending
from mdp.defs.alert_sending import send
from mdp.defs.alerting import Alert
from mdp_tests.support.webhook import say, webhook


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr(alert_sending, "PAUSE_S", 0.0)


def alert(number=0):
    return Alert("check_failed", f"check {number}", "it failed")


def test_an_alert_arrives_as_chats_read_it():
    with webhook(say(200, b"ok")) as (url, heard):
        done = send(url, [Alert("run_failed", "heal_job", "Run failed", {"run_id": "r"}), alert()], "staging")
    assert (len(done.sent), done.unsent, done.error) == (2, [], "")
    assert heard[0]["text"] == "❗ mdp staging: Run failed"
    assert (heard[0]["kind"], heard[0]["run_id"], heard[0]["environment"]) == ("run_failed", "r", "staging")


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (say(500), "the webhook answered 500"),
        (say(302, Location="http://127.0.0.1:1/elsewhere"), "the webhook answered 302"),
        (lambda handler: handler.connection.close(), "the webhook did not answer: "),
    ],
)
def test_what_does_not_arrive_waits_and_the_address_is_said_nowhere(answer, error, caplog):
    caplog.set_level(logging.DEBUG)
    with webhook(answer) as (url, heard):
        done = send(url, [alert(1), alert(2)], "staging")
    assert (done.sent, done.unsent) == ([], [alert(1), alert(2)])
    assert done.error.startswith(error)
    assert len(heard) == alert_sending.TRIES
    assert "SECRET" not in done.error
    assert "SECRET" not in caplog.text


def test_an_alert_that_is_refused_for_good_does_not_stand_before_the_others():
    def answer(handler):
        say(400 if len(heard) == 1 else 200)(handler)

    with webhook(answer) as (url, heard):
        done = send(url, [alert(1), alert(2)], "staging")
    assert done == ([alert(2)], [], "the webhook answered 400", (alert(1),))
    assert [one["about"] for one in heard] == ["check 1", "check 2"]


def test_an_answer_of_any_length_costs_nothing():
    with webhook(say(200, b"x" * 5_000_000)) as (url, _):
        begun = time.monotonic()
        assert send(url, [alert()], "staging").error == ""
        assert time.monotonic() - begun < 5


def drip(handler):
    """Answer a byte now and then: no pause is ever long."""
    for _ in range(100):
        handler.wfile.write(b"H")
        handler.wfile.flush()
        time.sleep(0.05)


@pytest.mark.parametrize("answer", [drip, lambda handler: handler.server.release.wait(5)])
def test_a_webhook_that_is_slow_does_not_hold_the_daemon(monkeypatch, answer):
    monkeypatch.setattr(alert_sending, "TIMEOUT_S", 0.1)
    with webhook(answer) as (url, _):
        begun = time.monotonic()
        done = send(url, [alert(1), alert(2)], "staging")
        assert time.monotonic() - begun < 4
    assert "TimeoutError" in done.error
    assert done.unsent == [alert(1), alert(2)]


def test_what_finds_no_time_in_one_look_waits_for_the_next(monkeypatch):
    monkeypatch.setattr(alert_sending, "ALL_S", 0.0)
    with webhook(say(200)) as (url, heard):
        done = send(url, [alert(1)], "staging")
    assert (done.unsent, heard) == ([alert(1)], [])
    assert "next look" in done.error
