"""How the service describes itself: OpenAPI, with groups, keys, problems and examples.

Not here: what each route says of itself (the routes).
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from mdp.api.problems import ProblemDocument

_DESCRIPTION = """\
Crypto candles that can be relied on: live buffers, history, and all that is known of both.

- Times are UTC, ranges half-open: `end` is not included. A candle is known by the time it opens.
- What is not stored is absent; nothing is filled in.
- Answers of rows come as JSON, CSV, Arrow or Parquet, by `Accept` or `format`.
- An error is `application/problem+json` (RFC 9457): it names the parameter, what came and what is allowed, and whether
  the same request may succeed later.
- Away from the machine itself every request needs a key (`mdp keys create`).
- `wss://…/api/v1/stream` is the WebSocket; `docs/streams.md` describes it.
"""

_TAGS = [
    {"name": "Buffers", "description": "The last candles of each market, from memory."},
    {"name": "History", "description": "Stored candles and indices, page by page."},
    {"name": "Quality", "description": "What is missing and why, what was changed, how much is there."},
    {"name": "Generations", "description": "Have missing days collected, as backfills of Dagster."},
    {"name": "Streams", "description": "Changes as they happen, over WebSocket or as server-sent events."},
    {"name": "Drop-in klines", "description": "In the words of Binance, Bybit and OKX, for bots that speak these."},
    {"name": "Service", "description": "How the service is."},
]

_SECURITY = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "A key: `mdp_<id>_<secret>`."},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "cookie": {"type": "apiKey", "in": "cookie", "name": "mdp_key"},
}


def describe(app: FastAPI) -> None:
    """Have an app answer its OpenAPI document; it is made once."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = openapi_document(app)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's own way to extend it


def openapi_document(app: FastAPI) -> dict[str, Any]:
    """Return the description of all routes."""
    made = get_openapi(
        title="mdp", version=version("mdp"), description=_DESCRIPTION, routes=app.routes, tags=_TAGS,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
    )  # fmt: skip
    schemas = made["components"]["schemas"]
    problem = ProblemDocument.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= problem.pop("$defs", {})
    schemas["ProblemDocument"] = problem
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for path in made["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)  # FastAPI's own word for what is 400 here
    made["components"]["securitySchemes"] = _SECURITY
    made["security"] = [{}, *({name: []} for name in _SECURITY)]
    return made
