"""Paper trading at OKX: the host is the real market's, so every request says that it is of demo trading."""

from __future__ import annotations

import asyncio

import pytest

from mdp.config.services import exchange_settings
from mdp.config.settings import load_settings
from mdp.domain.market import Exchange, Market
from mdp.exchanges import open_source, open_stream
from mdp.simulator.threaded import running_in_thread
from mdp_tests.exchanges.harness import QUICK, EasyBudget, fetch, recent
from mdp_tests.exchanges.streaming import SteadyClock, Watched, address
from mdp_tests.exchanges.wires import NOW, OkxWire, Scripted
from mdp_tests.support.scripted_exchange import ScriptedExchange

HEADER = "x-simulated-trading"


def asked_through(environment: str) -> list[dict[str, str]]:
    """Fetch candles of OKX as an environment does, through a proxy of ours, and return the headers of all requests."""
    wire = OkxWire()
    scripted = Scripted(wire, [])

    async def work() -> list[dict[str, str]]:
        async with ScriptedExchange(scripted) as server:
            own = load_settings(env=environment, exchanges={"okx": {"rest_url": f"{server.url}/okx"}}, simulated=False)
            settings = exchange_settings(own, Exchange.OKX)
            async with open_source(
                Exchange.OKX, settings, clock=lambda: NOW, budget=EasyBudget(), spool=None, waits=QUICK
            ) as source:
                fetched = await source.fetch(wire.market, wire.timeframe, recent(wire, 3))
            assert len(fetched.rows) == 3
            return [dict(request.headers) for request in server.requests]

    return asyncio.run(work())


@pytest.mark.parametrize(("network", "told"), [("paper", "1"), ("real", None)])
def test_every_request_of_paper_trading_says_so_and_no_other_does(monkeypatch, network, told):
    monkeypatch.setenv("MDP_EXCHANGES__NETWORK", network)
    asked = asked_through("local-integration")
    assert asked
    assert {headers.get(HEADER) for headers in asked} == {told}


def test_it_can_be_said_by_a_setting_alone():
    wire = OkxWire()
    for demo, told in ((True, "1"), (False, None)):
        seen = fetch(wire, recent(wire, 3), demo=demo)
        assert {request.headers.get(HEADER) for request in seen.asked} == {told}


@pytest.mark.slow
@pytest.mark.parametrize(("demo", "query"), [(True, "brokerId=9999"), (False, "")])
def test_the_stream_of_demo_trading_is_asked_as_its_own_and_gives_candles(demo, query):
    market = Market.parse("okx:BTC-USDT")
    with running_in_thread(speed=60) as simulator:
        given = {"ws_url": address(simulator.url, "okx"), "demo": demo}
        settings = load_settings(exchanges={"okx": given}).exchanges.okx

        async def work() -> int:
            async with open_stream(Exchange.OKX, settings, clock=SteadyClock()) as stream:
                watched = Watched(stream)
                watched.watch(market.symbol_key)
                await watched.until(lambda: watched.updates)
            await asyncio.gather(*watched.tasks.values(), return_exceptions=True)
            return len(watched.updates)

        assert asyncio.run(work())
        opened = [one for one in simulator.requests("okx") if one.status == 101]
        assert [(one.path, one.query) for one in opened] == [("/okx/ws/v5/business", query)]
