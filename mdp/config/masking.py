"""What of a setting may be shown: never a user and password, nor any other secret.

Not here: what a URL must look like (``sections``).
"""

from __future__ import annotations

import re

SECRETS = frozenset({("alerts", "webhook_url"), ("bus", "url"), ("dagster", "broker_url"), ("dagster", "postgres_url")})
"""Settings that are secrets, or hold one; only variables may give them, never a file of the project."""

_WHOLLY = frozenset({("alerts", "webhook_url"), ("dagster", "broker_url"), ("dagster", "postgres_url")})
"""Those of which nothing is shown that was not understood: where the secret stands in it, nobody can tell."""

_SERVER = re.compile(r"\A[a-z][a-z0-9+.-]*://(?:[^/\s]*@)?(?:\[[\da-f:.]+\]|[\w.-]+)(?::\d+)?(?:/[\w-]*)?\Z")
"""An address of which everybody can tell where its password ends."""

_USERINFO = re.compile(r"(?s)\A(\s*[A-Za-z][\w+.-]*://)?.*@")
_PASSWORD = re.compile(r"(?i)((?:password|passwd|username)=)[^&\s\"']*")


def masked(text: str) -> str:
    """Return a text that is, or was meant to be, a URL without its user and password.

    All that stands between ``scheme://`` and the last ``@`` counts as such: in a mistyped URL nobody can tell more.

    Examples:
        >>> masked("redis://me:secret@bus:6379/0")
        'redis://***@bus:6379/0'
        >>> masked("redis//me:secret@bus?password=secret")
        '***@bus?password=***'
        >>> masked("redis://bus:6379/0")
        'redis://bus:6379/0'
    """
    return _PASSWORD.sub(r"\1***", _USERINFO.sub(lambda found: f"{found[1] or ''}***@", text))


def without_user(url: str) -> str:
    """Return a URL as others may follow it: without the user and password that we ask with.

    Examples:
        >>> without_user("http://me:secret@dagster:3000/path")
        'http://dagster:3000/path'
    """
    scheme, colon, rest = url.partition("://")
    place, slash, path = rest.partition("/")
    return f"{scheme}{colon}{place.rpartition('@')[2]}{slash}{path}"


def masked_value(value: object) -> object:
    """Return the value of a setting with every text in it masked."""
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, dict):
        return {name: masked_value(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(masked_value(one) for one in value)
    return value


def masked_setting(path: tuple[str, ...], value: object) -> object:
    """Return the value of a setting as it may be shown, whether or not it is one that the setting may have.

    Examples:
        >>> masked_setting(("alerts", "webhook_url"), "https://hooks.example/T0/B0/secret")
        '***'
        >>> masked_setting(("dagster", "postgres_url"), "postgresql+psycopg2://me:secret@host/dagster")
        'postgresql+psycopg2://***@host/dagster'
        >>> masked_setting(("workers",), 3)
        3
    """
    if value is None or isinstance(value, bool | int | float):
        return value
    if path == ("alerts", "webhook_url"):
        return "***"
    if isinstance(value, dict):
        return {name: masked_setting((*path, str(name)), one) for name, one in value.items()}
    if path in _WHOLLY or any(path == secret[: len(path)] for secret in _WHOLLY):
        return masked(value) if isinstance(value, str) and path in _WHOLLY and _SERVER.match(value) else "***"
    return _without_query(masked_value(value))


def _without_query(value: object) -> object:
    """Hide what follows the question mark of a URL: keys are given there, under names nobody knows."""
    if isinstance(value, str):
        return re.sub(r"(://[^?]*\?).*", r"\1***", value)
    if isinstance(value, list | tuple):
        return type(value)(_without_query(one) for one in value)
    return value
