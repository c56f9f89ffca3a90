"""What subscribers hear, topic by topic. ``docs/asyncapi.yaml`` is made of these classes (``asyncapi``).

Every time is text of one form, ``2024-12-30T10:15:00.000000Z``: UTC, always six digits of a second, so that nothing is
rounded and text sorts as time. Not here: publishing (``live_script``), hearing (``subscription``).
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from mdp.bus.live_keys import Place
from mdp.domain.live import CandleState, LiveCandle

TIME_PATTERN = r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{6}Z$"

Time = Annotated[
    str,
    Meta(
        pattern=TIME_PATTERN,
        description="UTC, always with six digits of a second.",
        examples=["2024-12-30T10:15:00.000000Z"],
    ),
]
Seq = Annotated[
    int,
    Meta(
        ge=1,
        description="Of the buffer. Grows by one with each change; any other step means that the buffer must be read "
        "again. It never returns to an earlier value, also when the bus lost its memory.",
    ),
]
ExchangeName = Annotated[str, Meta(description="As CCXT spells it.", examples=["binance"])]
SymbolName = Annotated[str, Meta(description="Base and quote.", examples=["BTC-USDT"])]
TimeframeName = Literal["1m", "5m", "15m", "1h", "4h", "1d"]
StateName = Literal["forming", "closed", "confirmed", "corrected"]
SourceName = Literal["stream", "rest", "archive", "resampled"]


class CandleMessage(Struct, forbid_unknown_fields=True):
    """One candle of a buffer is new or says something else."""

    seq: Seq
    exchange: ExchangeName
    symbol: SymbolName
    timeframe: TimeframeName
    open_time: Time
    open: float
    high: float
    low: float
    close: float
    volume: Annotated[float | None, Meta(description="In base coin, so far; null of a volatility index.")]
    quote_volume: Annotated[float | None, Meta(description="In quote coin; null where the exchange does not give it.")]
    trades: Annotated[int | None, Meta(description="Null where the exchange does not give it.")]
    minutes: Annotated[int, Meta(ge=0, description="How many minutes it holds, an unfinished one included.")]
    state: Annotated[StateName, Meta(description="How sure it is, least first; corrected after closed or confirmed.")]
    source: SourceName
    received_at: Annotated[Time, Meta(description="When the values came, by the market's clock.")]


class BufferMessage(Struct, forbid_unknown_fields=True):
    """A candle of a buffer closed, was confirmed or corrected, or the whole buffer was written anew."""

    seq: Seq
    exchange: ExchangeName
    symbol: SymbolName
    timeframe: TimeframeName
    reason: Literal["closed", "confirmed", "corrected", "rewritten"]
    open_time: Annotated[Time | None, Meta(description="Of the candle; of the newest one where all was written anew.")]


class GenerationMessage(Struct, forbid_unknown_fields=True):
    """Missing history is being collected for somebody who asked for it."""

    job: Annotated[str, Meta(description="Id of the job.", pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    state: Literal["queued", "running", "succeeded", "failed", "canceled"]
    exchange: ExchangeName
    symbol: SymbolName
    start: Time
    end: Annotated[Time, Meta(description="Exclusive.")]
    days: Annotated[int, Meta(ge=0, description="How many days were missing when it began.")]
    days_done: Annotated[int, Meta(ge=0)]
    detail: Annotated[str, Meta(description="In words; why it failed.")]
    told_at: Time


_encode = msgspec.json.Encoder().encode
_SEQ = len(b'{"seq":0')


@lru_cache(maxsize=4_096)
def time_text(moment_us: int) -> str:
    """Return a time as every message spells it."""
    seconds, microseconds = divmod(moment_us, 1_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{microseconds:06d}Z"


def candle_rest(place: Place, candle: LiveCandle) -> bytes:
    """Return the message of a candle without its beginning ``{"seq":…``, which only the script knows."""
    message = CandleMessage(
        0,
        place.market.exchange.value,
        place.market.symbol_key,
        place.timeframe.value,
        time_text(candle.open_us),
        candle.open,
        candle.high,
        candle.low,
        candle.close,
        candle.volume,
        candle.quote_volume,
        candle.trades,
        candle.minutes,
        candle.state.value,
        candle.source,  # type: ignore[arg-type]  # checked when the row is packed
        time_text(candle.received_us),
    )
    return _encode(message)[_SEQ:]


def buffer_rest(place: Place, reason: str, open_us: int) -> bytes:
    """Return the message of a buffer without its beginning; ``open_us`` 0: it is empty."""
    message = BufferMessage(
        0,
        place.market.exchange.value,
        place.market.symbol_key,
        place.timeframe.value,
        reason,  # type: ignore[arg-type]
        time_text(open_us) if open_us else None,
    )
    return _encode(message)[_SEQ:]


def change_rests(place: Place, candle: LiveCandle) -> tuple[bytes, bytes]:
    """Return the messages of a changed candle: of the candle, and of its buffer; empty where it is only forming."""
    told = b"" if candle.state is CandleState.FORMING else buffer_rest(place, candle.state.value, candle.open_us)
    return candle_rest(place, candle), told
