"""Keys: what is kept of them, who can read it, how soon a change is seen, and that a broken file opens nothing."""

from __future__ import annotations

import json
import re
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from mdp.api.callers import Scope
from mdp.api.key_file import KEY, create_key, digest_of, read_keys, revoke_key
from mdp.api.keys import KeyRing
from mdp.errors import ConfigError, InputError

NOW = datetime(2026, 1, 2, 3, 4, 5, 678, UTC)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "api" / "keys.json"


def made(path, name="desk", **more):
    return create_key(path, name, [Scope.READ], NOW, **more)


def test_a_key_is_kept_nowhere_but_its_hash_is(path):
    new = made(path)
    secret = KEY.fullmatch(new.text)[2]
    assert secret not in path.read_text()
    assert read_keys(path) == (new.key,)
    assert new.key.sha256 == digest_of(secret)
    assert new.key.created_at == NOW.replace(microsecond=0)


def test_its_secret_has_32_random_bytes(path):
    secrets = {KEY.fullmatch(made(path, f"k{number}").text)[2] for number in range(5)}
    assert len(secrets) == 5
    assert {len(secret) for secret in secrets} == {43}


def test_nobody_else_can_read_the_file_and_nothing_unfinished_stays(path):
    made(path)
    made(path, "bot")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert sorted(one.name for one in path.parent.iterdir()) == [".keys.json.lock", "keys.json"]


def test_keys_made_at_the_same_time_are_all_kept(path):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: made(path, f"k{number}"), range(16)))
    assert sorted(key.name for key in read_keys(path)) == sorted(f"k{number}" for number in range(16))


@pytest.mark.parametrize("name", ["", "a b", "-x", "x" * 65, "a\n", "ä", "a/b"])
def test_a_name_that_is_none_is_refused(path, name):
    with pytest.raises(InputError, match="name: expected 1 to 64 letters"):
        made(path, name)


def test_a_name_is_free_again_once_its_key_is_revoked_or_expired(path):
    made(path, expires_at=NOW + timedelta(days=1))
    with pytest.raises(InputError, match="a name that no valid key has"):
        made(path)
    revoke_key(path, "desk", NOW)
    made(path, expires_at=NOW)
    made(path)
    assert [key.state(NOW) for key in read_keys(path)] == ["revoked", "expired", "valid"]


def test_a_key_is_revoked_by_id_or_name_and_stays_so(path):
    one, two = made(path).key, made(path, "bot").key
    assert revoke_key(path, one.id, NOW).name == "desk"
    assert revoke_key(path, "bot", NOW).id == two.id
    revoke_key(path, one.id, NOW + timedelta(days=1))
    assert {key.revoked_at for key in read_keys(path)} == {NOW.replace(microsecond=0)}


def test_who_pastes_a_whole_key_to_revoke_it_does_not_read_it_in_an_error(path):
    made(path, "bot")
    text = f"mdp_{'0' * 12}_{'s' * 43}"
    with pytest.raises(InputError, match=r"id or name of a key: [0-9a-f]{12} \(bot\)") as raised:
        revoke_key(path, text, NOW)
    assert "sss" not in str(raised.value)


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o660, 0o602, 0o620, 0o601])
def test_a_file_that_others_can_read_or_change_is_refused(path, mode):
    made(path)
    path.chmod(mode)
    with pytest.raises(ConfigError, match=rf"MDP_API__KEYS_FILE: expected a file of mode 0600.*{mode:04o}"):
        read_keys(path)
    with pytest.raises(ConfigError, match="0600"):
        made(path, "bot")


def damages(text):
    document = json.loads(text)
    key = document["keys"][0]
    yield ""
    yield text[:-20]
    yield "[]"
    yield b"\xff\xfe"
    yield json.dumps({**document, "format": 2})
    yield json.dumps({**document, "keys": [{**key, "sha256": "short"}]})
    yield json.dumps({**document, "keys": [{**key, "scopes": ["admin"]}]})
    yield json.dumps({**document, "keys": [{**key, "expires_at": "2026-01-01T00:00:00"}]})
    yield json.dumps({**document, "keys": [{**key, "revoked": True}]})
    yield json.dumps({**document, "keys": [key, key]})


def test_a_damaged_file_is_refused_by_name_and_never_written_over(path):
    made(path)
    for damage in damages(path.read_text()):
        path.write_bytes(damage if isinstance(damage, bytes) else damage.encode())
        before = path.read_bytes()
        for work in (lambda: read_keys(path), lambda: made(path, "bot"), lambda: revoke_key(path, "desk", NOW)):
            with pytest.raises(ConfigError, match="MDP_API__KEYS_FILE: expected"):
                work()
        assert path.read_bytes() == before


def test_no_file_is_no_keys(path):
    assert read_keys(path) == ()
    assert KeyRing(path).check("mdp_x").key is None


class TestRing:
    @pytest.fixture
    def ring(self, path):
        ring = KeyRing(path, lambda: NOW)

        def check(text):
            ring._look_at = 0.0  # half a second has passed
            return ring.check(text)

        return check

    def test_a_new_key_is_known_and_a_revoked_one_refused_without_a_restart(self, path, ring):
        assert ring("mdp_" + "0" * 12 + "_" + "a" * 43).why == "unknown id"
        text = made(path).text
        assert ring(text).why == "valid"
        revoke_key(path, "desk", NOW)
        assert ring(text) == (None, "revoked")

    def test_a_key_is_good_until_the_moment_it_expires(self, path):
        text = made(path, expires_at=NOW).text
        assert KeyRing(path, lambda: NOW - timedelta(microseconds=1)).check(text).why == "valid"
        assert KeyRing(path, lambda: NOW).check(text) == (None, "expired")

    @pytest.mark.parametrize("change", [str.upper, str.strip, lambda text: text + "\n", lambda text: text[:-1]])
    def test_what_is_only_like_a_key_is_none(self, path, ring, change):
        text = " " + made(path).text if change is str.strip else made(path).text
        assert ring(text if change is str.strip else change(text)).key is None

    def test_a_file_that_breaks_takes_all_keys_away_until_it_is_mended(self, path, ring):
        text = made(path).text
        whole = path.read_bytes()
        assert ring(text).why == "valid"
        path.chmod(0o644)
        with pytest.raises(ConfigError):
            ring(text)
        path.chmod(0o600)
        path.write_bytes(b"{")
        with pytest.raises(ConfigError):
            ring(text)
        path.write_bytes(whole)
        assert ring(text).why == "valid"

    def test_a_file_that_is_gone_takes_all_keys_away(self, path, ring):
        text = made(path).text
        assert ring(text).why == "valid"
        path.unlink()
        assert ring(text).key is None

    def test_a_secret_that_belongs_to_another_key_is_wrong(self, path, ring):
        one, two = made(path).text, made(path, "bot").text
        mixed = re.sub(r"_[^_]{12}_", "_" + two[4:16] + "_", one, count=1)
        assert ring(mixed).why == "wrong secret"
