"""The file of each environment."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest

from mdp.config.environment_names import ENVIRONMENTS, environment_file
from mdp.config.exchange_sections import ExchangeSettings
from mdp.config.masking import SECRETS
from mdp.config.services import exchange_settings
from mdp.config.settings import load_settings
from mdp.domain.market import Exchange

PRODUCTION = [name for name in ENVIRONMENTS if name.startswith("production")]
CENTRAL = ["central-dev", "staging", *PRODUCTION]

SECRET = re.compile(r"secret|password|passwd|token|credential|api_?key|private", re.IGNORECASE)
LOCAL_PATH = re.compile(r"^(/|~|\.|[A-Za-z]:\\|file:)")
HOST = re.compile(r"://|@|\b[a-z0-9-]+(\.[a-z0-9-]+)+(:\d+)?$", re.IGNORECASE)
THIS_MACHINE = re.compile(r"localhost|127\.|0\.0\.0\.0|::1|host\.docker|\.local\b", re.IGNORECASE)


def leaves(table: dict[str, Any], *above: str) -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from leaves(value, *above, key)
        else:
            yield ".".join([*above, key]), value


def faults(table: dict[str, Any]) -> list[str]:
    """What a file that is committed for production must not hold."""
    found = []
    for name, value in leaves(table):
        if SECRET.search(name):
            found.append(f"{name}: a secret")
        if isinstance(value, str) and LOCAL_PATH.search(value):
            found.append(f"{name}: a local path")
        if isinstance(value, str) and THIS_MACHINE.search(value):
            found.append(f"{name}: a host that is this machine")
        if isinstance(value, str) and re.search(r"//[^/@]+@", value):
            found.append(f"{name}: a password in an address")
    return found


def test_there_is_a_file_for_every_environment_and_no_other():
    folder = environment_file("local-dev").parent
    assert {path.name for path in folder.iterdir()} == {f"{name}.toml" for name in ENVIRONMENTS}


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_every_environment_loads_from_its_file(monkeypatch, name):
    monkeypatch.setenv("MDP_ENV", name)
    written = tomllib.loads(environment_file(name).read_text())
    settings = load_settings()
    assert settings.env == written["env"] == name
    loaded = dict(leaves(settings.model_dump()))
    assert settings.history_days == written.get("history_days")
    assert {key: loaded[key] for key, _ in leaves(written)} == dict(leaves(written))


@pytest.mark.parametrize("name", PRODUCTION)
def test_production_holds_no_literal_secret_or_local_path_and_not_this_machine(name):
    assert faults(tomllib.loads(environment_file(name).read_text())) == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[bigquery]\napi_key = 'x'", "bigquery.api_key: a secret"),
        ("access_token = 'x'", "access_token: a secret"),
        ("data_dir = '/srv/data'", "data_dir: a local path"),
        ("data_dir = './data'", "data_dir: a local path"),
        ("[exchanges.okx]\nrest_url = 'http://localhost:80'", "exchanges.okx.rest_url: a host that is this machine"),
        ("rest_url = 'http://127.0.0.1'", "rest_url: a host that is this machine"),
        ("rest_url = 'https://me:x@api.okx.com'", "rest_url: a password in an address"),
    ],
)
def test_each_fault_would_be_seen(text, fault):
    assert faults(tomllib.loads(text)) == [fault]


def test_every_environment_keeps_what_it_generates_where_no_other_does():
    assert len({load_settings(env=name).data_dir for name in ENVIRONMENTS}) == len(ENVIRONMENTS)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_no_file_names_a_host_or_a_secret(name):
    written = tomllib.loads(environment_file(name).read_text())
    assert [one for one, value in leaves(written) if isinstance(value, str) and HOST.search(value)] == []
    assert [one for one, _ in leaves(written) if tuple(one.split(".")) in SECRETS] == []
    assert faults(written) == []


@pytest.mark.parametrize("value", ["https://api.okx.com", "redis://h", "api.okx.com", "10.0.0.1:6379", "a@b"])
def test_each_host_would_be_seen(value):
    assert HOST.search(value)


def asked(name: str) -> dict[Exchange, ExchangeSettings]:
    settings = load_settings(env=name)
    return {exchange: exchange_settings(settings, exchange) for exchange in Exchange}


@pytest.mark.parametrize("name", [name for name in CENTRAL if name != "production-paper"])
def test_where_traders_look_every_exchange_is_the_real_one(name):
    settings = load_settings(env=name)
    assert (settings.store, settings.simulated, settings.exchanges.network) == ("bigquery", False, "real")
    found = asked(name)
    assert {one.rest_url for one in found.values()} == {
        "https://api.binance.com",
        "https://api.bybit.com",
        "https://www.okx.com",
        "https://www.deribit.com",
    }
    assert all(str(one.ws_url).startswith("wss://") and not one.demo for one in found.values())
    assert [str(exchange) for exchange, one in found.items() if one.archive_url] == ["binance", "okx"]


def test_paper_trading_asks_the_addresses_for_demo_trading_and_no_archive():
    found = asked("production-paper")
    assert {one.rest_url for one in found.values()} == {
        "https://demo-api.binance.com",
        "https://api-demo.bybit.com",
        "https://www.okx.com",
        "https://test.deribit.com",
    }
    assert [str(exchange) for exchange, one in found.items() if one.demo] == ["okx"]
    assert {one.archive_url for one in found.values()} == {None}


@pytest.mark.parametrize("name", [name for name in ENVIRONMENTS if name not in CENTRAL])
def test_elsewhere_no_real_exchange_is_asked_unless_somebody_says_so(name):
    settings = load_settings(env=name)
    assert (settings.store, settings.simulated) == ("duckdb", True)
    assert all(settings.exchanges.of(exchange).rest_url is None for exchange in Exchange)
    assert all(str(one.rest_url).startswith("http://127.0.0.1:") for one in asked(name).values())


def test_local_integration_asks_the_real_exchanges_when_it_is_told_to(monkeypatch):
    monkeypatch.setenv("MDP_SIMULATED", "false")
    found = asked("local-integration")
    assert found[Exchange.BINANCE].rest_url == "https://api.binance.com"
    assert {one.rate_share for one in found.values()} == {0.25}


def test_history_grows_from_a_laptop_to_all_of_it():
    days = [load_settings(env=name).history_days for name in ("local-dev", "local-integration", "central-dev")]
    assert days == sorted(days)
    assert len(set(days)) == 3
    assert {load_settings(env=name).history_days for name in ("staging", *PRODUCTION)} == {None}


def test_development_leaves_most_of_the_quotas_to_production():
    assert {one.rate_share for one in asked("central-dev").values()} == {0.25}
    assert {one.rate_share for name in ("staging", *PRODUCTION) for one in asked(name).values()} == {0.8}


def test_no_two_environments_write_to_one_dataset():
    found = [load_settings(env=name).bigquery.dataset for name in [*CENTRAL, "integration-test"]]
    assert len(set(found)) == len(found)


def test_paper_and_live_differ_in_their_dataset_and_their_network_alone():
    apart = ("env", "data_dir", "bigquery.dataset", "exchanges.network")
    found = []
    for name in PRODUCTION:
        settings = dict(leaves(load_settings(env=name).model_dump()))
        found.append({key: value for key, value in settings.items() if key not in apart})
    assert found[0] == found[1]


def test_staging_is_production_but_for_its_name_and_its_data():
    apart = ("env", "data_dir", "bigquery.dataset")
    staging, live = (dict(leaves(load_settings(env=name).model_dump())) for name in ("staging", "production-live"))
    assert {key for key in live if live[key] != staging[key]} == set(apart)
