"""Which days ``mdp backfill`` collects that is told none: as many as the environment wants."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from mdp.cli.backfill import windows_to_fill
from mdp.config.settings import load_settings
from mdp.domain.market import Market
from mdp.errors import InputError
from mdp_tests.support.builders import window

NOW = datetime(2025, 3, 15, 23, 59, 59, tzinfo=UTC)
BTC, BYBIT = Market.parse("binance:BTC-USDT"), Market.parse("bybit:BTC-USDT")
UNKNOWN = Market.parse("okx:SOL-USDT")
"""Nobody has established when it was listed."""


def days(start: str | None = None, end: str | None = None, *, history_days: int | None = 14, markets=(BTC, BYBIT)):
    return windows_to_fill(load_settings(history_days=history_days), list(markets), start, end, NOW)


def test_it_begins_so_many_days_before_today_and_ends_with_yesterday():
    assert days() == {market: window("2025-03-01", "2025-03-15") for market in (BTC, BYBIT)}
    assert days(history_days=1, markets=[BTC]) == {BTC: window("2025-03-14", "2025-03-15")}


def test_a_day_that_is_given_wins_over_the_setting():
    assert days("2020-01-01", markets=[BYBIT]) == {BYBIT: window("2020-01-01", "2025-03-15")}
    assert days("2017-08-10", history_days=None, markets=[BTC]) == {BTC: window("2017-08-10", "2025-03-15")}
    assert days(end="2025-03-03", markets=[BTC]) == {BTC: window("2025-03-01", "2025-03-03")}
    assert days("2024-01-01", "2024-01-02", markets=[BTC]) == {BTC: window("2024-01-01", "2024-01-02")}


def test_all_of_history_begins_with_the_day_on_which_each_market_was_listed():
    assert days(history_days=None, markets=[BTC, BYBIT, UNKNOWN]) == {
        BTC: window("2017-08-17", "2025-03-15"),
        BYBIT: window("2021-07-05", "2025-03-15"),
        UNKNOWN: window("2017-08-01", "2025-03-15"),
    }


def test_more_days_than_there_are_is_all_of_them():
    assert days(history_days=10_000, markets=[UNKNOWN]) == {UNKNOWN: window("2017-08-01", "2025-03-15")}


def test_a_market_that_was_not_listed_yet_is_left_out_and_when_none_is_left_that_is_said():
    assert days(end="2021-07-05", history_days=None) == {BTC: window("2017-08-17", "2021-07-05")}
    with pytest.raises(InputError, match="end: expected a day after 2021-07-05, on which the first of these markets"):
        days(end="2021-07-05", history_days=None, markets=[BYBIT])


def test_an_end_before_the_days_the_environment_wants_is_refused():
    with pytest.raises(InputError, match="start: expected a time before end 2025-03-01T00:00:00Z, got '2025-03-01"):
        days(end="2025-03-01")


def test_today_is_not_over():
    with pytest.raises(InputError, match="end: expected at most 2025-03-15"):
        days(end="2025-03-16")
