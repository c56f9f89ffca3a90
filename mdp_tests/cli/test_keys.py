"""``mdp keys``: what it prints, what it keeps to itself, and how it refuses."""

from __future__ import annotations

import json
import re
import sys
from datetime import UTC, datetime, timedelta

import pytest

from mdp.api.callers import Scope
from mdp.api.key_file import KEY, read_keys
from mdp.api.keys import KeyRing
from mdp.cli import keys as command
from mdp.cli.app import main
from mdp.config.settings import load_settings
from mdp.errors import InputError

NOW = datetime(2026, 1, 2, 3, 4, 5, 6, UTC)


@pytest.fixture
def path(monkeypatch, tmp_path):
    monkeypatch.setenv("MDP_DATA_DIR", str(tmp_path))
    return load_settings().keys_file


def create(name="desk", scopes=("read",), expires=None, per_minute=None, *, as_json=False):
    command.create(name, scopes, expires, per_minute, as_json=as_json)


def test_the_key_alone_is_on_stdout_and_opens_the_service(path, capsys):
    create(expires="90d", per_minute=7)
    printed = capsys.readouterr()
    checked = KeyRing(path).check(printed.out.removesuffix("\n"))
    assert checked.why == "valid"
    assert checked.key.requests_per_minute == 7
    assert KEY.fullmatch(printed.out.strip())[2] not in printed.err
    assert "shown this once" in printed.err


def test_no_list_ever_shows_what_could_open_anything(path, capsys):
    create()
    text = capsys.readouterr().out.strip()
    secret = KEY.fullmatch(text)[2]
    hashed = read_keys(path)[0].sha256
    command.list_all(as_json=False)
    command.list_all(as_json=True)
    listed = capsys.readouterr().out
    assert "desk" in listed
    assert secret not in listed
    assert hashed not in listed


def test_a_list_says_which_are_valid_for_what_and_how_long(path, capsys):
    create("desk", ("generate",), "2100-01-01", 7)
    create("bot")
    command.revoke("bot")
    capsys.readouterr()
    command.list_all(as_json=True)
    desk, bot = json.loads(capsys.readouterr().out)
    assert (desk["name"], desk["scopes"], desk["state"]) == ("desk", ["read", "generate"], "valid")
    assert (desk["expires_at"], desk["requests_per_minute"]) == ("2100-01-01T00:00:00Z", 7)
    assert (bot["name"], bot["state"]) == ("bot", "revoked")


def test_whoever_may_generate_may_read():
    assert command.parse_scopes(["generate"]) == [Scope.READ, Scope.GENERATE]
    assert command.parse_scopes(["read", "read"]) == [Scope.READ]
    with pytest.raises(InputError, match="scope: expected one of read, generate, got 'admin'"):
        command.parse_scopes(["read", "admin"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90d", NOW.replace(microsecond=0) + timedelta(days=90)),
        ("12h", NOW.replace(microsecond=0) + timedelta(hours=12)),
        ("2026-01-03", datetime(2026, 1, 3, tzinfo=UTC)),
        ("2026-01-02T05:04:06+01:00", datetime(2026, 1, 2, 4, 4, 6, tzinfo=UTC)),
    ],
)
def test_a_key_ends_after_a_length_of_time_or_at_a_moment(text, expected):
    assert command.parse_expiry(text, NOW) == expected


@pytest.mark.parametrize(
    "text", ["0d", "-1d", "90", "d", "1y", "2026-01-02", "2026-01-02T03:04:05.000006Z", "soon", ""]
)
def test_an_end_that_is_none_or_over_is_refused(text):
    with pytest.raises(InputError, match="expires: expected"):
        command.parse_expiry(text, NOW)


@pytest.mark.slow
def test_the_commands_are_there_and_wrong_ones_end_with_two(path, monkeypatch, capfd):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["mdp", "keys", *arguments])
        with pytest.raises(SystemExit) as exited:
            main()
        return exited.value.code, *capfd.readouterr()

    code, out, _ = run("create", "desk", "--scope", "generate", "--expires", "1d", "--json")
    assert code == 0
    assert json.loads(out)["key"].startswith("mdp_")
    assert run("list")[:2] == (0, run("list")[1])
    assert run("revoke", "desk")[0] == 0
    code, _, error = run("revoke", "desk")
    assert (code, error.count("\n")) == (2, 1)
    assert run("create", "a b")[0] == 2
    path.write_text("{")
    code, _, error = run("list")
    assert code == 2
    assert re.search("MDP_API__KEYS_FILE: expected .*damaged", error)
