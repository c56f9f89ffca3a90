"""A channel to the Storage Write API that loses the answer to one call: the work is done, and nobody hears of it.

Imported when a test runs, not before: Google's libraries cost a second. Not here: requests of the REST API
(``session``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import grpc
from google.cloud.bigquery_storage_v1 import BigQueryWriteClient
from google.cloud.bigquery_storage_v1.services.big_query_write.transports import BigQueryWriteGrpcTransport

from mdp.config.sections import BigQuerySettings


class ConnectionBroken(grpc.RpcError):
    """What grpc raises when a connection breaks before the answer."""

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.UNAVAILABLE

    def details(self) -> str:
        return "Socket closed"

    def initial_metadata(self) -> tuple[()]:
        return ()

    def trailing_metadata(self) -> tuple[()]:
        return ()

    def result(self, timeout: float | None = None) -> NoReturn:
        raise self

    def exception(self, timeout: float | None = None) -> ConnectionBroken:
        return self


class _Losing(grpc.UnaryUnaryClientInterceptor, grpc.StreamStreamClientInterceptor):
    def __init__(self, call: str, lost: list[Any]) -> None:
        self._call, self._lost = call, lost

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        return self._answer(details, continuation(details, request), lambda answer: answer.result())

    def intercept_stream_stream(self, continuation: Any, details: Any, requests: Any) -> Any:
        return self._answer(details, continuation(details, requests), list)

    def _answer(self, details: Any, answer: Any, wait: Callable[[Any], Any]) -> Any:
        if self._lost or not details.method.endswith(f"/{self._call}"):
            return answer
        self._lost.append(wait(answer))
        raise ConnectionBroken


def losing(call: str, lost: list[Any]) -> Callable[[BigQuerySettings], BigQueryWriteClient]:
    """Return the parameter ``connect_writing`` of a store.

    Args:
        call: Whose first answer is lost, such as ``AppendRows``.
        lost: Where that answer is put.
    """

    def connect(settings: BigQuerySettings) -> BigQueryWriteClient:
        channel = grpc.intercept_channel(grpc.insecure_channel(settings.write_endpoint), _Losing(call, lost))
        return BigQueryWriteClient(transport=BigQueryWriteGrpcTransport(channel=channel))

    return connect
