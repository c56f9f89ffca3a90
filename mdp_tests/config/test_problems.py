"""Everything that is wrong or missing is named at once, and nothing that is secret."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mdp.config.describing import described_settings
from mdp.config.effective import effective_settings
from mdp.config.environment_names import ENVIRONMENTS
from mdp.config.given import find_problems
from mdp.config.masking import masked_setting
from mdp.config.settings import load_settings
from mdp.errors import ConfigError

POSTGRES = "postgresql+psycopg2://mdp:hunter2@db:5432/dagster"
WEBHOOK = "https://hooks.example/services/T0/B0/hunter2"

ALL_GIVEN = {
    "MDP_BIGQUERY__PROJECT": "my-project-123",
    "MDP_DAGSTER__POSTGRES_URL": POSTGRES,
    "MDP_BUS__URL": "redis://:hunter2@bus:6379/0",
    "MDP_DATA_DIR": "/data",
    "MDP_ALERTS__WEBHOOK_URL": WEBHOOK,
}


def named(environment: str) -> dict[str, bool]:
    return {problem.setting: problem.is_missing for problem in find_problems(environment)}


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("local-dev", set()),
        ("integration-test", set()),
        ("local-integration", {"MDP_DAGSTER__POSTGRES_URL"}),
        ("central-dev", {"MDP_BIGQUERY__PROJECT", "MDP_DAGSTER__POSTGRES_URL"}),
        ("staging", {"MDP_BIGQUERY__PROJECT", "MDP_BUS__URL", "MDP_DATA_DIR"}),
        *[
            (name, {"MDP_BIGQUERY__PROJECT", "MDP_BUS__URL", "MDP_DATA_DIR", "MDP_ALERTS__WEBHOOK_URL"})
            for name in ("production-paper", "production-live")
        ],
    ],
)
def test_an_environment_names_what_it_needs_and_is_ready_when_that_is_given(monkeypatch, name, missing):
    assert named(name) == dict.fromkeys(missing, True)
    for variable in missing:
        monkeypatch.setenv(variable, ALL_GIVEN[variable])
    assert named(name) == {}
    assert load_settings(env=name).env == name


def test_workers_on_several_hosts_need_a_server_a_queue_and_a_bus(monkeypatch):
    monkeypatch.setenv("MDP_DAGSTER__INSTANCE", "celery")
    wanted = ("MDP_DAGSTER__POSTGRES_URL", "MDP_DAGSTER__BROKER_URL", "MDP_BUS__URL", "MDP_DATA_DIR")
    assert named("local-integration") == dict.fromkeys(wanted, True)


def test_a_fault_hides_no_other(monkeypatch):
    for name, value in {
        "MDP_WORKERS": "0",
        "MDP_WORKERZ": "3",
        "MDP_EXCHANGES__OKX__URL": "https://x.example",
        "MDP_EXCHANGES__OKX__SYMBOL_SHARES": '{"BTCUSDT": 0.5}',
        "MDP_BUS__URL": "redis//bus",
        "MDP_MARKETS": "binance:BTC-USDT",
        "MDP_SIMULATED": "true",
        "MDP_API__KEYS": "away_from_loopback",
    }.items():
        monkeypatch.setenv(name, value)
    assert named("production-live") == {
        "MDP_WORKERZ": False,
        "MDP_MARKETS": False,
        "MDP_WORKERS": False,
        "MDP_BUS__URL": False,
        "MDP_EXCHANGES__OKX__URL": False,
        "MDP_EXCHANGES__OKX__SYMBOL_SHARES": False,
        "MDP_SIMULATED": False,
        "MDP_API__KEYS": False,
        "MDP_BIGQUERY__PROJECT": True,
        "MDP_DATA_DIR": True,
        "MDP_ALERTS__WEBHOOK_URL": True,
    }


def test_every_problem_says_what_to_do(monkeypatch):
    monkeypatch.setenv("MDP_WORKERS", "many")
    (first, *rest) = find_problems("production-live")
    assert first.said == "expected a valid integer, unable to parse string as an integer, got 'many'"
    assert all(problem.remedy and problem.said for problem in (first, *rest))


def test_a_section_that_is_given_as_json_is_judged_and_named_too(monkeypatch):
    monkeypatch.setenv("MDP_API", json.dumps({"port": 0, "workers": 99, "colour": "red"}))
    assert named("local-dev") == {"MDP_API__PORT": False, "MDP_API__WORKERS": False, "MDP_API__COLOUR": False}
    monkeypatch.setenv("MDP_API", '"no object"')
    assert named("local-dev") == {"MDP_API": False}


class TestWhereAValueComesFrom:
    def origins(self, name: str = "central-dev") -> dict[str, tuple[object, str]]:
        return {one.setting: (one.value, one.origin) for one in effective_settings(load_settings(env=name))}

    def test_the_default_the_file_a_variable_and_the_catalogue_are_told_apart(self, monkeypatch):
        monkeypatch.setenv("MDP_EXCHANGES__OKX__TIMEOUT_S", "7")
        monkeypatch.setenv("mdp_workers", "3")
        monkeypatch.setenv("MDP_API", '{"port": 8001}')
        found = self.origins()
        assert found["MDP_API__HOST"] == ("127.0.0.1", "default")
        assert found["MDP_STORE"] == ("bigquery", "central-dev.toml")
        assert found["MDP_EXCHANGES__OKX__TIMEOUT_S"] == (7.0, "MDP_EXCHANGES__OKX__TIMEOUT_S")
        assert found["MDP_WORKERS"] == (3, "MDP_WORKERS")
        assert found["MDP_API__PORT"] == (8001, "MDP_API")
        monkeypatch.setenv("MDP_API__PORT", "8002")
        assert self.origins()["MDP_API__PORT"] == (8002, "MDP_API__PORT")
        assert found["MDP_EXCHANGES__OKX__REST_URL"] == ("https://www.okx.com", "endpoints.toml, real")
        assert found["MDP_EXCHANGES__BYBIT__ARCHIVE_URL"] == (None, "default")
        assert self.origins("production-paper")["MDP_EXCHANGES__OKX__DEMO"] == (True, "endpoints.toml, paper")

    def test_an_address_of_ones_own_is_ones_own(self, monkeypatch):
        monkeypatch.setenv("MDP_EXCHANGES__OKX__REST_URL", "https://me:hunter2@proxy.example")
        found = self.origins()
        assert found["MDP_EXCHANGES__OKX__REST_URL"] == ("https://***@proxy.example", "MDP_EXCHANGES__OKX__REST_URL")
        assert found["MDP_EXCHANGES__OKX__ARCHIVE_URL"] == (None, "default")

    def test_an_exchange_that_is_simulated_says_so(self, monkeypatch):
        address = "MDP_EXCHANGES__OKX__REST_URL"
        assert self.origins("local-dev")[address] == ("http://127.0.0.1:8790/okx", "simulator of this data directory")
        monkeypatch.setenv("MDP_SIMULATOR__URL", "http://simulator:8790")
        assert self.origins("local-dev")[address] == ("http://simulator:8790/okx", "simulator, MDP_SIMULATOR__URL")

    def test_the_environment_says_how_it_was_chosen(self, monkeypatch):
        assert self.origins("local-dev")["MDP_ENV"] == ("local-dev", "default")
        assert self.origins()["MDP_ENV"] == ("central-dev", "--env")
        monkeypatch.setenv("MDP_ENV", "central-dev")
        assert self.origins()["MDP_ENV"] == ("central-dev", "MDP_ENV")

    @pytest.mark.parametrize("name", ENVIRONMENTS)
    def test_every_setting_is_there_once_and_can_be_written_as_json(self, name):
        found = effective_settings(load_settings(env=name))
        assert [one.setting for one in found] == [one.setting for one in described_settings()]
        json.dumps(found, allow_nan=False)


SECRET = "S3cr3tS3cr3t"
TEMPLATES = {
    "MDP_ALERTS__WEBHOOK_URL": ["https://hooks.example/a/{}", "hooks.example/{}", "{}", "https://{}/x", "ftp://x/{}/"],
    "MDP_DAGSTER__POSTGRES_URL": [
        "postgresql+psycopg2://me:{}@db/dagster", "postgresql://me:{}@db/dagster", "me:{}@db", "{}",
        "postgresql+psycopg2://db/dagster?password={}", "postgresql+psycopg2://me:{}",
        "postgresql+psycopg2://me:a/{}@db/dagster", "postgresql+psycopg2://me:{}@db:5432/dagster?sslkey={}",
    ],
    "MDP_DAGSTER__BROKER_URL": ["redis://:{}@h:6379/1", "redis//:{}@h", "{}", "redis://h/1?password={}"],
    "MDP_BUS__URL": ["redis://me:{}@bus:6379/0", "redis//me:{}@bus", "redis://me:{}@h:abc/0", "redis://h/0?key={}"],
    "MDP_EXCHANGES__OKX__REST_URL": ["https://me:{}@proxy.example", "me:{}@h", "https://proxy.example/x?key={}"],
    "MDP_API__DAGSTER_URL": ["http://me:{}@dagster:3000", "http://dagster:3000/a?token={}"],
    "MDP_ALERTS__WEBHOOK": ["https://hooks.example/{}"],
    "MDP_ALERTS": ['{{"webhook_url": "https://hooks.example/{}"}}', '{{"webhook_url": "{}"', '"{}"'],
    "MDP_DAGSTER": ['{{"postgres_url": "me:{}@db"}}', '{{"postgres_url": ["{}"]}}', '{{"url": "{}"}}', '["{}"]'],
    "MDP_WEBHOOK": ["https://hooks.example/{}"],
}  # fmt: skip


@pytest.mark.parametrize("variable", sorted(TEMPLATES))
def test_no_secret_appears_whether_it_is_right_or_mistyped(monkeypatch, variable):
    name = "production-live"  # which has the most to say
    for template in TEMPLATES[variable]:
        monkeypatch.setenv(variable, template.format(*[SECRET] * template.count("{}")))
        said = repr(find_problems(name))
        try:
            said += repr(effective_settings(load_settings(env=name)))
        except ConfigError as error:
            said += str(error)
        assert SECRET not in said, template


_TEXTS = st.text(st.characters(codec="ascii", categories=("L", "N", "P", "S")), max_size=12)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=_TEXTS, after=_TEXTS, path=st.sampled_from([("alerts", "webhook_url"), ("alerts",), ("dagster",)]))
def test_of_a_webhook_and_of_what_may_hold_one_nothing_is_ever_shown(before, after, path):
    for value in (
        before + SECRET + after,
        [before + SECRET],
        {"webhook_url": SECRET + after},
        {after: before + SECRET},
    ):
        if path == ("dagster",) and isinstance(value, dict):
            continue
        assert SECRET not in repr(masked_setting(path, value)) or (isinstance(value, dict) and after != "webhook_url")


@given(before=_TEXTS, after=_TEXTS)
def test_of_the_password_of_a_server_nothing_is_shown_wherever_it_stands(before, after):
    for path in (("dagster", "postgres_url"), ("dagster", "broker_url")):
        for text in (f"postgresql+psycopg2://{before}:{SECRET}{after}@db/dagster", f"{before}{SECRET}@{after}"):
            assert SECRET not in repr(masked_setting(path, text))


def test_a_fault_within_a_list_or_an_object_is_named_and_hides_no_other(monkeypatch):
    monkeypatch.setenv("MDP_API__CORS_ORIGINS", '["https://desk.example", "desk"]')
    monkeypatch.setenv("MDP_MAINTENANCE__KEEP_DAYS", '{"ohlcv": 3}')
    monkeypatch.setenv("MDP_WORKERS", "0")
    found = named("local-dev")
    assert {name.split("__")[0] for name in found} == {"MDP_API", "MDP_MAINTENANCE", "MDP_WORKERS"}
    assert not any(found.values())
