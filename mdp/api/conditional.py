"""Whether who asks has the answer already: ETags, ``If-None-Match``.

Not here: what an answer's version is made of (``row_answers``).
"""

from __future__ import annotations

import hashlib
import re
from importlib.metadata import version

import polars as pl

_TAG = re.compile(r'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')

_VERSIONS = f"{version('mdp')} {pl.__version__}"
"""A later version may spell the same rows otherwise."""


def digest_of(*parts: str | bytes) -> str:
    """Return a short digest of an answer's parts, the same in every process of this version."""
    hashed = hashlib.blake2b(_VERSIONS.encode(), digest_size=12)
    for part in parts:
        body = part.encode() if isinstance(part, str) else part
        hashed.update(len(body).to_bytes(8, "little"))
        hashed.update(body)
    return hashed.hexdigest()


def digest_of_rows(rows: pl.DataFrame) -> bytes:
    """Return what tells rows apart from others, in a fraction of the time that spelling them takes.

    Args:
        rows: Any columns.
    """
    hashes = rows.hash_rows(seed=0).to_numpy()
    names = repr([(name, str(dtype)) for name, dtype in rows.schema.items()])
    return hashlib.blake2b(hashes.tobytes() + names.encode(), digest_size=16).digest()


def matches(if_none_match: str | None, etag: str) -> bool:
    """Tell whether a client has the version with this ETag.

    Args:
        if_none_match: The header: tags, or ``*``; None where it was not sent.
        etag: With its quotes.

    Source: RFC 9110, section 13.1.2; the comparison is weak.
    """
    if if_none_match is None:
        return False
    if if_none_match.strip() == "*":
        return True
    return etag.removeprefix("W/") in _TAG.findall(if_none_match)
