"""Faults that befall requests to BigQuery, and plans that say which requests.

What a fault says is what the service says (https://cloud.google.com/bigquery/docs/error-messages).
Not here: the session in which they happen (``session``), what a store makes of them (``storage.test_bigquery_faults``).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import requests

Send = Callable[[], requests.Response]


@dataclass(frozen=True, slots=True)
class Request:
    """A request as a plan sees it.

    Attributes:
        step: What it is for: ``upload``, ``statement``, ``query``, ``job``, ``page``, ``cancel``, ``table``,
            ``dataset``; of the last two also ``make table``, ``change table``, ``drop table``, ``make dataset``.
        about: The job's id, the path otherwise.
        number: How many of its step came before it in this session.
    """

    step: str
    about: str
    number: int


Fault = Callable[[Request, Send], requests.Response]
"""Answers a request in place of the server; may send it, and may raise."""

Plan = Callable[[Request], Fault | None]
"""Says what befalls a request; None: nothing."""


def refuse(status: int, reason: str, said: str = "no") -> Fault:
    """Answer with an error, without the server."""
    return lambda request, send: _answer(status, _error(status, reason, said))


def reset(request: Request, send: Send) -> requests.Response:
    """Lose the connection before the request is sent."""
    raise requests.exceptions.ConnectionError("Connection reset by peer")


def lose_answer(request: Request, send: Send) -> requests.Response:
    """Let the server do the work and lose its answer."""
    send()
    raise requests.exceptions.ConnectionError("Remote end closed connection without response")


def hide_answer(request: Request, send: Send) -> requests.Response:
    """Let the server do the work and answer 503, as a gateway does that lost the server."""
    send()
    return _answer(503, _error(503, "backendError", "Service Unavailable"))


def answer_too_late(request: Request, send: Send) -> requests.Response:
    """Let the server do the work, and the client give up waiting."""
    send()
    raise requests.exceptions.ReadTimeout("Read timed out.")


def answer_slowly(seconds: float) -> Fault:
    """Answer after a while."""

    def wait(request: Request, send: Send) -> requests.Response:
        time.sleep(seconds)
        return send()

    return wait


def cut_short(request: Request, send: Send) -> requests.Response:
    """Let the server do the work, and its answer end in the middle."""
    send()
    raise requests.exceptions.ChunkedEncodingError("IncompleteRead(17 bytes read, 500 more expected)")


def fail_job(reason: str, said: str) -> Fault:
    """Answer that the job was run and failed, without the server."""
    result = {"reason": reason, "message": said}

    def fail(request: Request, send: Send) -> requests.Response:
        status = {"state": "DONE", "errorResult": result, "errors": [result]}
        reference = {"projectId": "test-project", "jobId": request.about, "location": "US"}
        kind = {"load": {}} if request.step == "upload" else {"query": {"query": ""}}
        return _answer(200, {"jobReference": reference, "configuration": kind, "status": status, "statistics": {}})

    return fail


def once(step: str, fault: Fault, number: int = 0) -> Plan:
    """Return the plan in which a fault befalls one request of a step, the first unless another is named."""
    return lambda request: fault if (request.step, request.number) == (step, number) else None


def always(step: str, fault: Fault) -> Plan:
    """Return the plan in which a fault befalls every request of a step."""
    return lambda request: fault if request.step == step else None


def each_first(fault: Fault) -> Plan:
    """Return the plan in which a fault befalls the first request about each thing: each step of each slice.

    Of queries, whose ids are chance, and of their pages it befalls one in four.
    """
    met: set[tuple[str, str]] = set()

    def plan(request: Request) -> Fault | None:
        if request.step in ("query", "page"):
            return fault if request.number % 4 == 0 else None
        key = (request.step, request.about)
        if key in met:
            return None
        met.add(key)
        return fault

    return plan


def _error(status: int, reason: str, said: str) -> dict[str, Any]:
    errors = [{"reason": reason, "message": said, "domain": "global"}]
    return {"error": {"code": status, "message": said, "errors": errors}}


def _answer(status: int, body: dict[str, Any]) -> requests.Response:
    answer = requests.Response()
    answer.status_code = status
    answer._content = json.dumps(body).encode()
    answer.headers["Content-Type"] = "application/json"
    answer.request = requests.Request("POST", "http://127.0.0.1/").prepare()
    return answer
