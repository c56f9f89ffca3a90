"""Settings: where they come from, which come first, and what is said of a wrong one."""

from __future__ import annotations

import json
import traceback
from pathlib import Path
from typing import get_args

import pytest
from pydantic import ValidationError
from pydantic_settings import TomlConfigSettingsSource

from mdp.config.exchange_sections import ExchangeSettings
from mdp.config.settings import ENVIRONMENTS, PROJECT_ROOT, Settings, load_settings
from mdp.domain.market import MARKETS, Exchange
from mdp.errors import ConfigError


def refused(monkeypatch, **variables: str) -> str:
    """What is said when these variables are set."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as error:
        load_settings()
    assert error.value.setting == next(reversed(variables)) or error.value.setting in str(error.value)
    return str(error.value)


class TestWhereTheyComeFrom:
    def test_nothing_set_is_a_laptop_with_simulated_exchanges(self):
        settings = load_settings()
        assert (settings.env, settings.store, settings.simulated) == ("local-dev", "duckdb", True)
        assert settings.data_dir == PROJECT_ROOT / "data"
        assert settings.markets == tuple(str(market) for market in MARKETS)

    def test_the_project_is_where_the_package_is(self):
        assert (PROJECT_ROOT / "pyproject.toml").is_file()
        assert (PROJECT_ROOT / "mdp" / "config" / "settings.py").is_file()

    def test_a_variable_wins_over_the_file_and_the_file_over_the_default(self, monkeypatch):
        monkeypatch.setenv("MDP_ENV", "central-dev")
        assert Settings.model_fields["workers"].default == 2
        assert load_settings().workers == 4
        monkeypatch.setenv("MDP_WORKERS", "7")
        assert load_settings().workers == 7
        assert load_settings(workers=9).workers == 9

    def test_a_nested_variable_changes_one_value_and_leaves_its_neighbours(self, monkeypatch):
        monkeypatch.setenv("MDP_ENV", "central-dev")
        before = load_settings().exchanges
        monkeypatch.setenv("MDP_EXCHANGES__BINANCE__REST_URL", "http://127.0.0.1:9000/binance")
        after = load_settings().exchanges
        assert after.binance.rest_url == "http://127.0.0.1:9000/binance"
        assert after.binance == before.binance.model_copy(update={"rest_url": after.binance.rest_url})
        assert (after.bybit, after.okx, after.deribit) == (before.bybit, before.okx, before.deribit)

    @pytest.mark.parametrize("exchange", Exchange)
    @pytest.mark.parametrize("url", ["REST_URL", "WS_URL", "ARCHIVE_URL"])
    def test_every_address_of_every_exchange_can_be_set(self, monkeypatch, exchange, url):
        monkeypatch.setenv(f"MDP_EXCHANGES__{exchange.value.upper()}__{url}", "https://example.org:8443/stand/in")
        assert getattr(load_settings().exchanges.of(exchange), url.lower()) == "https://example.org:8443/stand/in"

    def test_a_list_is_given_as_json(self, monkeypatch):
        monkeypatch.setenv("MDP_MARKETS", json.dumps(["okx:SOL/USDT", "binance:BTC-USDT"]))
        assert load_settings().markets == ("okx:SOL-USDT", "binance:BTC-USDT")

    def test_a_market_that_is_listed_twice_is_collected_once(self, monkeypatch):
        monkeypatch.setenv("MDP_MARKETS", json.dumps(["okx:SOL/USDT", "binance:BTC-USDT", "okx:SOL-USDT"]))
        assert load_settings().markets == ("okx:SOL-USDT", "binance:BTC-USDT")

    def test_the_data_directory_is_absolute_and_moves_everything_generated(self, monkeypatch, tmp_path):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("MDP_DATA_DIR", "elsewhere")
        settings = load_settings()
        assert settings.data_dir == tmp_path.resolve() / "elsewhere"
        assert {settings.lake_dir.parent, settings.dagster_dir.parent, settings.run_dir.parent} == {settings.data_dir}
        assert len({settings.lake_dir, settings.dagster_dir, settings.run_dir}) == 3

    def test_a_tilde_is_the_home_directory(self, monkeypatch):
        monkeypatch.setenv("MDP_DATA_DIR", "~/candles")
        assert load_settings().data_dir == (Path.home() / "candles").resolve()

    def test_the_environment_asked_for_by_argument_reads_the_file_of_that_name(self):
        assert load_settings(env="staging").store == "bigquery"
        assert load_settings(env="staging").bigquery.dataset == "market_data_staging"

    def test_the_bus_of_simulated_exchanges_is_in_the_data_directory_that_of_real_ones_is_the_users(
        self, monkeypatch, tmp_path
    ):
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
        of_one, of_another = (load_settings(env="staging", data_dir=tmp_path / name) for name in "ab")
        assert of_one.bus_dir == of_another.bus_dir == tmp_path / "state" / "mdp"
        assert load_settings(data_dir=tmp_path).bus_dir == tmp_path
        monkeypatch.setenv("XDG_STATE_HOME", "not/absolute")
        monkeypatch.setenv("HOME", str(tmp_path))
        assert of_one.bus_dir == tmp_path / ".local" / "state" / "mdp"

    def test_settings_cannot_be_changed_afterwards(self):
        with pytest.raises(ValidationError):
            load_settings().workers = 3
        with pytest.raises(ValidationError):
            load_settings().exchanges.binance.rate_share = 1


class TestWrongValues:
    @pytest.mark.parametrize("name", ["production", "LOCAL-DEV", "", " local-dev", "../local-dev"])
    def test_an_unknown_environment_is_refused_with_the_list_of_those_we_know(self, monkeypatch, name):
        said = refused(monkeypatch, MDP_ENV=name)
        assert said.startswith("MDP_ENV: expected one of local-dev, ")
        assert said.endswith(f"got {name!r}")
        assert all(known in said for known in ENVIRONMENTS)

    def test_an_unknown_environment_by_argument_is_refused_too(self):
        with pytest.raises(ConfigError, match=r"MDP_ENV: expected one of .*, got 'moon'"):
            load_settings(env="moon")

    @pytest.mark.parametrize(
        ("variable", "value", "expected"),
        [
            ("MDP_WORKERS", "0", "greater than or equal to 1"),
            ("MDP_WORKERS", "65", "less than or equal to 64"),
            ("MDP_WORKERS", "many", "a valid integer"),
            ("MDP_STORE", "postgres", "'duckdb' or 'bigquery'"),
            ("MDP_SIMULATED", "perhaps", "a valid boolean"),
            ("MDP_SIMULATOR__PORT", "0", "greater than or equal to 1"),
            ("MDP_SIMULATOR__PORT", "65536", "less than or equal to 65535"),
            ("MDP_DVOL__MAX_AGE_MINUTES", "59", "greater than or equal to 60"),
            ("MDP_DATA_DIR", "", "a directory"),
            ("MDP_DATA_DIR", "~nobody-of-this-name/x", "a directory"),
            ("MDP_EXCHANGES__OKX__TIMEOUT_S", "0", "greater than 0"),
            ("MDP_EXCHANGES__OKX__TIMEOUT_S", "nan", "less than or equal to 120"),
            ("MDP_EXCHANGES__OKX__RATE_SHARE", "0", "greater than 0"),
            ("MDP_EXCHANGES__OKX__RATE_SHARE", "1.01", "less than or equal to 1"),
            ("MDP_EXCHANGES__OKX__PAGES_IN_FLIGHT", "0", "greater than or equal to 1"),
            ("MDP_EXCHANGES__OKX__ATTEMPTS", "0", "greater than or equal to 1"),
            ("MDP_EXCHANGES__OKX__SETTLE_S", "-1", "greater than or equal to 0"),
        ],
    )
    def test_the_variable_what_came_and_what_was_expected_are_named(self, monkeypatch, variable, value, expected):
        said = refused(monkeypatch, **{variable: value})
        assert said.startswith(f"{variable}: expected {expected}")
        assert said.endswith(f"got {value!r}")

    @pytest.mark.parametrize(
        "url", ["api.binance.com", "ftp://api.binance.com", "https://", "https://api.binance.com/", "https://a b", ""]
    )
    def test_an_address_without_scheme_or_with_a_slash_at_the_end_is_refused(self, monkeypatch, url):
        said = refused(monkeypatch, MDP_EXCHANGES__BINANCE__REST_URL=url)
        assert said.startswith("MDP_EXCHANGES__BINANCE__REST_URL: expected ")
        assert said.endswith(f"got {url!r}")

    @pytest.mark.parametrize(
        "url",
        [
            "redis://h:abc/0",
            "redis://h:99999/0",
            "redis://h:0/0",
            "redis://:6379/0",
            "redis://h/zero",
            "redis://[h/0",
            "unix://",
            "http://h/0",
            "h:6379",
            "",
        ],
    )
    def test_a_bus_whose_address_would_be_understood_otherwise_or_not_at_all_is_refused(self, monkeypatch, url):
        said = refused(monkeypatch, MDP_BUS__URL=url)
        assert said == f"MDP_BUS__URL: expected a URL such as redis://host:6379/0, got {url!r}"

    @pytest.mark.parametrize(
        ("variable", "value"),
        [
            ("MDP_BUS__URL", "redis//me:secret@h:6379/0"),
            ("MDP_BUS__URL", "redis:/me:secret@h:6379/0"),
            ("MDP_BUS__URL", "me:secret@h"),
            ("MDP_BUS__URL", "redis://me:secret@h:abc/0"),
            ("MDP_BUS__URL", "redis://me:sec/secret@h/0"),
            ("MDP_BUS__URL", "redis://h:abc/0?password=secret"),
            ("MDP_BUS", '{"url": "redis://me:secret@h:6379/0"'),
            ("MDP_BUS", '{"url": {"redis": "redis://me:secret@h:6379/0"}}'),
            ("MDP_EXCHANGES__OKX__REST_URL", "https//me:secret@h"),
        ],
    )
    def test_a_mistyped_address_is_refused_without_showing_its_password(self, monkeypatch, variable, value):
        monkeypatch.setenv(variable, value)
        with pytest.raises(ConfigError) as error:
            load_settings()
        assert str(error.value).startswith(variable)
        assert "***" in str(error.value)
        assert "secret" not in "".join(traceback.format_exception(error.value))

    def test_a_share_of_a_symbol_that_the_exchange_does_not_have_is_refused(self, monkeypatch):
        said = refused(monkeypatch, MDP_EXCHANGES__OKX__SYMBOL_SHARES='{"BTC-USDT": 0.5, "BTCUSDT": 0.5}')
        assert said.startswith("MDP_EXCHANGES__OKX__SYMBOL_SHARES: expected symbols among BTC-USDT, ETH-USDT, ")
        assert said.endswith("got 'BTCUSDT'")
        monkeypatch.setenv("MDP_EXCHANGES__OKX__SYMBOL_SHARES", '{"BTC-USDT": 0.5}')
        assert load_settings().exchanges.okx.symbol_shares == {"BTC-USDT": 0.5}

    @pytest.mark.parametrize(("variable", "value"), [("MDP_MARKETS", "binance:BTC-USDT"), ("MDP_EXCHANGES", "{")])
    def test_what_should_be_json_and_is_not_is_named(self, monkeypatch, variable, value):
        assert refused(monkeypatch, **{variable: value}).startswith(f"{variable}: expected JSON")

    @pytest.mark.parametrize(
        "market", ["BTC-USDT", "kraken:BTC-USDT", "binance:btc-usdt", "binance:XRP-USDT", "okx:BTC-DVOL"]
    )
    def test_a_market_that_we_do_not_collect_is_refused_with_the_list_of_those_we_do(self, monkeypatch, market):
        said = refused(monkeypatch, MDP_MARKETS=json.dumps(["binance:BTC-USDT", market]))
        assert said.startswith("MDP_MARKETS: expected markets among binance:BTC-USDT, binance:ETH-USDT, ")
        assert f"deribit:ETH-DVOL, which '{market}' is not, got " in said

    def test_no_market_at_all_is_refused(self, monkeypatch):
        said = refused(monkeypatch, MDP_MARKETS="[]")
        assert said == "MDP_MARKETS: expected a list with at least one market, such as binance:BTC-USDT, got []"

    @pytest.mark.parametrize("variable", ["MDP_WORKERZ", "MDP_EXCHANGE__BINANCE__REST_URL", "MDP_DATADIR"])
    def test_a_misspelt_variable_is_refused_rather_than_ignored(self, monkeypatch, variable):
        said = refused(monkeypatch, **{variable: "a secret in the wrong place"})
        assert said.startswith(f"{variable}: expected a name that begins with one of MDP_ENV, MDP_DATA_DIR, ")
        assert "secret" not in said

    @pytest.mark.parametrize("variable", ["MDP_EXCHANGES__BINANCE__URL", "MDP_EXCHANGES__KRAKEN", "MDP_DVOL__AGE"])
    def test_a_misspelt_part_of_a_variable_is_refused(self, monkeypatch, variable):
        value = "{}" if variable.endswith("KRAKEN") else "1"
        assert refused(monkeypatch, **{variable: value}).startswith(f"{variable}: expected the name of a setting, got ")

    def test_variables_of_other_programs_are_none_of_our_business(self, monkeypatch):
        monkeypatch.setenv("MDPX_WORKERS", "1")
        monkeypatch.setenv("WORKERS", "1")
        assert load_settings().workers == 2

    @pytest.mark.parametrize(
        "text", ["color = 1", "[exchanges.binance]\nurl = 'https://x.y'", "[exchanges.kraken]\na = 1"]
    )
    def test_a_file_with_a_key_we_do_not_know_is_refused(self, tmp_path, text):
        path = tmp_path / "environment.toml"
        path.write_text(text)

        class FromFile(Settings):
            @classmethod
            def settings_customise_sources(cls, settings_cls, *_sources, **_named):
                return (TomlConfigSettingsSource(settings_cls, path),)

        with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
            FromFile()


def test_both_lists_of_environments_agree():
    assert get_args(Settings.model_fields["env"].annotation) == ENVIRONMENTS


def test_every_exchange_has_settings():
    given = load_settings().exchanges
    assert [given.of(exchange) for exchange in Exchange] == [ExchangeSettings()] * len(Exchange)
