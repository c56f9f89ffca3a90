"""What is asked of the service, as values: method, path, parameters, and how the answer is read.

Both clients ask the same questions, one waiting in its thread, one in the event loop. Not here: asking (``transport``),
which questions there are (``asking``), what answers hold (``answers``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from mdp.client.errors import error_of

Answer = TypeVar("Answer")

JSON = "application/json"
ARROW = "application/vnd.apache.arrow.stream"


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer.

    Attributes:
        asked: Method and path of the question.
        status: Of HTTP.
        headers: By names in lower case.
        body: As it was before it was compressed.
    """

    asked: str
    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Question(Generic[Answer]):
    """One question.

    Attributes:
        path: Below the address of the service, quoted.
        read: Makes the answer of a reply whose status is good.
        parameters: Of the query, in order.
        method: Of HTTP. Only a GET is asked again after it may have been heard.
        accept: Content type that is wanted.
        headers: Further ones.
        also_good: Statuses beside 2xx that ``read`` understands.
    """

    path: str
    read: Callable[[Reply], Answer]
    parameters: tuple[tuple[str, str], ...] = ()
    method: str = "GET"
    accept: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)
    also_good: frozenset[int] = frozenset()

    @property
    def asked(self) -> str:
        """Method and path, for people."""
        return f"{self.method} {self.path}"

    def answer(self, reply: Reply) -> Answer:
        """Return what a reply says.

        Raises:
            ApiError: the reply is none.
        """
        if not (200 <= reply.status < 300 or reply.status in self.also_good):
            raise error_of(reply.asked, reply.status, reply.headers, reply.body)
        return self.read(reply)
