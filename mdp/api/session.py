"""``/api/v1/session``: a browser hands over a key once and has it sent along from then on.

The cookie is the key itself: it is revoked with it, at once and everywhere; scripts cannot read it, and no other site
can have it sent. Not here: which keys are valid (``doorkeeper``).
"""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from mdp.api.addresses import is_within, parse_networks
from mdp.api.doorkeeper import Doorkeeper
from mdp.api.gate import COOKIE, SESSION_PATH
from mdp.api.key_file import utc_now
from mdp.api.parameters import only_known_parameters
from mdp.api.problems import documented
from mdp.config.settings import Settings
from mdp.domain.interval import format_time

router = APIRouter(tags=["Service"], dependencies=[Depends(only_known_parameters)])

_LONGEST_S = 30 * 86_400


class Handover(BaseModel):
    """A key, handed over."""

    model_config = ConfigDict(extra="forbid")

    key: Annotated[
        str,
        Field(
            description="As `mdp keys create` printed it.", max_length=128, pattern="^[!-~]+$",
            examples=["mdp_0123456789ab_" + "x" * 43],
        ),
    ]  # fmt: skip


class Session(BaseModel):
    """What a browser may do from now on."""

    key_id: Annotated[str, Field(examples=["0123456789ab"])]
    name: Annotated[str, Field(description="Of the key.", examples=["desk"])]
    scopes: Annotated[list[str], Field(examples=[["read", "generate"]])]
    expires_at: Annotated[str | None, Field(description="Of the key; null: it does not.")]


@router.post(
    SESSION_PATH,
    summary="Hand over a key",
    responses={
        200: {
            "description": "The key is valid, and the cookie `mdp_key` is set.",
            "headers": {"Set-Cookie": {"description": "The key.", "schema": {"type": "string"}}},
        },
        **documented(413),
    },
)
async def begin(request: Request, response: Response, handover: Handover) -> Session:
    """Check a key and set it as a cookie that scripts cannot read and other sites cannot have sent.

    The cookie lasts as long as the key, 30 days at most. Over plain HTTP it is not marked `Secure`.
    """
    doorkeeper = cast("Doorkeeper", request.app.state.doorkeeper)
    address = str(request.scope.get("mdp.address", ""))
    admitted = doorkeeper.admit(handover.key, address)
    key = admitted.key
    lasts_s = _LONGEST_S
    if key.expires_at is not None:
        lasts_s = min(lasts_s, max(1, int((key.expires_at - utc_now()).total_seconds())))
    response.set_cookie(
        COOKIE, handover.key, max_age=lasts_s, path="/", httponly=True, samesite="strict", secure=_is_secure(request)
    )
    response.headers["cache-control"] = "no-store"
    request.scope.setdefault("mdp.headers", []).extend(admitted.headers)
    return Session(
        key_id=key.id,
        name=key.name,
        scopes=[scope.value for scope in key.scopes],
        expires_at=None if key.expires_at is None else format_time(key.expires_at),
    )


@router.delete(
    SESSION_PATH,
    status_code=204,
    response_class=Response,
    summary="Forget a key",
    responses={204: {"description": "The cookie is gone; the key stays valid."}, **documented()},
)
async def end(request: Request) -> Response:
    """Have the browser forget the key it handed over."""
    response = Response(status_code=204)
    response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict", secure=_is_secure(request))
    return response


def _is_secure(request: Request) -> bool:
    """Tell whether the browser speaks HTTPS: to us, or to a proxy that we believe."""
    if request.scope["scheme"] == "https":
        return True
    settings = cast("Settings", request.app.state.settings)
    peer = request.client.host if request.client else ""
    is_believed = is_within(peer, parse_networks(settings.api.trusted_proxies))
    return is_believed and request.headers.get("x-forwarded-proto", "").strip().lower() == "https"
