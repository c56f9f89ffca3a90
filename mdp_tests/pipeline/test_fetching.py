"""Asking ahead: who is asked again and when, how far ahead, and how it ends whatever happens."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from datetime import date

import pytest

from mdp.domain.market import Exchange, Market
from mdp.domain.timeframe import Timeframe
from mdp.errors import (
    CircuitOpen,
    ConfigError,
    ExchangeUnavailable,
    PayloadError,
    RateLimited,
    RequestRejected,
)
from mdp.pipeline.batches import parts_of
from mdp.pipeline.fetching import Ask, Got, Missed, fetch_ahead, slices_held
from mdp.pipeline.rounds import Rounds
from mdp_tests.support.builders import NOW
from mdp_tests.support.scripted_source import ScriptedExchanges

BINANCE, BYBIT, OKX = (Market.parse(f"{exchange}:BTC-USDT") for exchange in ("binance", "bybit", "okx"))
BYBIT_ETH = Market.parse("bybit:ETH-USDT")
MONTHS = [date(2024, month, 1) for month in range(1, 13)]


def asks(*markets, days=(date(2024, 12, 30),)):
    parts = parts_of([(market, day) for market in markets for day in days])
    return [Ask(part, Timeframe.M1, part.window) for part in parts]


class Naps:
    """A sleep that takes no time and remembers."""

    def __init__(self):
        self.seconds = []

    async def __call__(self, seconds):
        self.seconds.append(seconds)
        await asyncio.sleep(0)


def fetch(wanted, exchanges, *, rounds=Rounds(), memory_mb=256, naps=None):  # noqa: B008 a frozen value
    return fetch_ahead(wanted, exchanges, lambda: NOW, rounds=rounds, memory_mb=memory_mb, sleep=naps or Naps())


def failing(errors):
    """Exchanges that raise the next of a market's errors each time it is asked, until there are none left."""
    left = {market: list(those) for market, those in errors.items()}

    def edit(asked, rows):
        if left.get(asked[0]):
            raise left[asked[0]].pop(0)
        return rows

    return ScriptedExchanges(edit=edit)


def ends(answers):
    return {(answer.ask.part.market, answer.ask.window.start.date()): type(answer) for answer in answers}


def asked_markets(exchanges):
    return [market for market, _, _ in exchanges.asked]


def fetching_threads():
    return [thread for thread in threading.enumerate() if thread.name == "fetching"]


def test_an_exchange_that_is_down_is_asked_again_after_the_others_were_served():
    exchanges, naps = failing({BYBIT: [ExchangeUnavailable("bybit", "503")]}), Naps()
    answers = list(fetch(asks(BYBIT, BINANCE, OKX), exchanges, naps=naps))
    assert set(ends(answers).values()) == {Got}
    assert asked_markets(exchanges)[-1] == BYBIT
    assert sorted(asked_markets(exchanges)) == sorted([BYBIT, BYBIT, BINANCE, OKX])
    assert naps.seconds == [20]


def test_what_failed_in_an_earlier_round_is_told_with_what_came_for_it_was_asked_again():
    down, slow = ExchangeUnavailable("bybit", "503"), RateLimited("bybit", "429", retry_after_s=1)
    down.failed, slow.failed = {"ExchangeUnavailable": 4, "PayloadError": 1}, {"RateLimited": 2, "PayloadError": 1}
    answers = list(fetch(asks(BYBIT, BINANCE), failing({BYBIT: [down, slow]})))
    told = {answer.ask.part.market: answer.fetched.retried for answer in answers}
    assert told == {BINANCE: {}, BYBIT: {"ExchangeUnavailable": 4, "PayloadError": 2, "RateLimited": 2}}


def test_only_what_is_still_missing_is_asked_again():
    second = date(2024, 12, 30)

    def edit(asked, rows):
        if asked[2].start.date() == second and len(exchanges.asked) < 4:
            raise ExchangeUnavailable("bybit", "503")
        return rows

    exchanges = ScriptedExchanges(edit=edit)
    answers = list(fetch(asks(BYBIT, days=(date(2024, 12, 10), second, date(2025, 1, 5))), exchanges))
    assert set(ends(answers).values()) == {Got}
    days = [window.start.date().isoformat() for _, _, window in exchanges.asked]
    assert days == ["2024-12-10", "2024-12-30", "2024-12-30", "2024-12-30", "2025-01-05"]


def test_a_market_that_fails_is_left_for_the_round_and_the_next_market_of_its_exchange_is_not():
    exchanges = failing({BYBIT: [ExchangeUnavailable("bybit", "503")] * 3})
    answers = list(fetch(asks(BYBIT, BYBIT_ETH, days=MONTHS[:2]), exchanges))
    assert ends(answers) == {
        (BYBIT, MONTHS[0]): Missed, (BYBIT, MONTHS[1]): Missed,
        (BYBIT_ETH, MONTHS[0]): Got, (BYBIT_ETH, MONTHS[1]): Got,
    }  # fmt: skip
    assert [answer.attempts for answer in answers if isinstance(answer, Missed)] == [3, 0]


@pytest.mark.parametrize(
    "error",
    [RateLimited("bybit", "403", retry_after_s=60), CircuitOpen("bybit", "down", retry_after_s=60)],
    ids=lambda error: type(error).__name__,
)
def test_an_error_that_speaks_for_the_exchange_leaves_all_its_markets_for_as_long_as_it_says(error):
    exchanges, naps = failing({BYBIT: [error]}), Naps()
    answers = list(fetch(asks(BYBIT, BYBIT_ETH), exchanges, naps=naps))
    assert set(ends(answers).values()) == {Got}
    assert asked_markets(exchanges) == [BYBIT, BYBIT, BYBIT_ETH]
    assert naps.seconds == [60]


@pytest.mark.parametrize(
    ("error", "asked"),
    [
        (RequestRejected("bybit", "451"), [BYBIT, BYBIT_ETH]),
        (RateLimited("bybit", "banned", retry_after_s=121), [BYBIT]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_asking_again_cannot_help_is_given_up_at_once(error, asked):
    exchanges, naps = failing({BYBIT: [error] * 9, BYBIT_ETH: [error] * 9}), Naps()
    answers = list(fetch(asks(BYBIT, BYBIT_ETH, days=MONTHS[:2]), exchanges, naps=naps))
    assert set(ends(answers).values()) == {Missed}
    assert len(answers) == 4
    assert asked_markets(exchanges) == asked
    assert naps.seconds == []


def test_an_exchange_that_asks_for_exactly_the_longest_wait_is_given_it():
    exchanges, naps = failing({BYBIT: [RateLimited("bybit", "429", retry_after_s=120)]}), Naps()
    assert set(ends(fetch(asks(BYBIT), exchanges, naps=naps)).values()) == {Got}
    assert naps.seconds == [120]


def test_a_page_that_cannot_be_read_costs_its_own_slice_only():
    exchanges = failing({BYBIT: [PayloadError("bybit", "a candle of five fields")]})
    answers = ends(fetch(asks(BYBIT, days=MONTHS), exchanges))
    assert [day for (_, day), kind in answers.items() if kind is Missed] == [MONTHS[0]]
    assert len(exchanges.asked) == len(MONTHS)


def test_a_changed_format_is_not_found_out_once_for_every_month():
    exchanges = failing({BYBIT: [PayloadError("bybit", "a candle of five fields")] * 99})
    answers = ends(fetch(asks(BYBIT, BYBIT_ETH, days=MONTHS), exchanges))
    assert sum(kind is Missed for (market, _), kind in answers.items() if market == BYBIT) == 12
    assert asked_markets(exchanges).count(BYBIT) == 3
    assert {kind for (market, _), kind in answers.items() if market == BYBIT_ETH} == {Got}


def test_misreadings_count_only_in_a_row():
    bad = {MONTHS[number] for number in (0, 1, 3, 4, 6, 7)}

    def edit(asked, rows):
        if asked[2].start.date() in bad:
            raise PayloadError("bybit", "a candle of five fields")
        return rows

    answers = ends(fetch(asks(BYBIT, days=MONTHS), ScriptedExchanges(edit=edit)))
    assert {day for (_, day), kind in answers.items() if kind is Missed} == bad


@pytest.mark.timeout(20)
def test_a_slice_that_did_not_come_takes_no_place_in_memory():
    exchanges = failing({market: [ExchangeUnavailable("bybit", "503")] * 2 for market in (BYBIT, BYBIT_ETH)})
    answers = list(fetch(asks(BYBIT, BYBIT_ETH), exchanges, memory_mb=1))
    assert set(ends(answers).values()) == {Got}


def test_a_wrong_setting_of_one_exchange_is_the_failure_of_that_one():
    scripted = ScriptedExchanges()

    def open_source(exchange):
        if exchange is Exchange.OKX:
            raise ConfigError("MDP_EXCHANGES__OKX__REST_URL", got=None, expected="an address")
        return scripted(exchange)

    answers = list(fetch(asks(OKX, BINANCE), open_source))
    assert ends(answers) == {(BINANCE, date(2024, 12, 30)): Got, (OKX, date(2024, 12, 30)): Missed}


def test_exchanges_are_asked_side_by_side():
    both = threading.Barrier(2, timeout=5)

    async def meet(asked):
        await asyncio.to_thread(both.wait)

    answers = list(fetch(asks(BINANCE, OKX), ScriptedExchanges(while_asked=meet)))
    assert set(ends(answers).values()) == {Got}


def test_while_one_slice_is_in_work_the_next_ones_are_fetched_and_no_more_than_fit():
    exchanges = ScriptedExchanges()
    wanted = asks(BINANCE, days=MONTHS)
    a_day_mb = 1440 * 2000 / 1e6
    answers = fetch(wanted, exchanges, memory_mb=3 * a_day_mb + 0.1)
    for taken in range(1, 5):
        next(answers)
        # One in work, two ahead: nothing tells us when the third would come, so it is given the time.
        deadline = time.monotonic() + 5
        while len(exchanges.asked) < taken + 2 and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.01)
        assert len(exchanges.asked) == taken + 2
    answers.close()


def test_at_least_one_slice_is_fetched_ahead_however_little_memory_there_is():
    month = parts_of([(BINANCE, date(2024, 12, day)) for day in range(1, 32)])
    assert slices_held([Ask(part, Timeframe.M1, part.window) for part in month], 1) == 2
    assert slices_held([Ask(part, Timeframe.M1, part.window) for part in month], 256) == 2
    assert slices_held([Ask(part, Timeframe.M1, part.window) for part in month], 1024) == 11
    assert slices_held([], 256) >= 2


@pytest.mark.parametrize("end", ["close", "throw", "forget"])
def test_left_early_it_cancels_what_is_under_way_and_closes_every_source(end):
    cancelled = threading.Event()

    async def hang_on_okx(asked):
        if asked[0] == OKX:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                cancelled.set()
                raise

    exchanges = ScriptedExchanges(while_asked=hang_on_okx)
    answers = fetch(asks(BINANCE, OKX), exchanges)
    next(answers)
    while len(exchanges.opened) < 2:
        time.sleep(0.001)
    if end == "close":
        answers.close()
    elif end == "throw":
        with pytest.raises(KeyboardInterrupt):
            answers.throw(KeyboardInterrupt())
    else:
        del answers
        gc.collect()
    assert fetching_threads() == []
    assert cancelled.is_set()
    assert sorted(exchanges.closed) == sorted(exchanges.opened) == [Exchange.BINANCE, Exchange.OKX]


def test_an_error_that_nobody_expected_ends_everything_and_is_raised_here():
    def edit(asked, rows):
        raise ZeroDivisionError

    exchanges = ScriptedExchanges(edit=edit)
    with pytest.raises(ZeroDivisionError):
        list(fetch(asks(BINANCE), exchanges))
    assert exchanges.closed == [Exchange.BINANCE]
    assert fetching_threads() == []


def test_sources_are_opened_once_and_closed_at_the_end():
    exchanges = failing({BYBIT: [ExchangeUnavailable("bybit", "503")]})
    list(fetch(asks(BYBIT, BYBIT_ETH), exchanges))
    assert exchanges.opened == exchanges.closed == [Exchange.BYBIT]
    assert fetching_threads() == []


def test_nothing_to_ask_is_asked_of_nobody():
    assert list(fetch([], ScriptedExchanges())) == []
