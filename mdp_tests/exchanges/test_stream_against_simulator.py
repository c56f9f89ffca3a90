"""The streams against the simulator's: what comes is the truth, and every fault is told as what it is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from mdp.domain.interval import format_time
from mdp.domain.live import CandleState
from mdp.domain.timeframe import EPOCH
from mdp.errors import ExchangeUnavailable, PayloadError, RateLimited, RequestRejected
from mdp_tests.exchanges.streaming import address, watching
from mdp_tests.support.simulator_control import Control
from mdp_tests.support.simulator_process import running_simulator

pytestmark = pytest.mark.slow

SPOT = ("binance", "bybit", "okx")
ALL = (*SPOT, "deribit")
THREE = ("BTC-USDT", "ETH-USDT", "SOL-USDT")
NAMES = {"deribit": ("BTC-DVOL", "ETH-DVOL")}


@pytest.fixture(scope="module")
def simulator() -> Iterator[str]:
    with running_simulator("--speed", "60", "--now", "2025-03-04T10:00Z") as running:
        yield running.url


@pytest.fixture
def script(simulator) -> Iterator[Any]:
    control = Control(simulator)
    yield control.script
    control.clear_faults()


def names(exchange: str) -> tuple[str, ...]:
    return NAMES.get(exchange, THREE)


@pytest.mark.parametrize("exchange", SPOT)
def test_three_markets_share_a_connection_and_every_closed_minute_is_the_truth(simulator, exchange):
    async def run() -> None:
        async with watching(exchange, address(simulator, exchange)) as watched:
            watched.watch(*THREE)
            await watched.until(lambda: all(len(watched.closed(name)) > 1 for name in THREE))
            assert watched.stream.heard_s() < 5
            assert len([one for one in control.streams()["open"] if one["exchange"] == exchange]) == 1
            for name in THREE:
                closed = watched.closed(name)
                start, end = (closed[0].open_us, closed[-1].open_us + 60_000_000)
                truth = control.truth(f"{exchange}:{name}", moment(start), moment(end))
                has_trades = exchange == "binance"
                expected = [(row[0] * 1_000, *row[1:7], row[7] if has_trades else None) for row in truth]
                assert [candle[:8] for candle in closed] == expected
                states = {candle.state for candle in watched.of(name)}
                assert states == {CandleState.FORMING, CandleState.CLOSED}

    control = Control(simulator)
    asyncio.run(run())


def moment(microseconds: int) -> str:
    return format_time(EPOCH + timedelta(microseconds=microseconds))


def test_an_index_is_told_in_forming_minutes_and_never_as_closed(simulator):
    async def run() -> None:
        async with watching("deribit", address(simulator, "deribit")) as watched:
            watched.watch("BTC-DVOL", "ETH-DVOL")
            await watched.until(lambda: len({candle.open_us for candle in watched.of("ETH-DVOL")}) >= 3)
            candles = watched.of("BTC-DVOL")
            assert {candle.state for candle in candles} == {CandleState.FORMING}
            assert {candle[5:8] for candle in candles} == {(None, None, None)}
            minute = sorted({candle.open_us for candle in candles})[1]
            last = [candle for candle in candles if candle.open_us == minute][-1]
            (truth,) = Control(simulator).truth("deribit:BTC-DVOL", moment(minute), moment(minute + 60_000_000))
            # at sixty times the speed not every tick comes: what came lies inside what was
            assert truth[3] <= last.low <= last.close <= last.high <= truth[2]

    asyncio.run(run())


ENDS = [
    *((exchange, {"kind": "stream_close", "code": 1001, "reason": "going away"}) for exchange in ALL),
    *((exchange, {"kind": "stream_abort"}) for exchange in ("binance", "deribit")),
]


@pytest.mark.parametrize(("exchange", "fault"), ENDS)
def test_a_connection_that_ends_is_told_to_all_and_the_next_watch_starts_anew(simulator, script, exchange, fault):
    async def run() -> None:
        async with watching(exchange, address(simulator, exchange)) as watched:
            watched.watch(*names(exchange))
            await watched.until(lambda: all(watched.of(name) for name in names(exchange)))
            script({**fault, "exchange": exchange, "times": 1})
            for name in names(exchange):
                error = await watched.failure(name)
                assert type(error) is ExchangeUnavailable, error
            if fault["kind"] == "stream_close":
                assert "1001" in str(error)
                assert "going away" in str(error)
            count = len(watched.updates)
            watched.watch(*names(exchange))
            await watched.until(lambda: {one.market for one in watched.updates[count:]} == set(watched.tasks))

    asyncio.run(run())


REFUSALS = [
    *((exchange, 429, 7, RateLimited) for exchange in ALL),
    ("binance", 451, None, RequestRejected), ("bybit", 503, None, ExchangeUnavailable),
    ("okx", 403, None, RateLimited), ("deribit", 404, None, RequestRejected),
]  # fmt: skip


@pytest.mark.parametrize(("exchange", "status", "retry_after_s", "expected"), REFUSALS)
def test_a_refused_handshake_is_told_by_its_status(simulator, script, exchange, status, retry_after_s, expected):
    async def run() -> None:
        script({
            "kind": "stream_refused", "exchange": exchange, "status": status, "times": 1,
            **({} if retry_after_s is None else {"retry_after_s": retry_after_s}),
        })  # fmt: skip
        async with watching(exchange, address(simulator, exchange)) as watched:
            watched.watch(names(exchange)[0])
            error = await watched.failure(names(exchange)[0])
            assert type(error) is expected, error
            if retry_after_s is not None:
                assert error.retry_after_s == retry_after_s
            watched.watch(names(exchange)[0])
            await watched.until(lambda: watched.updates)

    asyncio.run(run())


@pytest.mark.parametrize("form", ["error", "bare"])
@pytest.mark.parametrize("exchange", SPOT)
def test_a_refused_subscription_ends_its_watch_and_no_other(simulator, script, exchange, form):
    async def run() -> None:
        async with watching(exchange, address(simulator, exchange)) as watched:
            watched.watch("BTC-USDT", "SOL-USDT")
            await watched.until(lambda: watched.of("BTC-USDT") and watched.of("SOL-USDT"))
            script({"kind": "stream_rejected", "exchange": exchange, "symbol": "ETH-USDT", "form": form, "times": 1})
            watched.watch("ETH-USDT")
            error = await watched.failure("ETH-USDT")
            assert type(error) is RequestRejected, error
            count = len(watched.updates)
            watched.watch("ETH-USDT")
            await watched.until(lambda: {one.market for one in watched.updates[count:]} == set(watched.tasks))
            assert not any(task.done() for task in watched.tasks.values())

    asyncio.run(run())


@pytest.mark.parametrize("exchange", ALL)
def test_a_subscription_without_an_answer_ends_its_watch_in_time_and_no_other(simulator, script, exchange):
    async def run() -> None:
        first, second = names(exchange)[:2]
        async with watching(exchange, address(simulator, exchange), timeout_s=1.0) as watched:
            watched.watch(first)
            await watched.until(lambda: watched.of(first))
            script({"kind": "stream_rejected", "exchange": exchange, "form": "ignored", "times": 1})
            watched.watch(second)
            error = await watched.failure(second)
            assert type(error) is ExchangeUnavailable, error
            assert "not answered in" in str(error)
            watched.watch(second)
            await watched.until(lambda: watched.of(second))
            assert not watched.task(first).done()

    asyncio.run(run())


def test_an_index_that_is_left_out_of_the_accepted_list_is_refused(simulator, script):
    async def run() -> None:
        script({"kind": "stream_rejected", "exchange": "deribit", "form": "absent", "times": 1})
        async with watching("deribit", address(simulator, "deribit")) as watched:
            watched.watch("BTC-DVOL")
            assert type(await watched.failure("BTC-DVOL")) is RequestRejected

    asyncio.run(run())


@pytest.mark.parametrize("exchange", ALL)
def test_a_garbled_message_ends_the_watch_with_the_hope_that_the_next_is_whole(simulator, script, exchange):
    async def run() -> None:
        first = names(exchange)[0]
        async with watching(exchange, address(simulator, exchange)) as watched:
            watched.watch(first)
            await watched.until(lambda: watched.updates)
            script({"kind": "stream_garbled", "exchange": exchange, "times": 1})
            error = await watched.failure(first)
            assert isinstance(error, PayloadError)
            assert error.retryable

    asyncio.run(run())


def test_messages_that_come_twice_late_or_in_another_order_are_given_as_they_come(simulator, script):
    async def run() -> None:
        async with watching("bybit", address(simulator, "bybit")) as watched:
            script({"kind": "stream_duplicate_close", "exchange": "bybit", "symbol": "BTC-USDT"})
            script({"kind": "stream_late_close", "exchange": "bybit", "symbol": "ETH-USDT", "by_s": 15})
            watched.watch("BTC-USDT", "ETH-USDT")
            await watched.until(lambda: len(watched.closed("BTC-USDT")) > 1 and watched.closed("ETH-USDT"))
            first, second = watched.closed("BTC-USDT")[:2]
            assert first.says_same(second)
            candles = watched.of("ETH-USDT")
            late = watched.closed("ETH-USDT")[0]
            assert max(candle.open_us for candle in candles[: candles.index(late)]) > late.open_us
            assert not any(task.done() for task in watched.tasks.values())

    asyncio.run(run())


def test_the_notice_of_an_upgrade_is_no_failure_and_an_announced_shutdown_is_one(simulator, script):
    async def run() -> None:
        async with watching("okx", address(simulator, "okx")) as watched:
            watched.watch(*THREE)
            await watched.until(lambda: len({one.market for one in watched.updates}) == 3)
            script({"kind": "stream_notice", "exchange": "okx", "grace_s": 1.0, "times": 1})
            error = await watched.failure("BTC-USDT")
            assert "closed with code 1001" in str(error), "the notice itself ends nothing"
        async with watching("binance", address(simulator, "binance")) as watched:
            watched.watch("BTC-USDT")
            await watched.until(lambda: watched.updates)
            script({"kind": "stream_shutdown", "exchange": "binance", "grace_s": 60.0, "times": 1})
            error = await watched.failure("BTC-USDT")
            assert type(error) is ExchangeUnavailable
            assert "serverShutdown" in str(error)

    asyncio.run(run())


def test_a_half_open_connection_is_noticed_within_20_s_and_one_that_only_pongs_is_not_given_up(simulator, script):
    async def freeze(exchange: str) -> float:
        first = names(exchange)[0]
        async with watching(exchange, address(simulator, exchange), is_alone=False) as watched:
            watched.watch(first)
            await watched.until(lambda: watched.updates)
            script({"kind": "stream_half_open", "exchange": exchange, "times": 1})
            began = time.monotonic()
            error = await watched.failure(first, within_s=25)
            assert type(error) is ExchangeUnavailable, error
            assert "no sign of life" in str(error)
            return time.monotonic() - began

    async def silence(exchange: str) -> tuple[float, float]:
        first = names(exchange)[0]
        async with watching(exchange, address(simulator, exchange), is_alone=False) as watched:
            watched.watch(first)
            await watched.until(lambda: watched.updates)
            script({"kind": "stream_silence", "exchange": exchange, "times": 1})
            await asyncio.sleep(14)
            assert not watched.task(first).done()
            heard_s = watched.stream.heard_s()
            began = time.monotonic()
            await watched.stream.drop("silent")
            error = await watched.failure(first)
            assert "silent" in str(error)
            return heard_s, time.monotonic() - began

    async def run() -> None:
        frozen = await asyncio.gather(freeze("bybit"), freeze("deribit"))
        print(f"half-open sockets were noticed after {', '.join(f'{one:.1f}' for one in frozen)} s")
        assert max(frozen) < 20

    async def run_silence() -> None:
        quiet = await asyncio.gather(*map(silence, ("binance", "okx")))
        print(f"last sign of life and time to drop of silent ones: {quiet}")
        assert all(heard_s < 8 for heard_s, _ in quiet)
        assert all(drop_s < 0.2 for _, drop_s in quiet)

    async def both() -> None:
        await asyncio.gather(run(), run_silence())

    asyncio.run(both())
