"""``mdp config``: what is in force, what is missing, and no secret."""

from __future__ import annotations

import json
import sys

import pytest

from mdp.cli.app import main
from mdp.config.environment_names import ENVIRONMENTS
from mdp.config.settings import load_settings


@pytest.fixture
def run(monkeypatch, capfd):
    def run_(*arguments):
        monkeypatch.setattr(sys, "argv", ["mdp", "config", *arguments])
        with pytest.raises(SystemExit) as exited:
            main()
        return exited.value.code, *capfd.readouterr()

    return run_


def test_what_differs_from_the_defaults_is_shown_with_where_it_comes_from(run, monkeypatch):
    monkeypatch.setenv("MDP_WORKERS", "5")
    code, out, err = run("show", "--env", "central-dev", "--changed")
    assert (code, err) == (0, "")
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines()}
    assert rows["MDP_WORKERS"] == ["5", "MDP_WORKERS"]
    assert rows["MDP_STORE"] == ["bigquery", "central-dev.toml"]
    assert rows["MDP_EXCHANGES__OKX__REST_URL"] == ["https://www.okx.com", "endpoints.toml,", "real"]
    assert "MDP_API__PORT" not in rows


def test_all_settings_are_shown_and_what_is_not_given_is_a_dash(run):
    code, out, _ = run("show")
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines()}
    assert code == 0
    assert rows["MDP_BIGQUERY__PROJECT"] == ["-", "default"]
    assert rows["MDP_EXCHANGES__OKX__SYMBOL_SHARES"] == ["{}", "default"]
    assert len(rows) > 100


def test_the_table_may_be_read_by_a_program(run, monkeypatch):
    monkeypatch.setenv("MDP_DAGSTER__POSTGRES_URL", "postgresql+psycopg2://me:hunter2@db/dagster")
    code, out, _ = run("show", "--json", "--changed")
    found = {row["setting"]: (row["value"], row["origin"]) for row in json.loads(out)}
    assert code == 0
    assert found["MDP_DAGSTER__POSTGRES_URL"] == ("postgresql+psycopg2://***@db/dagster", "MDP_DAGSTER__POSTGRES_URL")
    assert found["MDP_SIMULATED"] == (True, "local-dev.toml")


def test_settings_that_cannot_be_loaded_are_named_with_the_command_that_names_them_all(run, monkeypatch):
    monkeypatch.setenv("MDP_WORKERS", "0")
    code, out, err = run("show", "--env", "staging")
    assert (code, out) == (2, "")
    assert err.startswith("mdp: MDP_WORKERS: expected greater than or equal to 1, got '0'\n")
    assert "`mdp config check --env staging`" in err


def test_an_environment_that_is_ready_says_so(run):
    assert run("check") == (0, "local-dev: ready\n", "")


def test_what_is_missing_and_what_is_wrong_are_told_apart_and_said_what_to_do(run, monkeypatch):
    monkeypatch.setenv("MDP_WORKERS", "0")
    code, out, _ = run("check", "--env", "central-dev")
    assert code == 2
    lines = out.splitlines()
    assert lines[0] == "central-dev: 2 missing, 1 wrong"
    assert lines[1] == "  wrong    MDP_WORKERS: expected greater than or equal to 1, got '0'"
    assert [line.split(":")[0].split()[1] for line in lines if line.startswith("  missing")] == [
        "MDP_BIGQUERY__PROJECT",
        "MDP_DAGSTER__POSTGRES_URL",
    ]


def test_all_environments_are_checked_at_once(run):
    code, out, _ = run("check", "--all", "--json")
    found = {one["environment"]: one for one in json.loads(out)}
    assert code == 2
    assert tuple(found) == ENVIRONMENTS
    assert {name for name, one in found.items() if one["ready"]} == {"local-dev", "integration-test"}
    assert found["production-live"]["problems"][0]["setting"] == "MDP_BIGQUERY__PROJECT"
    assert found["production-live"]["problems"][0]["kind"] == "missing"


@pytest.mark.parametrize("command", ["show", "check"])
def test_an_environment_that_does_not_exist_is_refused_with_the_list_of_those_that_do(run, command):
    code, out, err = run(command, "--env", "moon")
    assert (code, out) == (2, "")
    assert err.startswith("mdp: MDP_ENV: expected one of local-dev, ")
    assert "got 'moon'" in err


def test_one_environment_and_all_are_not_asked_for_at_once(run):
    code, _, err = run("check", "--env", "staging", "--all")
    assert code == 2
    assert "--env or --all" in err


def test_looking_changes_nothing(run, monkeypatch, tmp_path):
    monkeypatch.setenv("MDP_DATA_DIR", str(tmp_path / "data"))
    assert (run("show")[0], run("check")[0]) == (0, 0)
    assert list(tmp_path.iterdir()) == []
    assert load_settings().data_dir == tmp_path / "data"
