"""The file of keys: never the keys themselves, only what tells a right one from a wrong one.

A secret is 32 random bytes. Nobody can try them out, however fast the hash is: SHA-256, once, is enough and costs a
request a microsecond. (Slow hashes protect what people think up; nobody thinks these up.)

Not here: checking the key of a request (``keys``), the command (``cli.keys``).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec

from mdp.api.callers import Scope
from mdp.errors import ConfigError, InputError

SETTING = "MDP_API__KEYS_FILE"
KEY = re.compile(r"mdp_([0-9a-f]{12})_([A-Za-z0-9_-]{43})", re.ASCII)
"""How a key looks: its id, then its secret."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}", re.ASCII)
_NOT_FOR_OTHERS = 0o027
"""Others may not even read the file, those of the group not write it."""

_MOST_BYTES = 16_777_216


class Key(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is kept of a key.

    Attributes:
        id: Part of the key that may be shown.
        name: Whose it is, or what for.
        sha256: Of the secret part, hexadecimal.
        scopes: What it is good for.
        created_at: When it was made.
        expires_at: It is good until then. None: for good.
        revoked_at: When it was taken back. None: it was not.
        requests_per_minute: None: as many as the settings say.
    """

    id: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{12}$")]
    name: str
    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    scopes: tuple[Scope, ...]
    created_at: Annotated[datetime, msgspec.Meta(tz=True)]
    expires_at: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    revoked_at: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    requests_per_minute: Annotated[int, msgspec.Meta(ge=1)] | None = None

    def state(self, now: datetime) -> str:
        """Return ``valid``, ``expired`` or ``revoked``."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "valid"


class NewKey(NamedTuple):
    """A key that was just made.

    Attributes:
        key: What is kept of it.
        text: The key itself, which is kept nowhere.
    """

    key: Key
    text: str


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    keys: tuple[Key, ...]
    format: Annotated[int, msgspec.Meta(ge=1, le=1)] = 1


def digest_of(secret: str) -> str:
    """Return what is kept of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def read_keys(path: Path) -> tuple[Key, ...]:
    """Return all keys of a file, revoked and expired ones too; none where there is no file.

    Raises:
        ConfigError: the file is damaged, too open, or cannot be read.
    """
    try:
        with path.open("rb") as file:
            _require_closed(path, os.fstat(file.fileno()))
            text = file.read(_MOST_BYTES + 1)
        keys = msgspec.json.decode(text, type=_File).keys
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise ConfigError(SETTING, got=str(path), expected=f"a file that can be read: {error.strerror}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        expected = f"a file as `mdp keys create` writes it; this one is damaged: {error}"
        raise ConfigError(SETTING, got=str(path), expected=expected) from error
    if len({key.id for key in keys}) < len(keys):
        raise ConfigError(SETTING, got=str(path), expected="each key once; an id is there twice")
    return keys


def _require_closed(path: Path, found: os.stat_result) -> None:
    if found.st_mode & _NOT_FOR_OTHERS:
        expected = f"a file of mode 0600, as others could read or change this one ({found.st_mode & 0o777:04o}): chmod"
        raise ConfigError(SETTING, got=str(path), expected=f"{expected} 600 it, and revoke keys you do not know")
    if found.st_uid not in (os.geteuid(), 0):
        raise ConfigError(SETTING, got=str(path), expected="a file of the user who runs the service")


def create_key(
    path: Path,
    name: str,
    scopes: Sequence[Scope],
    now: datetime,
    *,
    expires_at: datetime | None = None,
    requests_per_minute: int | None = None,
) -> NewKey:
    """Make a key and keep what tells it from a wrong one.

    Raises:
        InputError: the name is none, or a valid key has it already.
        ConfigError: the file is damaged, too open, or cannot be written.
    """
    if not NAME.fullmatch(name):
        expected = "1 to 64 letters, digits, dots, _, @ and -, the first a letter or digit"
        raise InputError("name", got=name, expected=expected)
    secret = secrets.token_urlsafe(32)
    scopes = tuple(scope for scope in Scope if scope in scopes)
    created_at = now.replace(microsecond=0)
    key = Key(
        secrets.token_hex(6), name, digest_of(secret), scopes, created_at, expires_at,
        requests_per_minute=requests_per_minute,
    )  # fmt: skip

    def add(keys: tuple[Key, ...]) -> tuple[Key, ...]:
        if any(one.name == name and one.state(now) == "valid" for one in keys):
            raise InputError("name", got=name, expected="a name that no valid key has; `mdp keys list` shows them")
        return (*keys, key)

    _change(path, add)
    return NewKey(key, f"mdp_{key.id}_{secret}")


def revoke_key(path: Path, which: str, now: datetime) -> Key:
    """Take a key back, by its id or its name; return it. One that is revoked already stays as it is.

    Raises:
        InputError: no key has that id, and no valid one that name.
        ConfigError: the file is damaged, too open, or cannot be written.
    """
    found: list[Key] = []

    def take_back(keys: tuple[Key, ...]) -> tuple[Key, ...]:
        key = next((one for one in keys if one.id == which), None) or next(
            (one for one in reversed(keys) if one.name == which and one.revoked_at is None), None
        )
        if key is None:
            listed = ", ".join(f"{one.id} ({one.name})" for one in keys if one.state(now) == "valid") or "there is none"
            raise InputError("key", got=_without_secret(which), expected=f"id or name of a key: {listed}")
        if key.revoked_at is None:
            key = msgspec.structs.replace(key, revoked_at=now.replace(microsecond=0))
        found.append(key)
        return tuple(key if one.id == key.id else one for one in keys)

    _change(path, take_back)
    return found[0]


def _without_secret(text: str) -> str:
    return KEY.sub(r"mdp_\1_…", text)


def _change(path: Path, change: Callable[[tuple[Key, ...]], tuple[Key, ...]]) -> None:
    try:
        with _locked(path):
            keys = change(read_keys(path))
            _write(path, msgspec.json.format(msgspec.json.encode(_File(keys)), indent=1))
    except OSError as error:
        raise ConfigError(SETTING, got=str(path), expected=f"a file that can be written: {error.strerror}") from error


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _write(path: Path, body: bytes) -> None:
    """Write a file that is whole or as it was, even after a power cut; nobody else can read it at any moment."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    target = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(target, "wb") as file:
            file.write(body + b"\n")
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def utc_now() -> datetime:
    """Return the present, UTC."""
    return datetime.now(UTC)
