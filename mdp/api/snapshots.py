"""``/snapshots``: which there are, and what one says of itself.

Not here: their rows (``history``, with ``snapshot=NAME``), making them (``mdp snapshot``).
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Path
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from mdp.api.parameters import only_known_parameters
from mdp.api.problems import not_found
from mdp.api.row_answers import answer_json, documented_json
from mdp.api.surroundings import Around, Surroundings
from mdp.domain.interval import format_time
from mdp.pipeline.manifests import Manifest, sorted_by_length
from mdp.pipeline.snapshots import manifest_of, manifests
from mdp.ports import GAPS
from mdp.storage.rows import is_snapshot_name

router = APIRouter(tags=["History"], dependencies=[Depends(only_known_parameters)])


class SnapshotSummary(BaseModel):
    """A snapshot: rows that are read the same for ever."""

    name: Annotated[str, Field(examples=["paper-2025"])]
    id: Annotated[str, Field(description="Identity of its rows, the same on every machine.")]
    note: str
    created_at: str
    start: str
    end: str
    rows: int
    markets: list[str]
    timeframes: list[str]


class SnapshotList(BaseModel):
    """All snapshots, by name."""

    snapshots: list[SnapshotSummary]


class SnapshotManifest(BaseModel):
    """All that a snapshot says of itself."""

    format: int
    name: str
    note: str
    created_at: str
    mdp_version: str
    polars_version: str
    start: str
    end: str
    versions: dict[str, str]
    columns: dict[str, list[str]]
    parts: Annotated[list[dict[str, Any]], Field(description="Rows, digests and sources by table, market, timeframe.")]
    id: str


@router.head("/api/v1/snapshots", include_in_schema=False)
@router.get(
    "/api/v1/snapshots", summary="Snapshots there are", response_class=Response, responses=documented_json(SnapshotList)
)
async def list_snapshots(request: Request, around: Around) -> Response:
    """List every snapshot with its window, markets and identity; one whose manifest is damaged is left out."""

    def work() -> Response:
        found = [_summary(one) for one in manifests(around.store).values()]
        return answer_json(request, msgspec.json.encode({"snapshots": found}))

    return await around.in_thread(work)


@router.head("/api/v1/snapshots/{name}", include_in_schema=False)
@router.get(
    "/api/v1/snapshots/{name}",
    summary="The manifest of a snapshot",
    response_class=Response,
    responses=documented_json(SnapshotManifest, 404),
)
async def show_snapshot(
    request: Request,
    around: Around,
    name: Annotated[str, Path(description="Name of the snapshot.", examples=["paper-2025"])],
) -> Response:
    """Give the manifest of one snapshot: what it holds, with digests, and what was missing when it was made."""
    return await around.in_thread(partial(_answer, request, around, name))


def _answer(request: Request, around: Surroundings, name: str) -> Response:
    if not is_snapshot_name(name):
        raise not_found("name", name, "the name of a snapshot; /api/v1/snapshots lists them")
    return answer_json(request, msgspec.json.encode(manifest_of(around.store, name)))


def _summary(manifest: Manifest) -> dict[str, Any]:
    return {
        "name": manifest.name,
        "id": manifest.id,
        "note": manifest.note,
        "created_at": format_time(manifest.created_at),
        "start": format_time(manifest.start),
        "end": format_time(manifest.end),
        "rows": manifest.rows,
        "markets": list(dict.fromkeys(part.market for part in manifest.parts)),
        "timeframes": sorted_by_length({part.timeframe for part in manifest.parts if part.table != GAPS.name}),
    }
