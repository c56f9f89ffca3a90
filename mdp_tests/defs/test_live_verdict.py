"""What people are told of live trading: the verdict, the table of a flush, what changed."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from mdp.defs.live_facts import missing_markets
from mdp.defs.live_metadata import changed, flush_metadata, lateness
from mdp.defs.live_verdict import verdict
from mdp.domain.market import Market
from mdp.domain.timeframe import Timeframe
from mdp.live.health import FeedHealth, MarketHealth, read_feeds, write_health
from mdp.pipeline.live_report import Kept, MarketKept
from mdp.ports.live import Backlog
from mdp_tests.support.builders import NOW

BTC, ETH, OKX = map(Market.parse, ("binance:BTC-USDT", "binance:ETH-USDT", "okx:BTC-USDT"))
NOW_US = int(NOW.timestamp() * 1e6)
MINUTE = Timeframe.M1.microseconds
GOOD = MarketHealth("binance:BTC-USDT", "streaming", newest_us=NOW_US - MINUTE, confirmed_until_us=NOW_US - 2 * MINUTE)


def feed(*markets, holder="host:1:a"):
    return FeedHealth("binance", holder, 1, "host", NOW_US, NOW_US, False, markets, 80.0, 1.0)


def feeds(*markets, **known):
    return {"binance": feed(*markets, **known)}


def judged(health, backlog=None, persist_every_s=60.0):
    return verdict(lateness([BTC], health), backlog, persist_every_s, health)


@pytest.mark.parametrize(
    ("health", "wrong"),
    [
        (feeds(GOOD), "nothing"),
        ({}, "binance:BTC-USDT: no feed runs"),
        (feeds(), "binance:BTC-USDT: its feed has no minute of it yet"),
        (feeds(msgspec.structs.replace(GOOD, newest_us=NOW_US - 90 * 1_000_000)), "nothing"),
        (feeds(msgspec.structs.replace(GOOD, newest_us=NOW_US - 91 * 1_000_000)),
         "binance:BTC-USDT: its newest minute opened 91 s ago"),
        (feeds(msgspec.structs.replace(GOOD, state="refused", detail="no such symbol")),
         "binance:BTC-USDT: refused: no such symbol"),
    ],
)  # fmt: skip
def test_a_market_is_late_or_not(health, wrong):
    found = judged(health)
    assert (found.passed, found.metadata["wrong"]) == (wrong == "nothing", wrong)


@pytest.mark.parametrize(
    ("waits_s", "persist_every_s", "passed"), [(180, 60, True), (181, 60, False), (900, 300, True), (901, 300, False)]
)
def test_what_closed_must_not_wait_long_for_storage(waits_s, persist_every_s, passed):
    backlog = Backlog(7, NOW_US - waits_s * 1_000_000)
    assert judged(feeds(GOOD), backlog, persist_every_s).passed is passed


def test_one_market_cannot_hide_behind_another():
    late = lateness([BTC, ETH], feeds(GOOD))
    assert [one.why for one in late] == ["", "its feed has no minute of it yet"]


def test_a_flush_shows_every_market_of_the_settings_and_adds_batches_up():
    one = MarketKept(BTC, entries=2, stored=2, rejected={"high_is_highest": 1}, absent=3)
    kept = [Kept((one,), NOW, 0.25), Kept((replace(one, revised=1),), NOW, 0.5)]
    found = flush_metadata(kept, [BTC, OKX], feeds(GOOD), Backlog(4, None), lags=[1.0, 2.0])
    rows = {row.data["market"]: row.data for row in found["markets"].records}
    assert rows["binance:BTC-USDT"]["stored"] == 4
    assert (rows["binance:BTC-USDT"]["rejected"], rows["binance:BTC-USDT"]["absent"]) == (2, 6)
    assert rows["binance:BTC-USDT"]["newest"] != ""
    assert rows["okx:BTC-USDT"]["state"] == "no feed"
    assert (found["stored"], found["revised"], found["rejected"], found["backlog"]) == (4, 1, 2, 4)
    assert found["storing took (s)"] == 0.75


def test_what_changed_is_said_once_and_of_a_new_feed_nothing_of_the_old_is_counted():
    before = feeds(msgspec.structs.replace(GOOD, silences=3))
    worse = feeds(msgspec.structs.replace(GOOD, silences=4, state="polling", detail="reset"))
    assert changed(before, worse) == [
        (True, "binance:BTC-USDT is polling: reset"),
        (True, "binance:BTC-USDT: 1 streams were silent while REST knew more, and were opened anew"),
    ]
    assert changed(worse, worse) == []
    assert changed(before, feeds(GOOD, holder="host:2:b")) == []
    assert changed(worse, before)[0] == (False, "binance:BTC-USDT is streaming")


def test_old_missing_minutes_are_those_of_a_day_that_is_over():
    day = Timeframe.D1.microseconds
    midnight = NOW_US - NOW_US % day
    since = {"yesterday": midnight - MINUTE, "today": midnight + MINUTE}
    told = {
        name: replace_market_time(
            feeds(msgspec.structs.replace(GOOD, confirmed_until_us=at)), midnight + 2 * 60 * MINUTE
        )
        for name, at in since.items()
    }
    assert missing_markets(told["yesterday"]) == ["binance:BTC-USDT"]
    assert missing_markets(told["today"]) == []
    young = replace_market_time(told["yesterday"], midnight + MINUTE)
    assert missing_markets(young) == [], "not yet an hour"


def replace_market_time(health, market_us):
    return {name: msgspec.structs.replace(one, market_us=market_us) for name, one in health.items()}


def test_a_feed_of_another_version_is_said_to_be_unreadable_and_hides_no_other():
    found, unreadable = read_feeds({"feed/okx": b"{}", "feed/binance": write_health(feed(GOOD))})
    assert list(found) == ["binance"]
    assert len(unreadable) == 1
