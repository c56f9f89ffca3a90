"""What an exchange publishes now under the name of a bulk file that we took rows from: its SHA-256.

Not here: comparing it with what was stored (``pipeline.verify_archives``), taking rows (``archive_reader``).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from types import TracebackType
from typing import Self

from mdp.config.exchange_sections import ExchangeSettings
from mdp.domain.market import Exchange
from mdp.errors import ConfigError
from mdp.exchanges.archive_downloads import WAITS, Downloads
from mdp.exchanges.asking import RetryWaits
from mdp.ports import Bandwidth


class PublishedDigests:
    """Asks for digests; use it inside ``async with``.

    Args:
        exchange: Whose files.
        settings: ``archive_url`` says where they are.
        waits: How long to wait between attempts.
        bandwidth: What may be received; None: no limit.

    Raises:
        ConfigError: ``archive_url`` is not set.
    """

    def __init__(
        self,
        exchange: Exchange,
        settings: ExchangeSettings,
        waits: RetryWaits = WAITS,
        bandwidth: Bandwidth | None = None,
    ) -> None:
        if settings.archive_url is None:
            setting = f"MDP_EXCHANGES__{exchange.name}__ARCHIVE_URL"
            raise ConfigError(setting, got=None, expected="the address of the archive that the files came from")
        self._exchange = exchange
        self._url = settings.archive_url
        self._downloads = Downloads(exchange, settings.timeout_s, waits, bandwidth)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._downloads.__aexit__(kind, error, trace)

    async def sha256(self, path: str) -> str | None:
        """Return the SHA-256 of the file that is published now; None where it is not published any more.

        Binance says it in a file beside it. OKX does not, and neither size nor tag of a file say for sure that it is
        the same, so the file itself is fetched.

        Raises:
            ExchangeError: it could not be asked, or the answer cannot be read.
        """
        if self._exchange is Exchange.BINANCE:
            from mdp.exchanges.binance.archive import parse_checksum

            said = await self._downloads.get(f"{self._url}/{path}.CHECKSUM", Counter())
            return None if said is None else parse_checksum(said, path)
        content = await self._downloads.get(f"{self._url}/{path}", Counter())
        return None if content is None else hashlib.sha256(content).hexdigest()
