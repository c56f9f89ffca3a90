"""Rows as an answer: in the form, packing and version that the request wants, or 304.

Not here: which rows (the routes), how they are spelled (``row_bodies``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl
from starlette.requests import Request
from starlette.responses import Response

from mdp.api.compression import LEAST_BYTES, Encoding, choose_encoding, compress
from mdp.api.conditional import digest_of, digest_of_rows, matches
from mdp.api.formats import MEDIA_TYPES, Format
from mdp.api.problems import MEDIA_TYPE as PROBLEM_TYPE
from mdp.api.problems import documented
from mdp.api.row_bodies import SPELLED

REVALIDATED = "private, no-cache"
"""Kept by who asked, and asked for again each time: what was stored can be corrected or filled in."""

IMMUTABLE = "private, max-age=31536000, immutable"
"""Never asked for again. Private, for what one key may read a shared cache must not hand to another."""

_CSV = f"{MEDIA_TYPES[Format.CSV]}; charset=utf-8"


@dataclass(frozen=True)
class Rows:
    """What is to be answered.

    Attributes:
        frame: The rows.
        head: What is the same in all of them; only JSON says it.
        headers: Beside the usual ones, in every form.
        cache_control: How long it may be kept.
    """

    frame: pl.DataFrame
    head: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)
    cache_control: str = REVALIDATED


def answer_rows(request: Request, format_: Format, rows: Rows) -> Response:
    """Spell rows as a request wants them. It takes a while: not in the event loop.

    Args:
        request: Its ``Accept-Encoding`` and ``If-None-Match`` count, and whether it is ``HEAD``.
        format_: Chosen already.
        rows: What to answer.
    """
    version = digest_of(repr(sorted(rows.head.items())), repr(sorted(rows.headers.items())), digest_of_rows(rows.frame))
    media_type = _CSV if format_ is Format.CSV else MEDIA_TYPES[format_]
    kind = f"{version}-{format_}"
    if unchanged := _unchanged(request, kind, rows):
        return unchanged
    return _packed(request, SPELLED[format_](rows.frame, rows.head), kind, media_type, rows)


def answer_json(request: Request, body: bytes, *, cache_control: str = REVALIDATED) -> Response:
    """Answer a JSON document as :func:`answer_rows` answers rows."""
    kind = f"{digest_of(body)}-{Format.JSON}"
    rows = Rows(pl.DataFrame(), {}, cache_control=cache_control)
    return _unchanged(request, kind, rows) or _packed(request, body, kind, MEDIA_TYPES[Format.JSON], rows)


def _unchanged(request: Request, kind: str, rows: Rows) -> Response | None:
    """304, where the client has this version, however it was packed."""
    sent = request.headers.get("if-none-match")
    for encoding in Encoding:
        etag = f'"{kind}-{encoding}"'
        if matches(sent, etag):
            return Response(status_code=304, headers=_headers(etag, rows))
    return None


def _packed(request: Request, body: bytes, kind: str, media_type: str, rows: Rows) -> Response:
    encoding = Encoding.IDENTITY
    # A Parquet file is packed already, column by column.
    if media_type != MEDIA_TYPES[Format.PARQUET] and len(body) >= LEAST_BYTES:
        encoding = choose_encoding(request.headers.get("accept-encoding"))
    packed = compress(body, encoding)
    headers = {**_headers(f'"{kind}-{encoding}"', rows), "content-length": str(len(packed))}
    if encoding is not Encoding.IDENTITY:
        headers["content-encoding"] = encoding
    return Response(b"" if request.method == "HEAD" else packed, headers=headers, media_type=media_type)


def _headers(etag: str, rows: Rows) -> dict[str, str]:
    return {
        **rows.headers,
        "etag": etag,
        "cache-control": rows.cache_control,
        "vary": "Accept, Accept-Encoding",
    }


def documented_rows(
    model: type, example: Mapping[str, Any], *statuses: int, headers: Sequence[str] = ()
) -> dict[int | str, dict[str, Any]]:
    """Return what OpenAPI says of a route that answers rows in any of the four forms.

    Args:
        model: Of the JSON form.
        example: Of it.
        statuses: Of problems, beside those that every such route may answer.
        headers: Of the answer, beside the usual ones; names of :data:`HEADERS`.
    """
    texts = {"type": "string"}
    content: dict[str, Any] = {
        MEDIA_TYPES[Format.JSON]: {"example": dict(example)},
        MEDIA_TYPES[Format.CSV]: {"schema": texts, "example": _csv_example(example)},
        MEDIA_TYPES[Format.ARROW]: {"schema": {**texts, "format": "binary"}},
        MEDIA_TYPES[Format.PARQUET]: {"schema": {**texts, "format": "binary"}},
    }
    said = {name: HEADERS[name] for name in ("ETag", "Cache-Control", "Vary", *headers)}
    return {
        200: {"model": model, "description": "The rows, in the form that was asked for.", "content": content,
              "headers": said},
        304: {"description": "What you have is what there is.",
              "headers": {name: HEADERS[name] for name in ("ETag", "Cache-Control")}},
        **documented(404, 406, *statuses),
    }  # fmt: skip


def documented_json(model: type, *statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return what OpenAPI says of a route that answers a JSON document."""
    said = {name: HEADERS[name] for name in ("ETag", "Cache-Control", "Vary")}
    return {
        200: {"model": model, "description": "What there is.", "headers": said},
        304: {"description": "What you have is what there is.", "headers": said},
        **documented(*statuses),
    }


def _csv_example(example: Mapping[str, Any]) -> str:
    lines = [example["columns"], *example["rows"]]
    return "".join(",".join("" if value is None else str(value) for value in line) + "\n" for line in lines)


def _header(description: str, example: str) -> dict[str, Any]:
    return {"description": description, "schema": {"type": "string"}, "example": example}


HEADERS: Mapping[str, dict[str, Any]] = {
    "ETag": _header("Version of this answer; send it as `If-None-Match`.", '"5c1f…-json-zstd"'),
    "Cache-Control": _header("How long the answer may be kept.", REVALIDATED),
    "Vary": _header("What of the request chose the form.", "Accept, Accept-Encoding"),
    "Link": _header("The next page, while there is one.", '<…&cursor=…>; rel="next"'),
    "X-MDP-Next-Cursor": _header("`cursor` of the next page, while there is one.", "eyJ…"),
    "X-MDP-Unstored": _header("How many of the last rows are not stored yet, but of the live buffer.", "2"),
}

__all__ = ["HEADERS", "IMMUTABLE", "PROBLEM_TYPE", "REVALIDATED", "Rows", "answer_json", "answer_rows"]
__all__ += ["documented_json", "documented_rows"]
