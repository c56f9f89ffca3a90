r"""Uploads of load jobs: bytes arrive as they were sent, under the client's job id.

The emulator reads a multipart body with the parser for mail, which changes line ends inside a Parquet file, refuses
the media type that Google's client names (``*/*``), and drops the job reference
(https://cloud.google.com/bigquery/docs/reference/api-uploads).

Not here: what is done with the file (``loads``).
"""

from __future__ import annotations

import json
import re
from contextvars import ContextVar
from functools import wraps
from typing import Any

from bqemulator.api.routes import upload
from bqemulator.domain.errors import InvalidQueryError

from mdp_tests.support.bigquery.job_ids import refuse_known

_WANTED = "clientJobId"
_job_id: ContextVar[str | None] = ContextVar("job_id", default=None)


def teach() -> None:
    """Replace the parser of multipart bodies and carry the job id from the envelope to the job."""
    upload._parse_multipart_related = parse_multipart
    upload._load_configuration_from_envelope = _with_job_id(upload._load_configuration_from_envelope)
    upload._new_job_id = _given(upload._new_job_id)
    upload._run_load = _under_given_id(upload._run_load)


def parse_multipart(content_type: str, body: bytes) -> tuple[dict[str, Any], bytes]:
    """Split a ``multipart/related`` body of two parts into the job resource and the file, byte for byte.

    Raises:
        InvalidQueryError: it is not such a body, or its end is missing.
    """
    found = re.search(r'boundary="?([^";,]+)"?', content_type)
    if found is None:
        raise InvalidQueryError(f"multipart upload names no boundary: {content_type!r}")
    mark = b"\r\n--" + found.group(1).encode()
    parts, end, _ = (b"\r\n" + body).rpartition(mark + b"--")
    _, _, parts = parts.partition(mark)
    envelope, middle, media = parts.partition(mark)
    if not middle or not end:
        raise InvalidQueryError("multipart upload is cut short: it needs two parts and the closing boundary")
    return json.loads(_content(envelope)), _content(media)


def _content(part: bytes) -> bytes:
    """Return what follows the headers of a part."""
    _, empty_line, content = part.partition(b"\r\n\r\n")
    if not empty_line:
        raise InvalidQueryError("a part of the multipart upload has no headers")
    return content


def _with_job_id(read: Any) -> Any:
    @wraps(read)
    def keep_id(envelope: dict[str, Any]) -> dict[str, Any]:
        given = (envelope.get("jobReference") or {}).get("jobId")
        return {**read(envelope), _WANTED: given}

    return keep_id


def _given(invent: Any) -> Any:
    return lambda: _job_id.get() or invent()


def _under_given_id(run: Any) -> Any:
    @wraps(run)
    async def run_under_id(*, project_id: str, configuration: dict[str, Any], media_path: str, ctx: Any) -> Any:
        wanted = configuration.get(_WANTED)
        plain = {name: value for name, value in configuration.items() if name != _WANTED}
        if wanted is not None:
            refuse_known(ctx, project_id, wanted)
        token = _job_id.set(wanted)
        try:
            return await run(project_id=project_id, configuration=plain, media_path=media_path, ctx=ctx)
        finally:
            _job_id.reset(token)

    return run_under_id
