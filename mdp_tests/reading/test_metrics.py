"""What Prometheus is told of the platform is what the bus said; what nobody knows is not told."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mdp.bus.report import BudgetReport
from mdp.cli.metrics import show_metrics
from mdp.config.settings import PROJECT_ROOT, load_settings
from mdp.reading.metrics import Found, platform_exposition
from mdp_tests.reading.platform_facts import NOW_US, all_of_it, budgets, counted, facts, feed, health, samples

PAGE = PROJECT_ROOT / "docs" / "reference" / "metrics.md"


@pytest.fixture
def settings(tmp_path):
    return load_settings(data_dir=tmp_path, simulated=True)


def told(settings, *, live=None, counts=None, report=None):
    return samples(platform_exposition(Found(settings, report or budgets(), counts, live)))


def test_a_feed_that_runs_is_up_and_one_that_does_not_is_down(settings):
    found = told(settings, live=facts(feed(health())))
    assert found["mdp_feed_up", ("exchange", "binance")] == 1
    assert found["mdp_feed_up", ("exchange", "okx")] == 0
    assert found["mdp_feed_lease_held", ("exchange", "binance")] == 1
    assert found["mdp_feed_resident_memory_bytes", ("exchange", "binance")] == 120.5e6


def test_of_each_market_it_is_told_what_its_feed_says_in_seconds(settings):
    market = ("market", "binance:BTC-USDT")
    found = told(settings, live=facts(feed(health(state="polling"))))
    assert found["mdp_feed_close_lag_seconds", market] == 0.25
    assert found["mdp_feed_update_lag_seconds", market] == -0.02
    assert found["mdp_feed_updates_total", market] == 7
    states = {state: found["mdp_feed_state", market, ("state", state)] for state in ("streaming", "polling", "refused")}
    assert states == {"streaming": 0, "polling": 1, "refused": 0}
    assert found["mdp_market_behind_seconds", market] == 30
    assert found["mdp_market_late", market] == 0
    assert found["mdp_market_late", ("market", "okx:BTC-USDT")] == 1


def test_what_a_feed_does_not_know_is_not_told_as_zero(settings):
    found = told(settings, live=facts(feed(health(lag_ms=None, newest_us=None))))
    names = {key[0] for key in found}
    assert "mdp_feed_update_lag_seconds" not in names
    assert "mdp_market_behind_seconds" not in names
    assert found["mdp_market_late", ("market", "binance:BTC-USDT")] == 1


def test_the_backlog_waits_in_the_markets_time(settings):
    found = told(settings, live=facts(feed(health()), entries=3, oldest_us=NOW_US - 90_000_000, live=None))
    assert found["mdp_live_backlog_entries",] == 3
    assert found["mdp_live_backlog_age_seconds",] == 90
    assert found["mdp_live_run_up",] == 0
    assert told(settings, live=facts(feed(health())))["mdp_live_backlog_age_seconds",] == 0


def test_a_bus_that_is_away_is_said_and_nothing_is_invented(settings):
    found = told(settings, report=BudgetReport("bus", False, "refused", []))
    assert found["mdp_bus_up",] == 0
    assert not [key for key in found if key[0].startswith(("mdp_feed", "mdp_live", "mdp_market", "mdp_fetch"))]
    assert found["mdp_disk_free_bytes",] > 0


def test_what_all_processes_counted_is_told_as_counters(settings):
    found = told(settings, counts=counted())
    assert found["mdp_fetch_requests_total", ("exchange", "a_exchange"), ("outcome", "a_outcome")] == 1.5
    assert found["mdp_coverage_ratio", ("market", "a_market")] == 0.5


def test_every_name_is_as_prometheus_has_them_and_is_told_once(settings):
    families = list(text_string_to_metric_families(all_of_it(settings)))
    names = [family.name for family in families]
    assert len(set(names)) == len(names)
    for family in families:
        if not family.name.startswith("mdp_"):
            continue
        assert re.fullmatch(r"[a-z][a-z0-9_]*", family.name)
        assert family.documentation
        assert not family.name.endswith(("_ms", "_mb", "_us", "_percent")), "base units"
        if family.type == "counter":
            assert all(sample.name.endswith(("_total", "_created")) for sample in family.samples)
        else:
            assert not family.name.endswith("_total")


def test_the_command_answers_also_where_nobody_runs_a_bus(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MDP_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("MDP_SIMULATED", "true")
    show_metrics()
    found = samples(capsys.readouterr().out)
    assert found["mdp_bus_up",] == 0
    assert not list(Path(tmp_path).iterdir())


def page_of(settings):
    lines = [
        "# Metrics",
        "",
        "What `/metrics` of the service says (written by `make golden`, held by a test); `mdp metrics` prints all but",
        "those of a worker. How they come about, and what to do when they are bad: [operations](../operations.md).",
    ]
    groups = {"mdp_budget": "Budgets", "mdp_feed": "Live", "mdp_market": "Live", "mdp_live": "Live"}
    found = {}
    for family in text_string_to_metric_families(all_of_it(settings)):
        if not family.name.startswith("mdp_"):
            continue
        labels = sorted({name for sample in family.samples for name in sample.labels if name != "le"})
        is_own = family.name.startswith(("mdp_http", "mdp_stream", "mdp_buffer", "mdp_mirror", "mdp_service"))
        known = groups.get(
            "_".join(family.name.split("_")[:2]), "The service, each worker of itself" if is_own else "Work"
        )
        name = family.name + {"counter": "_total", "info": "_info"}.get(family.type, "")
        said = ", ".join(f"`{label}`" for label in labels)
        found.setdefault(known, []).append(f"| `{name}` | {family.type} | {said} | {family.documentation} |")
    for title, rows in sorted(found.items()):
        lines += ["", f"## {title}", "", "| name | kind | labels | |", "|---|---|---|---|", *sorted(rows)]
    lines += ["", "Beside these: `process_…` and `python_…` of the worker, as Prometheus' own library tells them."]
    return "\n".join(lines) + "\n"


def test_the_reference_lists_every_metric(settings):
    page = page_of(settings)
    if os.environ.get("WRITE_SNAPSHOT"):
        PAGE.write_text(page, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == page, "make golden; then read the diff"
