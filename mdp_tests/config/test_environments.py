"""The file of each environment."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest

from mdp.config.settings import ENVIRONMENTS, environment_file, load_settings
from mdp.domain.market import Exchange

PRODUCTION = [name for name in ENVIRONMENTS if name.startswith("production")]
CENTRAL = ["central-dev", "staging", *PRODUCTION]

SECRET = re.compile(r"secret|password|passwd|token|credential|api_?key|private", re.IGNORECASE)
LOCAL_PATH = re.compile(r"^(/|~|\.|[A-Za-z]:\\|file:)")
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


@pytest.mark.parametrize("name", CENTRAL)
def test_where_traders_look_every_exchange_is_the_real_one(monkeypatch, name):
    monkeypatch.setenv("MDP_ENV", name)
    settings = load_settings()
    assert (settings.store, settings.simulated) == ("bigquery", False)
    for exchange in Exchange:
        assert settings.exchanges.of(exchange).rest_url.startswith("https://")
        assert settings.exchanges.of(exchange).ws_url.startswith("wss://")


@pytest.mark.parametrize("name", [name for name in ENVIRONMENTS if name not in CENTRAL])
def test_elsewhere_no_real_exchange_is_asked_unless_somebody_says_so(monkeypatch, name):
    monkeypatch.setenv("MDP_ENV", name)
    settings = load_settings()
    assert (settings.store, settings.simulated) == ("duckdb", True)
    assert all(settings.exchanges.of(exchange).rest_url is None for exchange in Exchange)


def test_no_two_environments_write_to_one_dataset(monkeypatch):
    datasets = []
    for name in CENTRAL:
        monkeypatch.setenv("MDP_ENV", name)
        datasets.append(load_settings().bigquery.dataset)
    assert len(set(datasets)) == len(CENTRAL)


def test_paper_and_live_differ_in_their_dataset_alone(monkeypatch):
    found = []
    for name in PRODUCTION:
        monkeypatch.setenv("MDP_ENV", name)
        settings = dict(leaves(load_settings().model_dump()))
        found.append({key: value for key, value in settings.items() if key not in ("env", "bigquery.dataset")})
    assert found[0] == found[1]
