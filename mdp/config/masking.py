"""What of a URL may be shown: never its user and password.

Not here: what a URL must look like (``sections``).
"""

from __future__ import annotations

import re

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


def masked_value(value: object) -> object:
    """Return the value of a setting with every text in it masked."""
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, dict):
        return {name: masked_value(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(masked_value(one) for one in value)
    return value
