"""OKX's index of its bulk files: the one question of an archive that goes to the API, and so waits for its quota.

Source: OKX API guide "Get historical market data", 2026-07, for the question. The answer as clients of it read it:
``data[].details[].groupDetails[]`` with ``filename`` and ``url``. An answer of another shape is refused.
Not here: which files are asked for (``archive``).
"""

from __future__ import annotations

import asyncio
import time
from urllib.parse import urlsplit

import msgspec

from mdp.domain.interval import Interval
from mdp.domain.market import Exchange, Market
from mdp.errors import ExchangeUnavailable, RateLimited, RequestRejected
from mdp.exchanges.archive_downloads import Downloads, without_userinfo
from mdp.exchanges.archive_files import Effort
from mdp.exchanges.frames import decode
from mdp.exchanges.okx.quota import DATA_HISTORY
from mdp.exchanges.symbols import to_market_id
from mdp.exchanges.tiling import to_milliseconds
from mdp.ports import Budget, Leave

_HEADROOM = 0.95
_TOO_FREQUENT = "50011"


class _File(msgspec.Struct):
    filename: str
    url: str


class _Group(msgspec.Struct):
    groupDetails: list[_File]  # noqa: N815 OKX's word


class _Listing(msgspec.Struct):
    details: list[_Group]


class _Index(msgspec.Struct):
    code: str
    msg: str = ""
    data: list[_Listing] = []


_INDEX = msgspec.json.Decoder(_Index)


class ArchiveIndex:
    """The index.

    Args:
        rest_url: The API's address.
        downloads: Asks it.
        share: Of its quota that may be used where no budget is given.
        budget: Gives leave to ask it; None: the questions of this process are spaced evenly.
    """

    def __init__(self, rest_url: str, downloads: Downloads, share: float, budget: Budget | None) -> None:
        self._url = f"{rest_url}/api/v5/{DATA_HISTORY.name}"
        self._downloads = downloads
        self._budget = budget
        self._spacing_s = DATA_HISTORY.window_s / (DATA_HISTORY.amount * share * _HEADROOM)
        self._next_s = 0.0

    async def ask(self, market: Market, kind: str, span: Interval, effort: Effort) -> dict[str, str]:
        """Ask once, and once more when nothing came back.

        Args:
            market: Whose files.
            kind: ``daily`` or ``monthly``.
            span: From the start of the first file to the end of the last.
            effort: Counts the requests.

        Returns:
            Name of each listed file to its path below the archive's address.

        Raises:
            ExchangeError: it cannot be told.
        """
        parameters = {
            "module": "2",
            "instType": "SPOT",
            "instIdList": to_market_id(market),
            "dateAggrType": kind,
            "begin": str(to_milliseconds(span.start)),
            "end": str(to_milliseconds(span.end) - 1),
        }
        try:
            return await self._ask_once(parameters, effort)
        except ExchangeUnavailable as error:
            effort.retried[type(error).__name__] += 1
            return await self._ask_once(parameters, effort)

    async def _ask_once(self, parameters: dict[str, str], effort: Effort) -> dict[str, str]:
        leave = await self._acquire(effort)
        try:
            body = await self._downloads.get_once(self._url, parameters)
            effort.requests += 1
            if body is None:
                said = f"{without_userinfo(self._url)}: expected an index of files, got status 404"
                raise RequestRejected(Exchange.OKX.value, said)
            return parse_index(body)
        except RateLimited as error:
            self._cool_down(error)
            raise
        finally:
            if leave is not None:
                leave.answered()

    async def _acquire(self, effort: Effort) -> Leave | None:
        if self._budget is not None:
            leave = await self._budget.acquire({DATA_HISTORY.name: 1})
            effort.waited_s += leave.waited_s
            return leave
        now_s = time.monotonic()
        turn_s = max(now_s, self._next_s)
        self._next_s = turn_s + self._spacing_s
        effort.waited_s += turn_s - now_s
        await asyncio.sleep(turn_s - now_s)
        return None

    def _cool_down(self, error: RateLimited) -> None:
        self._next_s = max(self._next_s, time.monotonic() + error.retry_after_s)
        if self._budget is not None:
            self._budget.cool_down(error.retry_after_s, str(error))


def parse_index(body: bytes) -> dict[str, str]:
    """Return the name of each listed file and its path below the archive's address.

    Raises:
        RateLimited: asked too often.
        RequestRejected: another of the exchange's codes.
        PayloadError: an answer of another shape.
    """
    index = decode(body, _INDEX, Exchange.OKX, ("data",))
    if index.code == _TOO_FREQUENT:
        raise RateLimited(
            Exchange.OKX.value, f"asked too often (code {index.code})", retry_after_s=DATA_HISTORY.window_s
        )
    if index.code != "0":
        said = f"code {index.code}: {index.msg[:200]}"
        raise RequestRejected(Exchange.OKX.value, f"the index of files was refused ({said})")
    files = [file for listing in index.data for group in listing.details for file in group.groupDetails]
    return {file.filename: _below_archive(file.url) for file in files}


def _below_archive(url: str) -> str:
    """The path; whose host it is, the setting says, never an answer."""
    path = urlsplit(url).path
    # the simulator's stands behind a prefix, which belongs to the archive's address
    return path[path.find("/cdn/") + 1 :] if "/cdn/" in path else path.lstrip("/")
