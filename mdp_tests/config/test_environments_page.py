"""``docs/environments.md`` says of each environment what its file says."""

from __future__ import annotations

import re

import pytest

from mdp.config.environment_names import ENVIRONMENTS
from mdp.config.given import find_problems
from mdp.config.masking import SECRETS
from mdp.config.problems import variable
from mdp.config.settings import PROJECT_ROOT, load_settings

PAGE = (PROJECT_ROOT / "docs" / "environments.md").read_text(encoding="utf-8")
ROWS = {
    cells[0].strip("` "): [cell.strip() for cell in cells[1:]]
    for line in PAGE.splitlines()
    if line.startswith("| `") and (cells := line.strip("|").split("|"))
}
SHORT = {
    "MDP_BIGQUERY__PROJECT": "project",
    "MDP_DAGSTER__POSTGRES_URL": "Postgres",
    "MDP_BUS__URL": "bus",
    "MDP_DATA_DIR": "volume",
    "MDP_ALERTS__WEBHOOK_URL": "webhook",
}
HISTORY = {"14 days": 14, "90 days": 90, "30 days": 30, "3 years": 3 * 365, "all": None}
INSTANCE = {"SQLite": "sqlite", "Postgres": "postgres", "Kubernetes": "kubernetes"}


def test_every_environment_has_a_row_and_a_section():
    assert tuple(ROWS) == ENVIRONMENTS
    assert tuple(re.findall(r"^## ([a-z-]+)$", PAGE, flags=re.MULTILINE)) == ENVIRONMENTS


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_a_row_says_what_is_in_force(name):
    _, exchanges, share, store, history, dagster, needed = ROWS[name]
    settings = load_settings(env=name)
    assert settings.simulated is exchanges.startswith("simulated")
    assert (settings.exchanges.network == "paper") is (exchanges == "demo addresses")
    assert settings.exchanges.okx.rate_share == settings.exchanges.binance.rate_share == float(share)
    assert (settings.store == "bigquery") is (store == "BigQuery")
    assert settings.history_days == HISTORY[history]
    assert settings.dagster.instance == INSTANCE[dagster]
    missing = [SHORT[problem.setting] for problem in find_problems(name)]
    assert sorted(missing) == sorted([] if needed == "nothing" else needed.split(", "))


def test_every_secret_is_named():
    assert [name for name in (variable(*path) for path in SECRETS) if f"`{name}`" not in PAGE] == []
