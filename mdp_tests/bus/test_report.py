"""What people and machines are told of the budgets; looking starts nothing."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mdp.bus import open_budgets
from mdp.bus.messages import About, Cooling, QuotaTerms
from mdp.bus.metrics import exposition
from mdp.bus.report import BudgetReport, ExchangeUse, QuotaUse, read_report
from mdp.cli import budget as command
from mdp.config.settings import load_settings
from mdp.domain.market import Exchange
from mdp.domain.quota import Quota, Usage
from mdp.errors import InputError
from mdp_tests.bus.conftest import Caller

WEIGHT = QuotaUse("weight", 6000, 60, "local-dev", 4800, 1200, 1000, {"BTC-USDT": 300}, 40, 0)
BINANCE = ExchangeUse(
    "binance", "default", 500, 20, 12.5, 1, 7.0, "429", [WEIGHT], [About("host", 1, "local-dev", "backfill", 3)]
)
BUSY = BudgetReport("embedded", True, "", [BINANCE])


@pytest.fixture
def report(bus_dir):
    """The report on an address at which 30 of 100 were asked, and then the exchange refused."""
    settings = load_settings(data_dir=bus_dir, bus={"egress": "report"})

    async def ask(budgets):
        quotas = [Quota("weight", 100, 1e9, is_calendar=True), Quota("raw", 1000, 300)]
        shares = {"host": "exchange.test", "rate_share": 0.5, "symbol_shares": {"BTC-USDT": 0.8}, "timeout_s": 2.0}
        budget = budgets.of(Exchange.BINANCE, quotas, **shares)
        leave = await budget.acquire({"weight": 30, "raw": 1}, "BTC-USDT")
        leave.answered(Usage("weight", used=45))
        budget.cool_down(50, "429 of Binance")
        await asyncio.sleep(0.02)
        await budget.close()

    with open_budgets(settings) as budgets:
        asyncio.run(ask(budgets))
        found = read_report(settings)
    [use] = [use for use in found.exchanges if use.egress == "report"]
    return use


def test_the_report_says_what_was_asked_by_whom_and_what_must_be_left_alone(report):
    weight = next(quota for quota in report.quotas if quota.quota == "weight")
    assert (report.exchange, report.requests, report.limited, report.reason) == ("binance", 1, 1, "429 of Binance")
    assert 45 < report.cool_down_s <= 50
    assert (weight.amount, weight.share, weight.used, weight.used_by_env, weight.others) == (100, 50, 30, 30, 15)
    assert weight.used_by_symbol == {"BTC-USDT": 30}
    assert [process.priority for process in report.processes] == ["backfill"]


def test_a_cool_down_is_lifted_at_our_address_alone_and_said(bus_dir, redis, monkeypatch, capsys):
    other = {"lifting:okx", "elsewhere:binance", "lifting-too:binance"}
    for name in ("lifting:binance", "lifting:binance@127.0.0.1:80", *other):
        caller = Caller(redis, name, QuotaTerms("weight", 100, 60, 100, False))
        caller.hello(10.0, cooling=[Cooling(1e6, f"429 at {name}", is_counted=True)])
    monkeypatch.setenv("MDP_DATA_DIR", str(bus_dir))
    monkeypatch.setenv("MDP_BUS__EGRESS", "lifting")
    command.lift("binance")
    said = capsys.readouterr().out
    assert "because: 429 at lifting:binance\n" in said
    assert "because: 429 at lifting:binance@127.0.0.1:80\n" in said
    assert "elsewhere" not in said
    uses = [use for use in read_report(load_settings()).exchanges if use.reason.startswith("429 at")]
    assert {f"{use.egress}:{use.exchange}" for use in uses if use.cool_down_s} == other
    command.lift("binance")
    assert "nothing was lifted" in capsys.readouterr().out


def test_only_a_known_exchange_is_lifted_and_an_unused_data_directory_stays_empty(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MDP_DATA_DIR", str(tmp_path))
    with pytest.raises(InputError, match="binance, bybit, okx, deribit"):
        command.lift("kraken")
    command.lift("okx")
    assert "nothing was lifted" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_while_a_cool_down_lasts_the_table_says_how_to_end_it(capsys):
    command.write_report(BUSY, "table")
    assert "mdp budget --lift binance" in capsys.readouterr().out


def test_looking_starts_no_server_and_says_that_nobody_asks(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MDP_DATA_DIR", str(tmp_path))
    command.show_budget("table", is_watched=False)
    assert "nobody is asking" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_a_bus_that_cannot_be_reached_is_said_without_its_password(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MDP_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("MDP_BUS__URL", "redis://me:secret@127.0.0.1:1/0")
    command.show_budget("table", is_watched=False)
    said = capsys.readouterr().out
    assert "redis://***@127.0.0.1:1/0, unreachable" in said
    assert "secret" not in said


def test_the_table_shows_every_figure(capsys):
    command.write_report(BUSY, "table")
    said = capsys.readouterr().out
    for figure in ("binance", "6000", "60 s", "4800", "1200", "21%", "1000", "40", "500", "12.5 s", "7 s", "429"):
        assert figure in said


def test_the_host_is_shown_only_where_it_says_something(capsys):
    stand_in = replace(BINANCE, host="127.0.0.1:8790")
    for format_, label in (("table", "host"), ("prometheus", 'host="127.0.0.1:8790"')):
        command.write_report(BudgetReport("embedded", True, "", [BINANCE, stand_in]), format_)
        said = capsys.readouterr().out
        assert label in said
        assert "127.0.0.1:8790" in said
        command.write_report(BUSY, format_)
        assert "host" not in capsys.readouterr().out


def test_the_same_as_json(capsys):
    command.write_report(BUSY, "json")
    found = json.loads(capsys.readouterr().out)
    assert found["exchanges"][0]["quotas"][0]["used_by_env"] == 1000


def test_the_same_as_prometheus_reads_it(capsys):
    command.write_report(BUSY, "prometheus")
    families = {family.name: family for family in text_string_to_metric_families(capsys.readouterr().out)}
    figures = {name: [sample.value for sample in family.samples] for name, family in families.items()}
    assert figures["mdp_bus_up"] == [1]
    assert figures["mdp_budget_requests"] == [500]
    assert figures["mdp_budget_used"] == [1200]
    assert figures["mdp_budget_others"] == [40]
    assert figures["mdp_budget_cool_down_seconds"] == [7]
    assert families["mdp_budget_waiting"].samples[1].labels == {
        "egress": "default",
        "exchange": "binance",
        "priority": "backfill",
    }
    assert figures["mdp_budget_waiting"] == [0, 3]


def test_metrics_without_a_bus_say_just_that():
    assert "mdp_bus_up 0.0" in exposition(BudgetReport("embedded", False, "", []))


def test_a_format_that_is_not_known_is_refused_and_only_the_table_is_watched():
    with pytest.raises(InputError, match="table, json, prometheus"):
        command.show_budget("yaml", is_watched=False)
    with pytest.raises(InputError, match="watch"):
        command.show_budget("json", is_watched=True)
