"""A session under Google's client that knows what each request is for, notes it, and lets a fault befall it.

Imported when a test runs, not before: Google's libraries cost a second. Not here: the faults (``faults``).
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field
from typing import Any

import requests
from google.auth.credentials import AnonymousCredentials
from google.auth.transport.requests import AuthorizedSession
from google.cloud import bigquery

from mdp.config.sections import BigQuerySettings
from mdp_tests.support.bigquery.faults import Plan, Request


@dataclass
class Log:
    """What was asked, in order, safe for threads."""

    requests: list[Request] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, step: str, about: str) -> Request:
        with self.lock:
            self.requests.append(one := Request(step, about, self.count(step)))
            return one

    def count(self, step: str) -> int:
        """Return how many requests of a step were made."""
        return sum(one.step == step for one in self.requests)


class FaultySession(AuthorizedSession):
    """The session of Google's client, in which faults befall requests.

    Args:
        plan: Says which; replace the attribute to change it.
    """

    def __init__(self, plan: Plan | None = None) -> None:
        super().__init__(AnonymousCredentials())
        self.plan: Plan = plan or (lambda request: None)
        self.log = Log()

    def request(self, method: str, url: str, data: Any = None, headers: Any = None, **named: Any) -> requests.Response:
        one = self.log.add(*_step(method, url, data))
        fault = self.plan(one)

        def send() -> requests.Response:
            return super(FaultySession, self).request(method, url, data=data, headers=headers, **named)

        return send() if fault is None else fault(one, send)

    def connect(self, settings: BigQuerySettings) -> bigquery.Client:
        """Return a client over this session; the parameter ``connect`` of a store."""
        return bigquery.Client(
            settings.project,
            location=settings.location,
            _http=self,
            client_options={"api_endpoint": settings.api_endpoint},
        )


_PATHS = (
    ("POST", r"/upload/.*/jobs$", "upload"),
    ("POST", r"/jobs/([^/]+)/cancel$", "cancel"),
    ("POST", r"/(?:jobs|queries)$", "statement"),
    ("GET", r"/jobs/([^/]+)$", "job"),
    ("GET", r"/queries/([^/]+)$", "page"),
    ("GET", r"/tables/([^/]+)$", "table"),
    ("POST", r"/tables$", "make table"),
    ("PATCH", r"/tables/([^/]+)$", "change table"),
    ("DELETE", r"/tables/([^/]+)$", "drop table"),
    ("GET", r"/datasets/([^/]+)$", "dataset"),
    ("POST", r"/datasets$", "make dataset"),
)


def _step(method: str, url: str, data: Any) -> tuple[str, str]:
    path = url.partition("?")[0]
    for verb, pattern, step in _PATHS:
        found = re.search(pattern, path) if verb == method else None
        if found is None:
            continue
        body = data if isinstance(data, bytes) else str(data or "").encode()
        named = re.search(rb'"jobId":\s*"([^"]+)"', body)
        if step == "statement" and re.search(rb'"query":\s*"\s*SELECT', body):
            step = "query"
        if step in ("make table", "make dataset"):
            named = re.search(rb'"(?:tableId|datasetId)":\s*"([^"]+)"(?!.*"tableId")', body, re.DOTALL)
        return step, named.group(1).decode() if named else "".join(found.groups())
    return method, path
