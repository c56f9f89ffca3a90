"""Files over HTTP: asked, tried again where it may help, never larger than expected.

Archives count no API weight, so nothing here waits for a budget. Not here: what is inside (``archive_content``), what
is done about a file that cannot be had (``archive_first``).
"""

from __future__ import annotations

import re
import ssl
import time
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from http import HTTPStatus
from types import TracebackType
from typing import Self

import aiohttp
import stamina

from mdp.domain.market import Exchange
from mdp.errors import ExchangeUnavailable, PayloadError, RateLimited, RequestRejected
from mdp.exchanges.asking import RetryWaits
from mdp.exchanges.counting import CountedFile
from mdp.exchanges.receiving import Receiving, buffer_size, limited_connector
from mdp.exchanges.verdicts import Answer, wait_s
from mdp.ports import Bandwidth

MOST_BYTES = 64 * 1024 * 1024
"""Of a file as it is sent; a month of minutes takes 2 MB."""

ATTEMPTS = 3
WAITS = RetryWaits(initial_s=0.25, longest_s=2.0, jitter_s=0.25)
"""Few and short: REST has the same candles."""

_WAIT_S = 10.0  # after a 429 that does not say how long
_CONNECTIONS = 16
_BUFFER = 256 * 1024  # aiohttp's own
_LONGEST_S = 120.0  # for a file that trickles: 2 MB at 17 kB/s
_USERINFO = re.compile(r"://\S*@")


class Downloads:
    """One keep-alive client for the files of one exchange; use it inside ``async with``.

    Args:
        exchange: Whose files.
        timeout_s: Seconds until a request without progress counts as failed.
        waits: How long to wait between attempts.
        bandwidth: What may be received; None: as much as comes.
    """

    def __init__(
        self,
        exchange: Exchange,
        timeout_s: float,
        waits: RetryWaits = WAITS,
        bandwidth: Bandwidth | None = None,
    ) -> None:
        self._exchange = exchange
        self._bandwidth = bandwidth
        self._timeout = aiohttp.ClientTimeout(
            # what we wait for ourselves is not the server's fault: without a limit alone the whole has an end
            total=_LONGEST_S if bandwidth is None else None,
            sock_connect=timeout_s,
            sock_read=timeout_s,
        )
        self._caller = stamina.AsyncRetryingCaller(
            attempts=ATTEMPTS,
            timeout=None,
            wait_initial=waits.initial_s,
            wait_max=waits.longest_s,
            wait_jitter=waits.jitter_s,
        )
        self._session: aiohttp.ClientSession | None = None
        self._is_closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_closed = True
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def get(self, url: str, retried: Counter[str]) -> bytes | None:
        """Return what is at an address; None where nothing is (404).

        Args:
            url: The address.
            retried: Where the reasons of repeated requests are counted.

        Raises:
            ExchangeUnavailable: no answer, or none that can be used, at the last attempt too.
            RateLimited: asked too often.
            RequestRejected: refused; another attempt would be refused as well.
            PayloadError: larger than :data:`MOST_BYTES`.
        """

        def is_worth_it(error: Exception) -> bool:
            if not isinstance(error, ExchangeUnavailable):
                return False
            retried[type(error).__name__] += 1
            return True

        try:
            return await self._caller(is_worth_it, self.get_once, url)
        except ExchangeUnavailable as error:
            # it was counted as the others were, but nothing was repeated after it
            retried[type(error).__name__] -= 1
            raise

    async def get_once(self, url: str, parameters: Mapping[str, str] | None = None) -> bytes | None:
        """Return what is at an address at the first attempt; see :meth:`get`.

        Args:
            url: The address.
            parameters: Of the query.

        Raises:
            RuntimeError: this was closed.
        """
        with CountedFile(self._exchange) as counted:
            try:
                async with (
                    Receiving(self._bandwidth) as receiving,
                    self._open().get(url, params=parameters, ssl=_certificates(url)) as response,
                ):
                    receiving.expect(response.content_length)
                    if response.status == HTTPStatus.NOT_FOUND:
                        counted.is_absent()
                        return None
                    self._require_usable(response, url)
                    return await self._read(response, url, receiving, counted)
            except (aiohttp.ClientError, TimeoutError) as error:
                raise self._unanswered(url, error) from error

    async def _read(
        self, response: aiohttp.ClientResponse, url: str, receiving: Receiving, counted: CountedFile
    ) -> bytes:
        blocks, size = [], response.content_length or 0
        if size <= MOST_BYTES:
            size = 0
            began = time.monotonic() - receiving.waited_s
            while block := await response.content.readany():
                blocks.append(block)
                size += len(block)
                counted.came(len(block))
                if size > MOST_BYTES:
                    break
                await receiving.took(len(block))
                if time.monotonic() - began - receiving.waited_s > _LONGEST_S:
                    raise TimeoutError(f"no end after {_LONGEST_S:.0f} s")
        if size > MOST_BYTES:
            said = f"expected at most {MOST_BYTES} bytes, got {size} or more"
            raise PayloadError(self._exchange.value, f"{without_userinfo(url)}: {said}")
        return b"".join(blocks)

    def _require_usable(self, response: aiohttp.ClientResponse, url: str) -> None:
        status = response.status
        if status == HTTPStatus.OK:
            return
        said = f"{without_userinfo(url)}: status {status}"
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            answer = Answer(status, {"retry-after": response.headers.get("Retry-After", "")}, "", datetime.now(UTC))
            raise RateLimited(self._exchange.value, f"asked too often ({said})", retry_after_s=wait_s(answer, _WAIT_S))
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.REQUEST_TIMEOUT:
            raise ExchangeUnavailable(self._exchange.value, f"no usable answer now ({said})")
        raise RequestRejected(self._exchange.value, f"the request was refused ({said})")

    def _unanswered(self, url: str, error: Exception) -> ExchangeUnavailable:
        said = without_userinfo(f"{url}: {type(error).__name__}: {error}")
        return ExchangeUnavailable(self._exchange.value, f"the connection failed ({said})")

    def _open(self) -> aiohttp.ClientSession:
        """The session, made where its event loop runs; never a new one that nobody would close."""
        if self._is_closed:
            raise RuntimeError("asked for a file after the downloads were closed")
        if self._session is None:
            # files come packed already, and their checksum is that of the bytes as they are sent
            limit = self._bandwidth
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=_CONNECTIONS)
                if limit is None
                else limited_connector(limit, _CONNECTIONS),
                read_bufsize=_BUFFER if limit is None else buffer_size(limit),
                headers={"Accept-Encoding": "identity"},
                auto_decompress=False,
                timeout=self._timeout,
            )
        return self._session


def without_userinfo(text: str) -> str:
    """Return a text without the name and password that an address in it may carry.

    Examples:
        >>> without_userinfo("https://me:secret@files.example/a.zip: status 403")
        'https://files.example/a.zip: status 403'
    """
    return _USERINFO.sub("://", text)


def _certificates(url: str) -> ssl.SSLContext | bool:
    return _load_certificates() if url.startswith("https") else True


@lru_cache(maxsize=1)
def _load_certificates() -> ssl.SSLContext:
    import certifi  # loading them takes longer than a request, so only where there is one to make

    return ssl.create_default_context(cafile=certifi.where())
