"""The files of the page: a fixed table that is made once, so that a path can name nothing else.

All of them stand under a digest of all of them: a browser may keep one for good, since a changed file has another
address. Not here: answering (``routes``).
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable

CONTENT_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    "": "text/plain; charset=utf-8",
}
"""By suffix; a file with another one is not served."""

PLACE = "/static/@/"
"""What a document writes before the name of a file; the digest takes the place of ``@``."""

_PACKAGE = "mdp.api.page"


@dataclass(frozen=True, slots=True)
class StaticFile:
    """One file as it is sent.

    Attributes:
        body: Its bytes.
        compressed: The same as gzip.
        content_type: What it is.
        etag: Strong; of ``body``. The compressed one has another.
    """

    body: bytes
    compressed: bytes
    content_type: str
    etag: str

    @property
    def compressed_etag(self) -> str:
        """The tag of the compressed bytes, which are other bytes."""
        return f'{self.etag[:-1]}-gzip"'


@dataclass(frozen=True, slots=True)
class StaticFiles:
    """All of them.

    Attributes:
        digest: Of all files: part of their addresses.
        files: By name, such as ``app.js`` or ``vendor/lightweight-charts/LICENSE``; without documents.
        documents: By name: ``index.html``, ``reference.html``.
    """

    digest: str
    files: Mapping[str, StaticFile]
    documents: Mapping[str, StaticFile]


@cache
def load_files() -> StaticFiles:
    """Read the files of the page, once in a process."""
    found = dict(sorted(_walk(resources.files(_PACKAGE) / "static", "")))
    digest = hashlib.sha256()
    for name, body in found.items():
        digest.update(b"%s\0%d\0%s" % (name.encode(), len(body), body))
    place = digest.hexdigest()[:16]
    files: dict[str, StaticFile] = {}
    documents: dict[str, StaticFile] = {}
    for name, body in found.items():
        if name.endswith(".html"):
            documents[name] = _prepared(name, body.replace(PLACE.encode(), f"/static/{place}/".encode()))
        else:
            files[name] = _prepared(name, body)
    return StaticFiles(place, files, documents)


def _walk(folder: Traversable, under: str) -> Iterator[tuple[str, bytes]]:
    for entry in folder.iterdir():
        name = f"{under}{entry.name}"
        if entry.is_dir():
            yield from _walk(entry, f"{name}/")
        elif _suffix(name) in CONTENT_TYPES:
            yield name, entry.read_bytes()


def _prepared(name: str, body: bytes) -> StaticFile:
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    return StaticFile(body, gzip.compress(body, 6, mtime=0), CONTENT_TYPES[_suffix(name)], etag)


def _suffix(name: str) -> str:
    last = name.rpartition("/")[2]
    return last[last.rindex(".") :] if "." in last else ""
