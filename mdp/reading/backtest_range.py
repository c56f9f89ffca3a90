"""Storage as a strategy sees it that runs over the past: ``mdp.backtest``.

Two ways to data: *retrieval* reads what is stored and never asks an exchange; *generation* has the missing days
collected first, then reads. Not here: what may be seen (``backtest_past``), the order of closes (``backtest_replay``),
what is missing (``backtest_coverage``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Literal, get_args

import polars as pl

from mdp.config.settings import Settings, load_settings
from mdp.domain.interval import Interval, format_time
from mdp.domain.market import Market
from mdp.domain.timeframe import EPOCH, Timeframe
from mdp.errors import Incomplete, InputError
from mdp.pipeline.snapshots import manifest_of
from mdp.reading.arguments import Moment, parse_market, parse_markets, parse_moment, parse_timeframe, parse_window
from mdp.reading.backtest_buffers import Shelf
from mdp.reading.backtest_coverage import Missing, find_missing, require_whole
from mdp.reading.backtest_generation import generate
from mdp.reading.backtest_past import ALL_TIME, Past
from mdp.reading.backtest_replay import Closed, replay
from mdp.reading.candle_buffer import CandleBuffer
from mdp.reading.view import open_view

WhenMissing = Literal["refuse", "allow", "generate"]
"""What is done about a range of which something is missing that is not explained."""


class Backtest:
    """The candles of some markets in a range, and none that is newer.

    No candle opens at or after the end, or closes after it; none is forming. Candles older than the start may be asked
    for, to fill buffers: what is older is not newer. Make it with :func:`backtest`.

    Attributes:
        markets: In the order in which closes of one instant are replayed.
        timeframes: That may be asked for, shortest first.
        window: The range.
    """

    def __init__(
        self, past: Past, markets: Sequence[Market], timeframes: Sequence[Timeframe], settings: Settings
    ) -> None:
        self.markets = tuple(markets)
        self.timeframes = tuple(timeframes)
        self.window = past.window
        self._past = past
        self._settings = settings
        self._shelves: dict[tuple[Market, Timeframe], Shelf] = {}

    @cached_property
    def coverage(self) -> tuple[Missing, ...]:
        """What of the range is missing, and why; empty where it is whole. Read once."""
        return find_missing(self._past, self.markets, self.timeframes)

    def candles(self, market: str | Market, timeframe: str | Timeframe) -> pl.DataFrame:
        """Return the candles that open inside the range and have closed by its end.

        Args:
            market: One of :attr:`markets`. A minute of an index has four equal prices: the index as it was known when
                the minute opened.
            timeframe: One of :attr:`timeframes`.

        Shape:
            ``CANDLE_SCHEMA``, sorted by ``open_time``, unique.

        Raises:
            InputError: another market or timeframe.
            StorageError: the store cannot be read.
        """
        return self._past.closed(*self._known(market, timeframe), self.window)

    def buffer(self, market: str | Market, timeframe: str | Timeframe, at: Moment, *, size: int = 100) -> CandleBuffer:
        """Return a buffer as it was at an instant: the last slots that were over by then.

        It is what ``mdp.buffer`` gives in live trading, without a forming candle. ``seq`` is the number of its newest
        slot since 1970, ``written_us`` when that one closed.

        Args:
            market: One of :attr:`markets`.
            timeframe: One of :attr:`timeframes`.
            at: At most the end of the range. Before its start it is allowed, and so are slots that are older: a buffer
                is full from the first instant. Nothing says whether what is older is whole.
            size: How many slots.

        Raises:
            InputError: another market or timeframe, an instant after the end, or a size that is none.
            StorageError: the store cannot be read.
        """
        whose, length = self._known(market, timeframe)
        return self._buffer_at(whose, length, (parse_moment("at", at) - EPOCH) // EPOCH.resolution, size)

    def replay(self, timeframe: str | Timeframe = Timeframe.M1) -> Iterator[Closed]:
        """Yield every candle of the range as it closes: by time, then in the order of :attr:`markets`.

        The same store gives the same events, in every run. Held is about one month of candles, however long the range.
        What is missing closes without an event.

        Args:
            timeframe: Of the candles, one of :attr:`timeframes`.

        Raises:
            InputError: another timeframe.
            StorageError: the store cannot be read.
        """
        _, length = self._known(self.markets[0], timeframe)
        return replay(self._past, self.markets, length, self._buffer_at)

    def _buffer_at(self, market: Market, timeframe: Timeframe, instant_us: int, size: int) -> CandleBuffer:
        shelf = self._shelves.get((market, timeframe))
        if shelf is None:
            shelf = self._shelves[market, timeframe] = Shelf(self._past, *self._known(market, timeframe))
        if instant_us > shelf.last_us or size < 1:
            self._refuse(shelf.last_us, instant_us, size)
        return shelf.at(instant_us, size)

    def _refuse(self, last_us: int, instant_us: int, size: int) -> None:
        if size < 1:
            raise InputError("size", got=size, expected="a number of slots, at least 1")
        at, end = (format_time(EPOCH + EPOCH.resolution * value) for value in (instant_us, last_us))
        raise InputError("at", got=at, expected=f"at most {end}, the end of the range")

    def _known(self, market: str | Market, timeframe: str | Timeframe) -> tuple[Market, Timeframe]:
        whose = parse_market(str(market), self._settings)
        if whose not in self.markets:
            raise InputError("market", got=str(market), expected=f"one of {', '.join(map(str, self.markets))}")
        length = parse_timeframe(timeframe)
        if length not in self.timeframes:
            expected = f"one of {', '.join(self.timeframes)}, which the backtest was made with"
            raise InputError("timeframe", got=length.value, expected=expected)
        return whose, length


def backtest(
    markets: str | Sequence[str] | None,
    start: Moment,
    end: Moment,
    *,
    timeframes: Sequence[str] | None = None,
    snapshot: str | None = None,
    as_of: Moment | None = None,
    missing: WhenMissing = "refuse",
    settings: Settings | None = None,
) -> Backtest:
    """Open a range of the past for a backtest: only what was over by its end can be seen.

    Args:
        markets: For example ``["binance:BTC-USDT", "deribit:BTC-DVOL"]``; None: all of the environment.
        start: First instant, included.
        end: Last instant, excluded. What opens at or after it, or closes after it, is not there.
        timeframes: Of ``1m``, ``5m``, ``15m``, ``1h``, ``4h``, ``1d``; None: all, or those that the snapshot holds.
        snapshot: Read what the snapshot of that name holds: the same bytes for ever. The range lies inside it, and
            buffers hold nothing older than it does.
        as_of: Read what was stored at that time: nothing that was corrected or filled in since.
        missing: ``refuse``: raise where something is missing that is neither explained nor missing for good. ``allow``:
            read what is there; :attr:`Backtest.coverage` tells the rest. ``generate``: have the whole days in which
            something is missing collected first, then refuse what is missing still. Only this one asks an exchange.
        settings: Instead of those of the environment.

    Raises:
        Incomplete: something is missing; names the stretches and the causes.
        InputError: names the argument that is wrong, what came and what is expected.
        StorageError: the store cannot be read, or there is no such snapshot.

    Examples:
        ``for closed in mdp.backtest(["binance:BTC-USDT"], "2024-12-01", "2025-01-01").replay(): ...``
    """
    settings = settings or load_settings()
    _require_policy(missing, snapshot=snapshot, as_of=as_of)
    wanted, window = parse_markets([markets] if isinstance(markets, str) else markets, settings), _window(start, end)
    past = _past(settings, window, snapshot=snapshot, as_of=as_of)
    lengths = _timeframes(past, wanted, timeframes)
    made = Backtest(past, wanted, lengths, settings)
    if missing == "allow":
        return made
    if missing == "generate" and any(not one.is_explained for one in made.coverage):
        generate(settings, made.coverage)
        made = Backtest(past, wanted, lengths, settings)
    try:
        require_whole(made.coverage)
    except Incomplete as error:
        error.add_note(_advice(missing, past))
        raise
    return made


def _require_policy(missing: str, *, snapshot: str | None, as_of: Moment | None) -> None:
    if missing not in get_args(WhenMissing):
        raise InputError("missing", got=missing, expected=f"one of {', '.join(get_args(WhenMissing))}")
    if missing == "generate" and (snapshot is not None or as_of is not None):
        expected = "refuse or allow: what was stored at an earlier time cannot be added to"
        raise InputError("missing", got=missing, expected=expected)


def _window(start: Moment, end: Moment) -> Interval:
    window = parse_window(start, end)
    for field, bound in (("start", window.start), ("end", window.end)):
        if not Timeframe.M1.is_on_grid(bound):
            raise InputError(field, got=format_time(bound), expected="a whole minute")
    return window


def _past(settings: Settings, window: Interval, *, snapshot: str | None, as_of: Moment | None) -> Past:
    view = open_view(settings, as_of=as_of, snapshot=snapshot)
    if snapshot is None:
        return Past(view, window)
    manifest = manifest_of(view.store, snapshot)
    if not manifest.window.covers(window):
        field, got = ("start", window.start) if window.start < manifest.start else ("end", window.end)
        expected = f"a time inside snapshot {snapshot!r}, which holds {manifest.window}"
        raise InputError(field, got=format_time(got), expected=expected)
    return Past(view, window, manifest.window.intersect(ALL_TIME), manifest)


def _timeframes(past: Past, markets: Sequence[Market], texts: Sequence[str] | None) -> list[Timeframe]:
    """The timeframes that are wanted, shortest first; each must be readable of each market."""
    asked = [texts] if isinstance(texts, str) else texts
    wanted = sorted({parse_timeframe(text) for text in asked or Timeframe}, key=lambda one: one.seconds)
    for market in markets:
        held = past.timeframes_of(market)
        name = past.view.snapshot
        if not held:
            raise InputError("market", got=str(market), expected=f"one that snapshot {name!r} holds")
        lacking = [one for one in wanted if one not in held]
        if lacking and asked:
            expected = f"one at which snapshot {name!r} holds {market}: {', '.join(held)}"
            raise InputError("timeframe", got=lacking[0].value, expected=expected)
        wanted = [one for one in wanted if one in held]
    if not wanted:
        raise InputError("timeframes", got="none", expected="at least one that the snapshot holds of all markets")
    return wanted


def _advice(missing: str, past: Past) -> str:
    if missing == "generate":
        return "`mdp gaps` and `mdp coverage` tell what is known of it; `mdp heal` asks all sources again"
    if past.manifest is not None or past.view.as_of is not None:
        return "missing='allow' reads what is there"
    return "missing='generate' has it collected first, as `mdp backfill --missing` does; 'allow' reads what is there"
