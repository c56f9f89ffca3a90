"""What a generation tells of itself: to who asks for it, and to who listens.

Its end is judged by what is stored, not by Dagster's word: it ends complete, or says what is missing.
Not here: routes (``routes``), Dagster (``backfills``).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Literal

import msgspec
from pydantic import BaseModel, Field

from mdp.api.generations.backfills import Backfill
from mdp.api.generations.judging import MissingDay
from mdp.bus.topics import GenerationMessage, time_text
from mdp.domain.interval import Interval, format_time
from mdp.domain.market import Market
from mdp.domain.timeframe import EPOCH

State = Literal["queued", "running", "succeeded", "failed", "canceled"]


class Missing(BaseModel):
    """A day that is not complete."""

    day: Annotated[str, Field(description="UTC.", examples=["2024-12-30"])]
    minutes: Annotated[int, Field(description="How many of its minutes are not as they should be.", ge=0)]
    reason: Annotated[str, Field(examples=["unfetched"])]
    retryable: Annotated[bool, Field(description="Whether asking once more can help.")]


class Generation(BaseModel):
    """The collection of days that were missing, for somebody who asked for them."""

    id: Annotated[str, Field(description="The same for the same market and days.", examples=["3f9a0c2b71d4e865"])]
    state: Annotated[State, Field(description="`succeeded`: nothing is missing. `failed`: `missing` says what.")]
    exchange: Annotated[str, Field(examples=["binance"])]
    symbol: Annotated[str, Field(examples=["BTC-USDT"])]
    start: Annotated[str, Field(description="First instant of the days.", examples=["2024-12-30T00:00:00Z"])]
    end: Annotated[str, Field(description="Excluded.", examples=["2025-01-02T00:00:00Z"])]
    days: Annotated[int, Field(description="So many days were missing when it began.", ge=0)]
    days_done: Annotated[int, Field(ge=0)]
    attempt: Annotated[int, Field(description="Grows when it is asked for again after an end; 0: not needed.", ge=0)]
    detail: Annotated[str, Field(description="In words.")]
    missing: Annotated[list[Missing], Field(description="What is not complete, once nothing more happens.")]
    begun_at: Annotated[str | None, Field(description="When its latest attempt was launched.")]
    ended_at: Annotated[str | None, Field(description="When Dagster saw the end of that.")]
    dagster_url: Annotated[str | None, Field(description="Its page in Dagster.")]

    @property
    def is_over(self) -> bool:
        """Tell whether nothing more will happen."""
        return self.state not in ("queued", "running")


EXAMPLE = {
    "id": "3f9a0c2b71d4e865", "state": "running", "exchange": "binance", "symbol": "BTC-USDT",
    "start": "2024-12-30T00:00:00Z", "end": "2025-01-02T00:00:00Z", "days": 3, "days_done": 1, "attempt": 1,
    "detail": "1 of 3 days are done", "missing": [], "begun_at": "2025-01-15T09:30:00Z", "ended_at": None,
    "dagster_url": "http://127.0.0.1:3000/runs/b/xkwvqzpe",
}  # fmt: skip


def generation_id(env: str, market: Market, window: Interval) -> str:
    """Return the name of the generation of a market's days: the same for the same question, whoever asks."""
    asked = f"{env}\n{market}\n{format_time(window.start)}\n{format_time(window.end)}"
    return hashlib.sha256(asked.encode()).hexdigest()[:16]


def is_id(text: str) -> bool:
    """Tell whether a text may be the name of a generation."""
    return re.fullmatch("[0-9a-f]{16}", text) is not None


def not_needed(env: str, market: Market, window: Interval) -> Generation:
    """Return the generation of days of which none is missing."""
    return _made(
        generation_id(env, market, window), market, window, "succeeded", 0, 0, 0, "nothing is missing", [],
        None, None, None,
    )  # fmt: skip


def at_work(backfill: Backfill, ui_url: str, detail: str = "") -> Generation:
    """Return a generation that is not over."""
    state: State = "queued" if backfill.is_queued else "running"
    done = f"{backfill.done} of {backfill.missing} days are done"
    if backfill.status == "CANCELING":
        done += "; it is being canceled"
    elif state == "queued":
        done = "waits for Dagster's daemon to begin"
    return _of(backfill, state, backfill.done, detail or done, [], ui_url)


def over(backfill: Backfill, missing: Sequence[MissingDay], ui_url: str) -> Generation:
    """Return a generation of which nothing more happens, judged by what its days lack now."""
    done = max(0, backfill.missing - len(missing))
    if not missing:
        return _of(backfill, "succeeded", done, "nothing is missing", [], ui_url)
    state: State = "canceled" if backfill.status == "CANCELED" else "failed"
    can_help = sum(one.is_retryable for one in missing)
    detail = f"{len(missing)} days are not complete; asking again can help for {can_help} of them"
    listed = [
        Missing(day=str(one.day), minutes=one.minutes, reason=one.reason, retryable=one.is_retryable) for one in missing
    ]
    return _of(backfill, state, done, detail, listed, ui_url)


def message_of(told: Generation) -> bytes:
    """Return what subscribers of ``generation.<id>`` hear."""
    message = GenerationMessage(
        told.id, told.state, told.exchange, told.symbol, _time(told.start), _time(told.end), told.days,
        told.days_done, told.detail, _microseconds(datetime.now(UTC)),
    )  # fmt: skip
    return msgspec.json.encode(message)


def _of(backfill: Backfill, state: State, done: int, detail: str, missing: list[Missing], ui_url: str) -> Generation:
    return _made(
        backfill.generation, backfill.market, backfill.window, state, backfill.missing, done, backfill.attempt, detail,
        missing, backfill.begun_at, backfill.ended_at, f"{ui_url}/runs/b/{backfill.id}",
    )  # fmt: skip


def _made(
    name: str, market: Market, window: Interval, state: State, days: int, done: int, attempt: int, detail: str,
    missing: list[Missing], begun_at: datetime | None, ended_at: datetime | None, dagster_url: str | None,
) -> Generation:  # fmt: skip
    return Generation(
        id=name, state=state, exchange=market.exchange.value, symbol=market.symbol_key,
        start=format_time(window.start), end=format_time(window.end), days=days, days_done=min(done, days),
        attempt=attempt, detail=detail, missing=missing, begun_at=_second(begun_at), ended_at=_second(ended_at),
        dagster_url=dagster_url,
    )  # fmt: skip


def _second(moment: datetime | None) -> str | None:
    return None if moment is None else format_time(moment.replace(microsecond=0))


def _time(text: str) -> str:
    return _microseconds(datetime.fromisoformat(text))


def _microseconds(moment: datetime) -> str:
    since = moment - EPOCH
    return time_text((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds)
