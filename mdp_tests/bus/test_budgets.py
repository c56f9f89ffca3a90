"""Budgets as their callers see them: alone, over a bus, and over one that is not there."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import socket
import threading
import time

import pytest

from mdp.bus import local_budget, open_budgets
from mdp.bus.metrics import exposition
from mdp.bus.report import BudgetReport, read_report
from mdp.config.settings import load_settings
from mdp.domain.market import Exchange
from mdp.domain.quota import Priority, Quota, Usage
from mdp.errors import RateLimited

PLENTY = Quota("weight", 1_000_000, 60)
TERMS = {"host": "exchange.test", "rate_share": 1.0, "symbol_shares": {}, "timeout_s": 2.0}
_numbers = itertools.count()


@pytest.fixture
def over(bus_dir):
    """Open the budgets of one more process over the server of the tests, at an address of this test alone."""
    egress = f"test{os.getpid()}.{next(_numbers)}"
    with contextlib.ExitStack() as opened:

        def open_another():
            return opened.enter_context(open_budgets(load_settings(data_dir=bus_dir, bus={"egress": egress})))

        yield open_another


@pytest.fixture
def nowhere(tmp_path):
    """Open budgets whose bus cannot be reached."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    return open_budgets(load_settings(data_dir=tmp_path, bus={"url": f"redis://127.0.0.1:{port}/0"}))


def run(budget, ask):
    async def inside():
        try:
            return await asyncio.wait_for(ask(budget), 20)
        finally:
            await budget.close()

    return asyncio.run(inside())


async def ask_once(budget, cost=1.0, symbol=None):
    leave = await budget.acquire({"weight": cost}, symbol)
    leave.answered()
    return leave


def test_a_budget_of_one_process_gives_leave_at_once(caplog):
    leave = run(local_budget(Exchange.OKX, [PLENTY]), ask_once)
    assert leave.waited_s < 1
    assert not caplog.records


def test_leave_is_given_over_the_bus_and_counted_there(over):
    with over() as budgets:
        run(budgets.of(Exchange.OKX, [PLENTY], **TERMS), lambda budget: ask_once(budget, 30))
        settings = budgets._settings
        found = [one for one in read_report(settings).exchanges if one.egress == settings.bus.egress]
    assert [(one.exchange, one.requests, one.quotas[0].used) for one in found] == [("okx", 1, 30)]
    assert [process.pid for process in found[0].processes] == [os.getpid()]


@pytest.mark.parametrize("kind", ["bus", "alone"])
def test_many_that_wait_are_served_in_order_and_never_more_than_the_quota(over, kind):
    quota = Quota("weight", 4, 0.15)
    budget = (
        over().of(Exchange.OKX, [quota], **TERMS) if kind == "bus" else local_budget(Exchange.OKX, [quota], timeout_s=2)
    )
    left = []

    async def ask(budget):
        async def one(number):
            leave = await budget.acquire({"weight": 1})
            left.append((time.monotonic(), number))
            leave.answered()

        await asyncio.gather(*(one(number) for number in range(7)))

    run(budget, ask)
    moments = [moment for moment, _ in left]
    assert [number for _, number in left] == list(range(7))
    assert max(sum(end - 0.15 < moment <= end for moment in moments) for end in moments) <= 4


def test_two_processes_share_one_quota(over):
    quota, left = Quota("weight", 6, 0.15), []

    async def ask(first, second):
        async def loop(budget):
            for _ in range(6):
                leave = await budget.acquire({"weight": 1})
                left.append(time.monotonic())
                leave.answered()

        await asyncio.gather(loop(first), loop(second))
        await second.close()

    with over() as one, over() as other:
        second = other.of(Exchange.OKX, [quota], **TERMS)
        run(one.of(Exchange.OKX, [quota], **TERMS), lambda first: ask(first, second))
    assert max(sum(end - 0.15 < moment <= end for moment in left) for end in left) <= 6


def test_who_gives_up_waiting_leaves_room_for_the_next():
    async def ask(budget):
        held = await budget.acquire({"weight": 1})
        waiting = asyncio.create_task(ask_once(budget))
        await asyncio.sleep(0.02)
        waiting.cancel()
        held.answered()
        return await ask_once(budget)

    leave = run(local_budget(Exchange.OKX, [Quota("weight", 1, 0.1)], timeout_s=2), ask)
    assert leave.waited_s > 0


def test_a_short_cool_down_is_waited_for_by_every_process(over):
    async def ask(first, second):
        await asyncio.gather(ask_once(first), ask_once(second))
        first.cool_down(0.2, "429 of Binance")
        began = time.monotonic()
        await asyncio.sleep(0.05)
        await asyncio.gather(ask_once(first), ask_once(second))
        await second.close()
        return time.monotonic() - began

    with over() as one, over() as other:
        second = other.of(Exchange.BINANCE, [PLENTY], **TERMS)
        assert run(one.of(Exchange.BINANCE, [PLENTY], **TERMS), lambda first: ask(first, second)) >= 0.19


def test_a_long_cool_down_is_refused_also_to_those_who_wait_already(over):
    quota = Quota("weight", 1, 30)

    async def ask(first, second):
        held = await first.acquire({"weight": 1})
        waiting = [asyncio.create_task(ask_once(budget)) for budget in (first, second)]
        await asyncio.sleep(0.05)
        first.cool_down(600, "403 of Bybit")
        results = await asyncio.gather(*waiting, return_exceptions=True)
        held.answered()
        await second.close()
        return results

    with over() as one, over() as other:
        second = other.of(Exchange.BYBIT, [quota], **TERMS)
        results = run(one.of(Exchange.BYBIT, [quota], **TERMS), lambda first: ask(first, second))
    for error in results:
        assert isinstance(error, RateLimited)
        assert 590 < error.retry_after_s <= 600
        assert "403 of Bybit" in str(error)


def test_a_cool_down_that_began_before_a_process_did_holds_it_too(over):
    with over() as budgets:

        async def cool(budget):
            await ask_once(budget)
            budget.cool_down(120, "418")
            await asyncio.sleep(0.05)

        run(budgets.of(Exchange.OKX, [PLENTY], **TERMS), cool)
    with over() as budgets, pytest.raises(RateLimited, match="418"):
        run(budgets.of(Exchange.OKX, [PLENTY], **TERMS), ask_once)


def test_a_cool_down_that_the_bus_forgot_is_told_to_it_again(over, redis):
    async def ask(budget):
        held = await budget.acquire({"weight": 1})
        budget.cool_down(120, "418 again")
        await asyncio.sleep(0.02)
        redis.delete(*redis.keys(f"*{egress}:okx@exchange.test}}:state"))
        held.answered()
        await asyncio.sleep(0.5)

    with over() as budgets:
        egress = budgets._settings.bus.egress
        run(budgets.of(Exchange.OKX, [PLENTY], **TERMS), ask)
    with over() as budgets, pytest.raises(RateLimited, match="418 again"):
        run(budgets.of(Exchange.OKX, [PLENTY], **TERMS), ask_once)


def test_a_ban_by_a_stand_in_does_not_hold_the_real_exchange(over):
    async def ask(budget):
        budget.cool_down(120, "418 of a simulator")
        return await ask_once(budget)

    stand_in = {**TERMS, "host": "127.0.0.1:8790"}
    with over() as one, over() as other:
        with pytest.raises(RateLimited, match="418"):
            run(one.of(Exchange.OKX, [PLENTY], **stand_in), ask)
        for budgets in (one, other):
            assert run(budgets.of(Exchange.OKX, [PLENTY], **TERMS), ask_once)
        with pytest.raises(RateLimited, match="418"):
            run(other.of(Exchange.OKX, [PLENTY], **stand_in), ask_once)
        egress = one._settings.bus.egress
        found = [use for use in read_report(one._settings).exchanges if use.egress == egress]
        assert sorted(use.host for use in found) == ["127.0.0.1:8790", "exchange.test"]
        assert exposition(BudgetReport("embedded", True, "", found)).count('host="127.0.0.1:8790"') >= 4


def test_a_short_cool_down_is_waited_for_also_without_a_bus():
    async def ask(budget):
        budget.cool_down(0.1, "50011")
        return await ask_once(budget)

    assert run(local_budget(Exchange.OKX, [PLENTY]), ask).waited_s >= 0.09


def test_a_cool_down_holds_also_without_a_bus(nowhere):
    async def ask(budget):
        budget.cool_down(90, "429")
        await ask_once(budget)

    with pytest.raises(RateLimited, match="429"):
        run(nowhere.of(Exchange.OKX, [PLENTY], **TERMS), ask)


def test_without_a_bus_every_process_goes_on_with_its_part_and_says_so_once(nowhere, caplog):
    caplog.set_level(logging.WARNING)
    for exchange in (Exchange.OKX, Exchange.BYBIT):
        assert run(nowhere.of(exchange, [PLENTY], **TERMS), ask_once)
    assert [record.message for record in caplog.records if "0.25 of its share" in record.message]
    assert len(caplog.records) == 1


def test_what_an_answer_says_of_a_quota_is_heeded_by_the_other_process(over):
    quota = Quota("weight", 100, 60)

    async def ask(first, second):
        leave = await first.acquire({"weight": 1})
        leave.answered(Usage("weight", left=0, resets_in_s=0.2))
        began = time.monotonic()
        await asyncio.sleep(0.05)
        await ask_once(second)
        await second.close()
        return time.monotonic() - began

    with over() as one, over() as other:
        second = other.of(Exchange.BYBIT, [quota], **TERMS)
        assert run(one.of(Exchange.BYBIT, [quota], **TERMS), lambda first: ask(first, second)) >= 0.19


def test_a_live_request_goes_before_the_backfills_of_another_process(over):
    quota, order = Quota("weight", 2, 0.2), []

    async def ask(backfill, live):
        async def one(budget, name):
            leave = await budget.acquire({"weight": 1})
            order.append(name)
            leave.answered()

        backfills = [asyncio.create_task(one(backfill, "backfill")) for _ in range(4)]
        await asyncio.sleep(0.02)
        await one(live, "live")
        await asyncio.gather(*backfills)
        await live.close()

    with over() as one, over() as other:
        live = other.of(Exchange.OKX, [quota], **TERMS, priority=Priority.LIVE)
        run(one.of(Exchange.OKX, [quota], **TERMS), lambda backfill: ask(backfill, live))
    assert order.index("live") <= 3
    assert order[-1] == "backfill"


def test_budgets_are_used_from_the_loops_of_several_threads(over):
    with over() as budgets:
        asked = []

        def work():
            asked.append(run(budgets.of(Exchange.OKX, [PLENTY], **TERMS), ask_once))

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(asked) == 3


def test_nothing_is_started_before_the_first_request(tmp_path):
    with open_budgets(load_settings(data_dir=tmp_path)) as budgets:
        budgets.of(Exchange.OKX, [PLENTY], **TERMS)
    assert not list(tmp_path.iterdir())


def test_without_a_bus_as_many_processes_as_there_are_workers_take_no_more_than_our_share(nowhere, caplog):
    caplog.set_level(logging.WARNING)
    settings = load_settings(data_dir=nowhere._settings.data_dir, workers=8, bus=nowhere._settings.bus.model_dump())
    quota = Quota("weight", 160, 0.5)
    taken = []

    async def ask(budget):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.4):
                while True:
                    taken.append(await budget.acquire({"weight": 1}))

    run(open_budgets(settings).of(Exchange.OKX, [quota], **TERMS), ask)
    assert 1 < len(taken) <= 160 / 8
    assert "goes on with 0.125 of its share" in caplog.text


def test_a_lost_bus_is_said_without_its_password(nowhere, caplog):
    caplog.set_level(logging.DEBUG)
    url = nowhere._settings.bus.url.replace("redis://", "redis://me:secret@")
    with open_budgets(load_settings(data_dir=nowhere._settings.data_dir, bus={"url": url})) as budgets:
        assert run(budgets.of(Exchange.OKX, [PLENTY], **TERMS), ask_once)
    assert "cannot be reached" in caplog.text
    assert "***@127.0.0.1" in caplog.text
    assert "secret" not in caplog.text
