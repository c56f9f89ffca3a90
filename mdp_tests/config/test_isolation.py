"""What an environment refuses, so that nothing of one is reached from another by accident."""

from __future__ import annotations

from collections import Counter

import pytest

from mdp.config.endpoints import endpoints, hosts
from mdp.config.environment_names import ENVIRONMENTS
from mdp.config.isolation import SHARED, datasets
from mdp.config.settings import load_settings
from mdp.domain.market import Exchange
from mdp.errors import ConfigError
from mdp.storage.bigquery.names import Datasets

PRODUCTION = ("production-paper", "production-live")


def refused(environment: str, **given) -> str:
    with pytest.raises(ConfigError) as error:
        load_settings(env=environment, **given)
    return str(error.value)


@pytest.mark.parametrize("name", SHARED)
def test_candles_that_are_made_up_do_not_reach_tables_that_others_trust(name):
    assert refused(name, simulated=True).startswith(f"MDP_SIMULATED: expected false in {name}: ")


def test_a_variable_that_a_laptop_left_behind_is_refused_too(monkeypatch):
    monkeypatch.setenv("MDP_SIMULATED", "true")
    assert refused("production-live").endswith("got True")


def test_tests_ask_no_real_exchange():
    assert refused("integration-test", simulated=False).startswith("MDP_SIMULATED: expected true in integration-test")
    own = {"okx": {"rest_url": "https://www.okx.com"}}
    assert refused("integration-test", exchanges=own).startswith("MDP_EXCHANGES__OKX__REST_URL: expected a host of ")
    load_settings(env="integration-test", exchanges={"okx": {"rest_url": "http://127.0.0.1:9000/okx"}})


def test_live_trading_sees_the_real_market_and_paper_trading_does_not():
    said = refused("production-live", exchanges={"network": "paper"})
    assert said == "MDP_EXCHANGES__NETWORK: expected real in production-live, got 'paper'"
    said = refused("production-paper", exchanges={"network": "real"})
    assert said == "MDP_EXCHANGES__NETWORK: expected paper in production-paper, got 'real'"
    said = refused("production-live", exchanges={"okx": {"demo": True}})
    assert said == "MDP_EXCHANGES__OKX__DEMO: expected false in production-live, got True"


@pytest.mark.parametrize(
    ("name", "url", "expected"),
    [
        ("production-live", "https://demo-api.binance.com", "an address of the real network"),
        ("production-live", "wss://wspap.okx.com:8443", "an address of the real network"),
        ("production-paper", "https://api.binance.com", "an address of the paper network"),
        ("production-live", "http://proxy.example", "an address that is encrypted"),
        ("production-live", "https://localhost:8443", "a host that is not this machine"),
        ("production-live", "https://simulator.localhost", "a host that is not this machine"),
        ("production-live", "https://127.0.0.2/binance", "a host that is not this machine"),
        ("production-paper", "wss://[::1]:8790/binance", "a host that is not this machine"),
        ("production-live", "https://0.0.0.0", "a host that is not this machine"),
    ],
)
def test_production_asks_no_address_of_another_network_or_of_a_simulator(name, url, expected):
    field = "ws_url" if url.startswith("ws") else "rest_url"
    said = refused(name, exchanges={"binance": {field: url}})
    assert said.startswith(f"MDP_EXCHANGES__BINANCE__{field.upper()}: expected {expected}")
    assert said.endswith(f" in {name}, got {url!r}")


def test_no_archive_of_another_network_is_asked():
    said = refused("production-paper", exchanges={"okx": {"archive_url": "https://static.okx.com"}})
    assert said.startswith("MDP_EXCHANGES__OKX__ARCHIVE_URL: expected an address of the paper network")


@pytest.mark.parametrize("name", PRODUCTION)
def test_a_proxy_of_ones_own_may_be_asked_when_it_is_encrypted_and_elsewhere(name):
    load_settings(env=name, exchanges={"binance": {"rest_url": "https://proxy.example/binance"}})


@pytest.mark.parametrize(("name", "network"), [("production-paper", "paper"), ("production-live", "real")])
def test_the_addresses_of_its_own_network_may_be_given_too(name, network):
    given = {
        exchange.value: {key: url for key, url in endpoints(network, exchange).items() if key.endswith("_url")}
        for exchange in Exchange
    }
    load_settings(env=name, exchanges=given)


def test_an_address_with_a_password_is_refused_without_showing_it():
    said = refused("production-live", exchanges={"okx": {"rest_url": "http://me:hunter2@proxy.example"}})
    assert "***@proxy.example" in said
    assert "hunter2" not in said


@pytest.mark.parametrize("name", PRODUCTION)
def test_whoever_asks_production_has_a_key(name):
    said = refused(name, api={"keys": "away_from_loopback"})
    assert said == f"MDP_API__KEYS: expected always in {name}: whoever asks has a key, got 'away_from_loopback'"


@pytest.mark.parametrize("name", PRODUCTION)
def test_production_writes_to_no_emulator(name):
    assert refused(name, bigquery={"api_endpoint": "http://127.0.0.1:9050"}).startswith("MDP_BIGQUERY__API_ENDPOINT: ")
    assert refused(name, bigquery={"write_endpoint": "h:9060"}).startswith("MDP_BIGQUERY__WRITE_ENDPOINT: ")


@pytest.mark.parametrize("name", ENVIRONMENTS)
@pytest.mark.parametrize("suffix", ["", "_writing", "_snapshots"])
def test_no_environment_writes_to_the_datasets_of_another(name, suffix):
    for owner, dataset in datasets().items():
        given = {"store": "bigquery", "bigquery": {"dataset": dataset + suffix}}
        if name == owner:
            load_settings(env=name, **given)
            continue
        said = refused(name, **given)
        begin = f"MDP_BIGQUERY__DATASET: expected a dataset of its own in {name}, not that of {owner}, got "
        assert said.startswith(begin)


def test_a_staging_dataset_of_another_is_refused_too():
    said = refused("staging", bigquery={"staging_dataset": "market_data_production_live_writing"})
    assert said.startswith("MDP_BIGQUERY__STAGING_DATASET: expected a dataset of its own in staging")


def test_no_two_environments_write_to_a_dataset_of_one_name():
    names: Counter[str] = Counter()
    for name in set(ENVIRONMENTS) - {"local-integration"}:  # which, like local-dev, has no central store of its own
        own = Datasets.of(load_settings(env=name, bigquery={"project": "p"}).bigquery)
        names.update((own.main, own.staging, own.snapshots))
    assert set(names.values()) == {1}, names


def test_a_dataset_of_ones_own_name_is_nobodys():
    load_settings(env="central-dev", bigquery={"dataset": "market_data_of_jane"})
    load_settings(env="local-dev", store="bigquery", bigquery={"dataset": "market_data"})


def test_both_networks_know_every_exchange_and_share_only_what_exchanges_share():
    assert hosts("real") & hosts("paper") == {"www.okx.com", "stream.bybit.com"}
    for network in ("real", "paper"):
        for exchange in Exchange:
            assert {"rest_url", "ws_url"} <= endpoints(network, exchange).keys()
