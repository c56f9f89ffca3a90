"""The client for programs that wait: notebooks, backtests, scripts, a strategy in a thread of its own.

Not here: the same for the event loop (``async_client``), the questions (``asking``).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from mdp.client import asking
from mdp.client.address import Address
from mdp.client.arguments import Moment, as_market, as_timeframe
from mdp.client.errors import ApiError
from mdp.client.paging import Pages
from mdp.client.retrying import Retrying
from mdp.client.transport import Transport
from mdp.client.values import Generation, MarketEntry, Readiness, SnapshotManifest, SnapshotSummary
from mdp.client.waiting import Progress, Watch
from mdp.domain.live import LiveCandle
from mdp.domain.market import Market
from mdp.domain.timeframe import Timeframe

if TYPE_CHECKING:
    import httpx
    import polars as pl

    from mdp.client.following import Stream
    from mdp.client.tracking import Fill
    from mdp.domain.candle_buffer import CandleBuffer


class Client:
    """A service, asked from Python. Use it in one thread at a time, best as ``with Client(...) as client``.

    Args:
        url: Of the service.
        key: What ``mdp keys create`` printed; None where the service asks for none, as from its own machine.
        timeout_s: Seconds without a byte after which an answer is given up.
        retrying: How often and when what failed is asked again.
        transport: Instead of the network, such as an ``httpx.MockTransport``.

    Raises:
        InputError: the address or the key cannot be right; nothing was sent.

    Examples:
        ``Client().history("binance:BTC-USDT", "1h", "2024-01-01", "2024-07-01")``
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        key: str | None = None,
        timeout_s: float = 60.0,
        retrying: Retrying | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._address = Address.of(url, key)
        self._retrying = retrying or Retrying()
        self._transport = Transport(self._address, timeout_s=timeout_s, retrying=self._retrying, transport=transport)
        self._buffers: dict[tuple[Market, Timeframe], asking.Tagged] = {}

    def __repr__(self) -> str:
        return f"Client({self._address.base_url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections but those of streams."""
        self._transport.close()

    def history(
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
        return pl.concat([pages.empty(), *self._walk(pages)]).select(wanted)

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
    ) -> Iterator[pl.DataFrame]:
        """Yield the same page by page, for what does not fit into memory; ``page_rows`` at most in each."""
        return self._walk(
            asking.history(market, timeframe, start, end, snapshot=snapshot, as_of=as_of, page_rows=page_rows)
        )

    def dvol(
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
        return pl.concat([pages.empty(), *self._walk(pages)])

    def gaps(self, market: str | Market, start: Moment | None = None, end: Moment | None = None) -> pl.DataFrame:
        """Return what is missing of a market in whole UTC days, and why; by default of all known days.

        Shape:
            One row for each stretch of minutes with one cause: ``quality.gap_schema``.
        """
        return self._transport.ask(asking.gaps(market, start, end))

    def revisions(self, market: str | Market, start: Moment | None = None, end: Moment | None = None) -> pl.DataFrame:
        """Return minutes whose values the exchange changed afterwards: ``REVISION_SCHEMA``."""
        return self._transport.ask(asking.revisions(market, start, end))

    def coverage(
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
        return self._transport.ask(asking.coverage(market, start, end))

    def markets(self) -> tuple[MarketEntry, ...]:
        """Return what there is, since when it is traded, and from when to when it is stored."""
        return self._transport.ask(asking.markets())

    def buffer(self, market: str | Market, timeframe: str | Timeframe) -> CandleBuffer:
        """Return the live buffer: the last closed candles and the forming one.

        Asking again costs next to nothing while it is the same. Look at ``is_stale`` before acting on it.
        """
        from mdp.domain.candle_buffer import CandleBuffer

        key = (as_market(market), as_timeframe(timeframe))
        held = self._buffers[key] = self._transport.ask(asking.buffer(*key, self._buffers.get(key)))
        return CandleBuffer.of(held.buffer)

    def generate(
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
        found = watch.heard(self._transport.ask(asking.generate(market, start, end)))
        while wait and not found.is_over:
            time.sleep(watch.pause_s)
            try:
                found = watch.heard(self._transport.ask(asking.generation(found.id)))
            except ApiError as error:
                watch.failed(error)
        return found

    def generation(self, name: str) -> Generation:
        """Return how a generation is getting on."""
        return self._transport.ask(asking.generation(name))

    def snapshots(self) -> tuple[SnapshotSummary, ...]:
        """Return which snapshots there are."""
        return self._transport.ask(asking.snapshots())

    def snapshot(self, name: str) -> SnapshotManifest:
        """Return what a snapshot holds."""
        return self._transport.ask(asking.snapshot(name))

    def live(self) -> dict[str, Any]:
        """Return feeds' health, leases and what waits to be stored, as ``mdp live --json`` prints it."""
        return self._transport.ask(asking.report("/api/v1/live"))

    def service(self) -> Readiness:
        """Return whether the service can do its work, and what it says of its parts."""
        return self._transport.ask(asking.readiness())

    def stream(
        self,
        markets: str | Market | Sequence[str | Market] | None = None,
        timeframes: str | Timeframe | Sequence[str | Timeframe] = "1m",
        *,
        topics: str | Sequence[str] = (),
        heartbeat_s: float = 15.0,
    ) -> Stream:
        """Follow live candles: each buffer first, then every change, for ever.

        What was missed while the connection was gone comes when it is back, each end state of a candle once.

        Args:
            markets: None: all of them, unless ``topics`` are given.
            timeframes: One or several.
            topics: Further ones, such as ``generation.3f9a`` or ``feeds.*``.
            heartbeat_s: After how many silent seconds the service speaks, unless it tells.
        """
        from mdp.client.course import Course
        from mdp.client.following import Stream
        from mdp.client.topics import topics_of
        from mdp.client.tracking import Tracker

        tracker = Tracker(topics_of(markets, timeframes, topics), heartbeat_s=heartbeat_s)
        return Stream(self._address, Course(tracker, self._retrying), self._fetch)

    def _walk(self, pages: Pages) -> Iterator[pl.DataFrame]:
        while pages.question is not None:
            yield pages.take(self._transport.ask(pages.question))

    def _fetch(self, fill: Fill) -> list[LiveCandle]:
        from mdp.domain.live_frames import from_frame

        window = fill.interval
        return from_frame(self.history(fill.market, fill.timeframe, window.start, window.end))
