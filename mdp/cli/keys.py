"""``mdp keys``: who may ask the service from elsewhere.

Not here: the file of keys (``api.key_file``), checking them (``api.keys``).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec
from rich.table import Table

from mdp.api.callers import Scope
from mdp.api.key_file import Key, create_key, read_keys, revoke_key, utc_now
from mdp.cli.output import print_table
from mdp.config.settings import load_settings
from mdp.domain.interval import format_time
from mdp.errors import InputError
from mdp.reading.arguments import parse_moment

_LENGTH = re.compile(r"([1-9][0-9]{0,4})([dh])", re.ASCII)
_UNITS = {"d": timedelta(days=1), "h": timedelta(hours=1)}


def create(name: str, scopes: Sequence[str], expires: str | None, per_minute: int | None, *, as_json: bool) -> None:
    """Make a key and print it.

    Raises:
        InputError: an argument is wrong, or a valid key has the name.
        ConfigError: the file of keys is damaged, too open, or cannot be written.
    """
    settings = load_settings()
    now = utc_now()
    made = create_key(
        settings.keys_file,
        name,
        parse_scopes(scopes),
        now,
        expires_at=None if expires is None else parse_expiry(expires, now),
        requests_per_minute=per_minute,
    )
    if as_json:
        _write_json({"key": made.text, **_document(made.key, now)})
        return
    key = made.key
    until = "" if key.expires_at is None else f", until {format_time(key.expires_at)}"
    sys.stderr.write(
        f"mdp: key {key.id} of {key.name}, for {' and '.join(key.scopes)}{until}. It is shown this once:\n"
    )
    sys.stdout.write(made.text + "\n")


def list_all(*, as_json: bool) -> None:
    """Print all keys but their secrets.

    Raises:
        ConfigError: the file of keys is damaged or too open.
    """
    settings = load_settings()
    now = utc_now()
    keys = read_keys(settings.keys_file)
    if as_json:
        _write_json([_document(key, now) for key in keys])
        return
    if not keys:
        sys.stdout.write("There are no keys; `mdp keys create NAME` makes one.\n")
        return
    table = Table("id", "name", "scopes", "state", "created", "expires", "a minute", box=None, pad_edge=False)
    for key in keys:
        limit = key.requests_per_minute or settings.api.requests_per_minute
        expires = "never" if key.expires_at is None else format_time(key.expires_at)
        table.add_row(
            key.id, key.name, " ".join(key.scopes), key.state(now), format_time(key.created_at), expires, str(limit)
        )
    print_table(table)


def revoke(which: str) -> None:
    """Take a key back.

    Raises:
        InputError: there is no such key.
        ConfigError: the file of keys is damaged, too open, or cannot be written.
    """
    key = revoke_key(load_settings().keys_file, which, utc_now())
    sys.stdout.write(f"revoked: {key.id} of {key.name}\n")


def parse_scopes(texts: Sequence[str]) -> list[Scope]:
    """Understand scopes; whoever may generate may read.

    Raises:
        InputError: one is none.
    """
    wrong = [text for text in texts if text not in list(Scope)]
    if wrong:
        raise InputError("scope", got=wrong[0], expected=f"one of {', '.join(Scope)}")
    return [Scope.READ, *(Scope(text) for text in dict.fromkeys(texts) if text != Scope.READ)]


def parse_expiry(text: str, now: datetime) -> datetime:
    """Understand how long a key is good: a length of time, or the moment itself.

    Raises:
        InputError: it is neither, or over already.
    """
    length = _LENGTH.fullmatch(text)
    if length is not None:
        return (now + int(length[1]) * _UNITS[length[2]]).replace(microsecond=0)
    expires_at = parse_moment("expires", text)
    if expires_at <= now:
        raise InputError("expires", got=text, expected=f"a time after now, {format_time(now.replace(microsecond=0))}")
    return expires_at


def _document(key: Key, now: datetime) -> dict[str, object]:
    said = msgspec.to_builtins(key)
    del said["sha256"]
    return {**said, "state": key.state(now)}


def _write_json(said: object) -> None:
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(said), indent=2).decode() + "\n")
