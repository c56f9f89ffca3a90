"""What people are told of days that could not be collected, and of requests that were repeated."""

from __future__ import annotations

import json

import pytest

from mdp.cli.backfill import Result, repeated
from mdp.cli.coverage import show_coverage
from mdp.config.settings import load_settings
from mdp.pipeline.failed_days import FailedDays
from mdp.ports import FAILED_FETCHES
from mdp.storage import open_store
from mdp_tests.pipeline.test_failed_days import failed
from mdp_tests.support.builders import MARKET, NOW, window


@pytest.fixture
def data_dir(tmp_path, monkeypatch):
    monkeypatch.setenv("MDP_DATA_DIR", str(tmp_path))
    open_store(load_settings()).append(FAILED_FETCHES, failed("2024-12-30"))


@pytest.mark.usefixtures("data_dir")
def test_coverage_lists_the_days_whose_last_attempt_failed_and_why(capfdbinary):
    show_coverage([str(MARKET)], None, None, as_json=True)
    (row,) = json.loads(capfdbinary.readouterr().out)
    assert (row["start"], row["end"], row["missing"]) == ("2024-12-30", "2024-12-31", {"unfetched": 1440})
    assert row["failed"] == [
        {"start": "2024-12-30", "end": "2024-12-31", "error": "ExchangeUnavailable", "message": "503",
         "retryable": True, "attempts": 3, "failed_at": "2026-01-02T03:04:05Z"}
    ]  # fmt: skip


@pytest.mark.usefixtures("data_dir")
def test_the_table_is_followed_by_a_line_for_each_stretch(capsys):
    show_coverage([str(MARKET)], None, None, as_json=False)
    *_, last = capsys.readouterr().out.splitlines()
    assert last == (
        "NOT COLLECTED binance:BTC-USDT [2024-12-30T00:00:00Z, 2024-12-31T00:00:00Z): ExchangeUnavailable at "
        "2026-01-02T03:04:05Z, 503; asking again may help"
    )


@pytest.mark.parametrize(
    ("retried", "said"),
    [
        ({"ExchangeUnavailable": 1, "RateLimited": 2}, "3 requests repeated: 2 RateLimited, 1 ExchangeUnavailable"),
        ({"PayloadError": 1}, "1 request repeated: 1 PayloadError"),
    ],
)
def test_it_is_said_what_was_repeated_and_why(retried, said):
    assert repeated(retried) == said


def test_a_backfill_after_which_a_day_has_failed_is_not_complete():
    one = FailedDays(MARKET, window("2024-12-30", "2024-12-31"), "RateLimited", "429", True, 3, NOW)
    nothing = {"coverage": {}, "shortfalls": (), "failures": (), "retried": {}}
    assert not Result(**nothing, failed_days=(one,)).is_complete
    assert Result(**nothing, failed_days=()).is_complete
