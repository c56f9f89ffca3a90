"""What no line may show: passwords of URLs, keys of the API, and every secret that the settings name.

Not here: how settings are shown (``config.masking``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel

from mdp.config.settings import Settings

MASK = "***"

_SHORTEST = 6
"""A shorter password would be found in innocent words; that of a URL is masked where the URL is."""

_SECRET_WORDS = r"(?:api[_-]?key|(?:private|secret|access)[_-]?key|secret|passwd|password|token|signature)"
"""What the name of a secret ends with, whatever stands before: ``PGPASSWORD``, ``accessToken``, ``X-MBX-APIKEY``."""

_PATTERNS = (
    (re.compile(r"(?<=://)[^\s/?#\"']*@"), f"{MASK}@"),
    (re.compile(r"\bmdp_([0-9A-Za-z]{1,64})_[A-Za-z0-9_-]{8,}"), rf"mdp_\1_{MASK}"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9+/._~=-]{6,}"), rf"\1 {MASK}"),
    (re.compile(rf"(?i)({_SECRET_WORDS}[\"']?\s*[=:]\s*[\"']?)[^\s&\"',;)}}]+"), rf"\1{MASK}"),
)  # fmt: skip

_NAME_OF_SECRET = re.compile(rf"(?i){_SECRET_WORDS}$")

_PASSWORD = re.compile(r"://[^:/@\s]*:([^@\s]*)@")

_SECRET_NAMES = ("webhook_url",)
"""Settings that are secret as a whole: whoever knows the address may write there."""


def hiding(settings: Settings | None = None) -> Callable[[str], str]:
    """Return what hides secrets in a text.

    Args:
        settings: Whose secrets are known by their letters, wherever they turn up; None: only what looks like one.
    """
    literal = sorted({*_secrets_of(settings)} if settings else (), key=len, reverse=True)
    known = re.compile("|".join(map(re.escape, literal))) if literal else None

    def hide(text: str) -> str:
        shown = known.sub(MASK, text) if known else text
        for pattern, instead in _PATTERNS:
            shown = pattern.sub(instead, shown)
        return shown

    return hide


def names_secret(name: str) -> bool:
    """Tell whether a field is called as a secret is, so that its value is not to be shown.

    Examples:
        >>> names_secret("bus_password"), names_secret("tokens")
        (True, False)
    """
    return _NAME_OF_SECRET.search(name) is not None


def _secrets_of(section: BaseModel) -> Iterator[str]:
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from _secrets_of(value)
        elif value is not None and name in _SECRET_NAMES:
            yield str(value)
        elif isinstance(value, str) and "://" in value:
            yield from _password_of(value)


def _password_of(url: str) -> Iterator[str]:
    try:
        password = urlsplit(url).password
    except ValueError:
        return
    # SQLAlchemy, which asks Postgres, ends a password only at the last sign before the host
    given = {one for one in (password, *_PASSWORD.findall(url)) if one}
    for spelled in given | {unquote(one) for one in given}:
        if len(spelled) >= _SHORTEST:
            yield spelled
