"""The client for programs of the event loop: bots and services that do other things meanwhile.

Not here: the same for programs that wait (``client``), the questions (``asking``).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from mdp.client import asking
from mdp.client.address import Address
from mdp.client.arguments import Moment, as_market, as_timeframe
from mdp.client.errors import ApiError
from mdp.client.paging import Pages
from mdp.client.retrying import Retrying
from mdp.client.transport import AsyncTransport
from mdp.client.values import Generation, MarketEntry, Readiness, SnapshotManifest, SnapshotSummary
from mdp.client.waiting import Progress, Watch
from mdp.domain.live import LiveCandle
from mdp.domain.market import Market
from mdp.domain.timeframe import Timeframe

if TYPE_CHECKING:
    import httpx
    import polars as pl

    from mdp.client.streaming import AsyncStream
    from mdp.client.tracking import Fill
    from mdp.domain.candle_buffer import CandleBuffer


class AsyncClient:
    """A service, asked from Python. Best used as ``async with AsyncClient(...) as client``.

    Args:
        url: Of the service.
        key: What ``mdp keys create`` printed; None where the service asks for none, as from its own machine.
        timeout_s: Seconds without a byte after which an answer is given up.
        retrying: How often and when what failed is asked again.
        transport: Instead of the network, such as an ``httpx.MockTransport``.

    Raises:
        InputError: the address or the key cannot be right; nothing was sent.

    Examples:
        ``await AsyncClient().history("binance:BTC-USDT", "1h", "2024-01-01", "2024-07-01")``
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        key: str | None = None,
        timeout_s: float = 60.0,
        retrying: Retrying | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._address = Address.of(url, key)
        self._retrying = retrying or Retrying()
        self._transport = AsyncTransport(
            self._address, timeout_s=timeout_s, retrying=self._retrying, transport=transport
        )
        self._buffers: dict[tuple[Market, Timeframe], asking.Tagged] = {}

    def __repr__(self) -> str:
        return f"AsyncClient({self._address.base_url!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections but those of streams."""
        await self._transport.close()

    async def history(
        self,
        market: str | Market,
        timeframe: str | Timeframe,
        start: Moment,
        end: Moment | None = None,
        *,
        snapshot: str | None = None,
        as_of: Moment | None = None,
        columns: Sequence[str] | None = None,
    ) -> pl.DataFrame:
        """Return the candles of ``[start, end)``, all pages joined.

        Args:
            market: Such as ``binance:BTC-USDT``.
            timeframe: ``1m``, ``5m``, ``15m``, ``1h``, ``4h`` or ``1d``.
            start: First open time.
            end: Exclusive; None: now, or where the snapshot ends.
            snapshot: Name of a snapshot to read from, so that the same call gives the same rows for ever; ``NAME@ID``
                is refused once the name means another one.
            as_of: Read what was stored then.
            columns: Only these, in this order.

        Raises:
            InputError: an argument that needs no service to be seen wrong.
            ApiError: the service gave none.

        Shape:
            ``CANDLE_SCHEMA``, sorted by ``open_time``, unique; a slot without a candle is absent, never filled.
        """
        import polars as pl

        pages = asking.history(market, timeframe, start, end, snapshot=snapshot, as_of=as_of, page_rows=None)
        wanted = pages.wanted(columns)
        return pl.concat([pages.empty(), *[page async for page in self._walk(pages)]]).select(wanted)

    def history_pages(
        self,
        market: str | Market,
        timeframe: str | Timeframe,
        start: Moment,
        end: Moment | None = None,
        *,
        snapshot: str | None = None,
        as_of: Moment | None = None,
        page_rows: int | None = None,
    ) -> AsyncIterator[pl.DataFrame]:
        """Yield the same page by page, for what does not fit into memory; ``page_rows`` at most in each."""
        return self._walk(
            asking.history(market, timeframe, start, end, snapshot=snapshot, as_of=as_of, page_rows=page_rows)
        )

    async def dvol(
        self,
        currency: str,
        start: Moment,
        end: Moment | None = None,
        *,
        snapshot: str | None = None,
        as_of: Moment | None = None,
    ) -> pl.DataFrame:
        """Return the volatility index of ``BTC`` or ``ETH`` by the minute.

        Shape:
            ``DVOL_SCHEMA``, sorted by ``open_time``, unique.
        """
        import polars as pl

        pages = asking.dvol(currency, start, end, snapshot=snapshot, as_of=as_of)
        return pl.concat([pages.empty(), *[page async for page in self._walk(pages)]])

    async def gaps(self, market: str | Market, start: Moment | None = None, end: Moment | None = None) -> pl.DataFrame:
        """Return what is missing of a market in whole UTC days, and why; by default of all known days.

        Shape:
            One row for each stretch of minutes with one cause: ``quality.gap_schema``.
        """
        return await self._transport.ask(asking.gaps(market, start, end))

    async def revisions(
        self, market: str | Market, start: Moment | None = None, end: Moment | None = None
    ) -> pl.DataFrame:
        """Return minutes whose values the exchange changed afterwards: ``REVISION_SCHEMA``."""
        return await self._transport.ask(asking.revisions(market, start, end))

    async def coverage(
        self, market: str | Market | None = None, start: Moment | None = None, end: Moment | None = None
    ) -> pl.DataFrame:
        """Return how many minutes are stored, and of how many it is known why they are not, by market and UTC day.

        Args:
            market: None: all of them.
            start: First day; None: all known days, of all markets the last 366.
            end: Exclusive.

        Shape:
            ``quality.day_schema``, by market, then day.
        """
        return await self._transport.ask(asking.coverage(market, start, end))

    async def markets(self) -> tuple[MarketEntry, ...]:
        """Return what there is, since when it is traded, and from when to when it is stored."""
        return await self._transport.ask(asking.markets())

    async def buffer(self, market: str | Market, timeframe: str | Timeframe) -> CandleBuffer:
        """Return the live buffer: the last closed candles and the forming one.

        Asking again costs next to nothing while it is the same. Look at ``is_stale`` before acting on it.
        """
        from mdp.domain.candle_buffer import CandleBuffer

        key = (as_market(market), as_timeframe(timeframe))
        held = self._buffers[key] = await self._transport.ask(asking.buffer(*key, self._buffers.get(key)))
        return CandleBuffer.of(held.buffer)

    async def generate(
        self,
        market: str | Market,
        start: Moment,
        end: Moment,
        *,
        wait: bool = True,
        progress: Progress | None = None,
    ) -> Generation:
        """Have the missing days of ``[start, end)`` collected; the same call twice collects them once.

        Args:
            market: Whose.
            start: First day.
            end: Exclusive.
            wait: Until it is over. Look at ``state`` and ``missing`` of the answer then: ``failed`` is no error here.
            progress: Is told each state that is heard of.
        """
        watch = Watch(progress, self._retrying)
        found = watch.heard(await self._transport.ask(asking.generate(market, start, end)))
        while wait and not found.is_over:
            await asyncio.sleep(watch.pause_s)
            try:
                found = watch.heard(await self._transport.ask(asking.generation(found.id)))
            except ApiError as error:
                watch.failed(error)
        return found

    async def generation(self, name: str) -> Generation:
        """Return how a generation is getting on."""
        return await self._transport.ask(asking.generation(name))

    async def snapshots(self) -> tuple[SnapshotSummary, ...]:
        """Return which snapshots there are."""
        return await self._transport.ask(asking.snapshots())

    async def snapshot(self, name: str) -> SnapshotManifest:
        """Return what a snapshot holds."""
        return await self._transport.ask(asking.snapshot(name))

    async def live(self) -> dict[str, Any]:
        """Return feeds' health, leases and what waits to be stored, as ``mdp live --json`` prints it."""
        return await self._transport.ask(asking.report("/api/v1/live"))

    async def service(self) -> Readiness:
        """Return whether the service can do its work, and what it says of its parts."""
        return await self._transport.ask(asking.readiness())

    def stream(
        self,
        markets: str | Market | Sequence[str | Market] | None = None,
        timeframes: str | Timeframe | Sequence[str | Timeframe] = "1m",
        *,
        topics: str | Sequence[str] = (),
        heartbeat_s: float = 15.0,
    ) -> AsyncStream:
        """Follow live candles: each buffer first, then every change, for ever.

        What was missed while the connection was gone comes when it is back, each end state of a candle once.

        Args:
            markets: None: all of them, unless ``topics`` are given.
            timeframes: One or several.
            topics: Further ones, such as ``generation.3f9a`` or ``feeds.*``.
            heartbeat_s: After how many silent seconds the service speaks, unless it tells.
        """
        from mdp.client.course import Course
        from mdp.client.streaming import AsyncStream
        from mdp.client.topics import topics_of
        from mdp.client.tracking import Tracker

        tracker = Tracker(topics_of(markets, timeframes, topics), heartbeat_s=heartbeat_s)
        return AsyncStream(self._address, Course(tracker, self._retrying), self._fetch)

    async def _walk(self, pages: Pages) -> AsyncIterator[pl.DataFrame]:
        while pages.question is not None:
            yield pages.take(await self._transport.ask(pages.question))

    async def _fetch(self, fill: Fill) -> list[LiveCandle]:
        from mdp.domain.live_frames import from_frame

        window = fill.interval
        return from_frame(await self.history(fill.market, fill.timeframe, window.start, window.end))
