"""How errors become answers: ours, FastAPI's and Starlette's alike as problems, or in an exchange's words.

Not here: the shape of a problem (``problems``), who raises what (``errors``).
"""

from __future__ import annotations

import math

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from mdp.api.compat.refusals import refusal
from mdp.api.problems import Problem, unavailable, wrong_parameter
from mdp.errors import InputError, MdpError, SliceMissing, SnapshotMissing


def refuse_in_words(app: FastAPI) -> None:
    """Have every error of an app answered by name, in the words of whose path it is."""
    app.add_exception_handler(Problem, _problem)  # type: ignore[arg-type]  # Starlette's type is of any exception
    app.add_exception_handler(MdpError, _of_ours)  # type: ignore[arg-type]
    app.add_exception_handler(RequestValidationError, _not_valid)  # type: ignore[arg-type]
    app.add_exception_handler(HTTPException, _of_starlette)  # type: ignore[arg-type]
    app.add_exception_handler(Exception, _unknown)


def problem_of(error: MdpError) -> Problem:
    """Return the problem that tells of an error of ours.

    What is broken here is named by its kind only: its message may hold a path of this machine.
    """
    if isinstance(error, InputError):
        return wrong_parameter(error.field, error.got, error.expected)
    if isinstance(error, SliceMissing | SnapshotMissing):
        return Problem(404, "not-found", "There is no such thing", str(error))
    if error.retryable:
        return unavailable(f"{type(error).__name__}: try again a little later")
    return Problem(500, "broken", "What is stored or set up here is broken", f"{type(error).__name__}: see the log")


def answer(request: Request, problem: Problem) -> Response:
    """Return a problem as whoever asks understands it."""
    after = problem.headers.get("retry-after")
    seconds = float(after) if after is not None and math.isfinite(float(after)) else None
    said = refusal(request.url.path, problem.status, problem.document.detail, seconds)
    return said or problem.response()


def _problem(request: Request, problem: Problem) -> Response:
    return answer(request, problem)


def _of_ours(request: Request, error: MdpError) -> Response:
    return answer(request, problem_of(error))


def _not_valid(request: Request, error: RequestValidationError) -> Response:
    first = error.errors()[0]
    name = str(first["loc"][-1])
    in_body = first["loc"][0] == "body"  # which may hold a key
    got = None if first["type"] == "missing" else "…" if in_body else first.get("input")
    expected = "a value: it is required" if first["type"] == "missing" else str(first["msg"])
    return answer(request, wrong_parameter(name, got, expected))


def _of_starlette(request: Request, error: HTTPException) -> Response:
    said = str(error.detail)
    kind = said.lower().replace(" ", "-")
    headers = _all_allowed(request, error) if error.status_code == 405 else error.headers
    detail = said
    if error.status_code == 404:
        detail = f"{said}: nothing is at this address; /docs shows what there is"
    elif error.status_code == 405:
        detail = f"{said}: expected {(headers or {}).get('allow', 'another one')}"
    return answer(request, Problem(error.status_code, kind, said, detail, headers=headers))


def _all_allowed(request: Request, error: HTTPException) -> dict[str, str]:
    """Name every method of the path: what is routed method by method knows of the first only."""
    path = getattr(request.scope.get("route"), "path", "")
    documented = {method.upper() for method in request.app.openapi()["paths"].get(path, {})}
    said = {one.strip() for one in (error.headers or {}).get("Allow", "").split(",")} - {""}
    return {"allow": ", ".join(sorted(documented | said))}


def _unknown(request: Request, _: Exception) -> Response:
    said = "this should not have happened; the log of the service says more"
    return answer(request, Problem(500, "broken", "An error of the service", said))
