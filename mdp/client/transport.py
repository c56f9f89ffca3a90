"""Asking over HTTP, in the thread or in the event loop: one request, and again where that can help.

The only place that sees what ``httpx`` raises. Not here: what is asked (``asking``), streams (``streaming``).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from mdp.client.address import Address
from mdp.client.errors import ApiError, BadAnswer, Unreachable
from mdp.client.questions import Answer, Question, Reply
from mdp.client.retrying import Retrying


class Transport:
    """Asks and waits.

    Args:
        address: Of the service.
        timeout_s: Seconds without a byte after which an answer is given up.
        retrying: How patient.
        transport: Instead of the network.
    """

    def __init__(
        self, address: Address, *, timeout_s: float, retrying: Retrying, transport: httpx.BaseTransport | None = None
    ) -> None:
        self._retrying = retrying
        self._http = httpx.Client(**_options(address, timeout_s), transport=transport)

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def ask(self, question: Question[Answer]) -> Answer:
        """Return the answer.

        Raises:
            ApiError: none came, or a problem; after the last attempt that was worth making.
        """
        failures = 0
        while True:
            try:
                return question.answer(self._once(question))
            except ApiError as error:
                failures += 1
                pause_s = _pause_s(self._retrying, question, error, failures)
                if pause_s is None:
                    raise
            time.sleep(pause_s)

    def _once(self, question: Question[Answer]) -> Reply:
        with _ours(question):
            return _reply(question, self._http.request(**_request(question)))


class AsyncTransport:
    """Asks without blocking the event loop; arguments as :class:`Transport`."""

    def __init__(
        self,
        address: Address,
        *,
        timeout_s: float,
        retrying: Retrying,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._retrying = retrying
        self._http = httpx.AsyncClient(**_options(address, timeout_s), transport=transport)

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def ask(self, question: Question[Answer]) -> Answer:
        """Return the answer.

        Raises:
            ApiError: none came, or a problem; after the last attempt that was worth making.
        """
        failures = 0
        while True:
            try:
                return question.answer(await self._once(question))
            except ApiError as error:
                failures += 1
                pause_s = _pause_s(self._retrying, question, error, failures)
                if pause_s is None:
                    raise
            await asyncio.sleep(pause_s)

    async def _once(self, question: Question[Answer]) -> Reply:
        with _ours(question):
            return _reply(question, await self._http.request(**_request(question)))


class _NotHeard(Unreachable):
    """Nothing was sent, so that asking again changes nothing whatever the method."""


def _pause_s(retrying: Retrying, question: Question[Any], error: ApiError, failures: int) -> float | None:
    if question.method != "GET" and not isinstance(error, _NotHeard):
        return None
    return retrying.after(error, failures)


def _options(address: Address, timeout_s: float) -> dict[str, Any]:
    headers = {"user-agent": "mdp-client", **address.key_headers}
    if address.is_loopback:
        headers["accept-encoding"] = "identity"  # the bytes never leave the machine: packing them only takes time
    return {
        "base_url": address.base_url,
        "headers": headers,
        "timeout": httpx.Timeout(timeout_s, connect=min(timeout_s, 5.0)),
        "trust_env": not address.is_loopback,  # a proxy of the company cannot reach this machine's own loopback
    }


def _request(question: Question[Any]) -> dict[str, Any]:
    return {
        "method": question.method,
        "url": question.path,
        "params": list(question.parameters),
        "headers": {"accept": question.accept, **question.headers},
    }


def _reply(question: Question[Any], response: httpx.Response) -> Reply:
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Reply(question.asked, response.status_code, headers, response.content)


@contextmanager
def _ours(question: Question[Any]) -> Iterator[None]:
    """Turn what the library raises into our errors; its messages hold addresses, never headers."""
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
        raise _NotHeard(question.asked, f"no connection: {_words(error)}; is `mdp serve` running there?") from error
    except httpx.TimeoutException as error:
        raise Unreachable(question.asked, f"no answer in time: {_words(error)}") from error
    except httpx.DecodingError as error:
        raise BadAnswer(question.asked, f"the body cannot be unpacked: {_words(error)}") from error
    except httpx.TransportError as error:
        raise Unreachable(question.asked, f"the connection broke: {_words(error)}") from error


def _words(error: Exception) -> str:
    return f"{type(error).__name__}{': ' if str(error) else ''}{error}"
