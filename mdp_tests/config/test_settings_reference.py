"""The reference of the settings is what the models say, and leaves none out."""

from __future__ import annotations

import os

from mdp.config.describing import described_settings
from mdp.config.masking import SECRETS
from mdp.config.settings import PROJECT_ROOT, Settings
from mdp_tests.config.settings_reference import settings_page

PAGE = PROJECT_ROOT / "docs" / "reference" / "settings.md"

NO_SECRETS = {"rest_url", "ws_url", "archive_url", "dagster_url", "api_endpoint", "keys", "keys_file"}
"""Names that sound like a secret: addresses that need none, whose user and password are masked all the same."""


def test_the_page_is_what_the_models_say():
    found = settings_page()
    if os.environ.get("WRITE_SNAPSHOT"):
        PAGE.write_text(found, encoding="utf-8")
    assert found == PAGE.read_text(encoding="utf-8"), "run `make golden`, then read the diff"


def test_every_setting_says_what_it_is_for_and_what_it_may_be():
    described = described_settings()
    assert [one.setting for one in described if not (one.text and one.kind)] == []
    assert len(described) > 100
    assert len({one.path for one in described}) == len(described)
    assert {one.path[0] for one in described} == set(Settings.model_fields)


def test_every_secret_is_a_setting_and_whatever_sounds_like_one_is_decided():
    described = {one.path for one in described_settings()}
    assert described >= SECRETS
    sounds = ("url", "key", "password", "token", "secret", "endpoint")
    undecided = {path for path in described - SECRETS if any(word in path[-1] for word in sounds)}
    assert {path[-1] for path in undecided} - NO_SECRETS == {"write_endpoint", "url"}
    assert ("simulator", "url") in undecided


def test_ranges_and_choices_are_told():
    told = {one.setting: (one.kind, one.allowed) for one in described_settings()}
    assert told["MDP_WORKERS"] == ("whole number", "at least 1, at most 64")
    assert told["MDP_CPU_SHARE"] == ("number", "more than 0, at most 1")
    assert told["MDP_STORE"] == ("one of `duckdb`, `bigquery`", "")
    assert told["MDP_DATA_DIR"] == ("path", "")
    assert told["MDP_API__TRUSTED_PROXIES"] == ("JSON list of text", "")
