"""Terms that cannot be met are refused by name, before anybody waits for them."""

from __future__ import annotations

import asyncio

import pytest

from mdp.bus import local_budget
from mdp.domain.market import Exchange
from mdp.domain.quota import Quota
from mdp.errors import ConfigError, InputError

PLENTY = Quota("weight", 1_000_000, 60)


def ask(budget, costs, symbol=None):
    async def inside():
        try:
            return await budget.acquire(costs, symbol)
        finally:
            await budget.close()

    return asyncio.run(inside())


def test_a_quota_that_the_exchange_does_not_have_is_refused_by_name():
    with pytest.raises(InputError, match="expected one of weight, got 'credits'"):
        ask(local_budget(Exchange.OKX, [PLENTY]), {"credits": 1})


@pytest.mark.parametrize("cost", [-1, 2_000_000])
def test_a_cost_that_can_never_be_met_is_refused(cost):
    with pytest.raises(InputError, match="weight"):
        ask(local_budget(Exchange.OKX, [PLENTY]), {"weight": cost})


def test_a_share_in_which_no_request_fits_is_a_wrong_setting():
    with pytest.raises(ConfigError, match="MDP_EXCHANGES__OKX__RATE_SHARE"):
        ask(local_budget(Exchange.OKX, [Quota("weight", 20, 2)], rate_share=0.04), {"weight": 1})
    little = local_budget(Exchange.OKX, [Quota("weight", 20, 2)], symbol_shares={"BTC-USDT": 0.04})
    with pytest.raises(ConfigError, match="MDP_EXCHANGES__OKX__SYMBOL_SHARES"):
        ask(little, {"weight": 1}, "BTC-USDT")


@pytest.mark.parametrize("quotas", [[], [PLENTY, PLENTY], [Quota("weight", 0, 60)], [Quota("weight", 1, 0)]])
def test_quotas_that_cannot_be_counted_are_refused(quotas):
    with pytest.raises(InputError, match="quotas"):
        local_budget(Exchange.OKX, quotas)


@pytest.mark.parametrize(
    "wrong", [{"rate_share": 0}, {"rate_share": 1.1}, {"symbol_shares": {"X": 0}}, {"timeout_s": 0}]
)
def test_shares_and_time_outs_that_make_no_sense_are_refused(wrong):
    with pytest.raises(InputError, match="expected more than 0"):
        local_budget(Exchange.OKX, [PLENTY], **wrong)
