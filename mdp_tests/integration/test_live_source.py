"""The REST source of live trading as it is put together: what it forgets, and how soon it looks again."""

from __future__ import annotations

import asyncio
import time

import pytest

from mdp.config.settings import load_settings
from mdp.errors import ExchangeError, RequestRejected
from mdp.sources import live_source
from mdp_tests.exchanges.harness import recent
from mdp_tests.exchanges.wires import NOW, BinanceWire, Scripted
from mdp_tests.support.scripted_exchange import Reply, ScriptedExchange

pytestmark = pytest.mark.slow

SOON_S = 10.0
"""A circuit that keeps to what suits a backfill looks again after 15 s."""


class Moods:
    """An exchange that answers with a status until it is told to be well."""

    def __init__(self, wire, status, body):
        self.well, self.bad, self.is_well = Scripted(wire, []), Reply(body, status), False

    def __call__(self, request):
        return self.well(request) if self.is_well else self.bad


def asking(tmp_path, moods, wire, scene):
    async def main():
        async with ScriptedExchange(moods) as server:
            exchanges = {wire.exchange.value: {"rest_url": f"{server.url}/{wire.exchange.value}"}}
            settings = load_settings(data_dir=tmp_path, simulated=True, exchanges=exchanges)
            async with live_source(settings, wire.exchange, lambda: NOW) as source:
                await scene(lambda: source.fetch(wire.market, wire.timeframe, recent(wire, 3)))

    asyncio.run(main())


def test_one_refusal_of_the_whole_exchange_is_not_remembered(tmp_path):
    wire = BinanceWire()
    moods = Moods(wire, 451, '{"code":0,"msg":"Service unavailable from a restricted location"}')

    async def scene(fetch):
        with pytest.raises(RequestRejected):
            await fetch()
        moods.is_well = True
        assert (await fetch()).rows.height == 3

    asking(tmp_path, moods, wire, scene)


def test_an_exchange_that_is_back_after_an_outage_is_asked_again_within_seconds(tmp_path):
    wire = BinanceWire()
    moods = Moods(wire, 503, "")

    async def scene(fetch):
        for _ in range(6):  # twelve failures: more than open the circuit
            with pytest.raises(ExchangeError):
                await fetch()
        moods.is_well = True
        began = time.monotonic()
        while time.monotonic() < began + 30:
            try:
                fetched = await fetch()
                break
            except ExchangeError:
                await asyncio.sleep(0.1)
        assert fetched.rows.height == 3
        took_s = time.monotonic() - began
        print(f"noticed after {took_s:.1f} s")
        assert took_s < SOON_S

    asking(tmp_path, moods, wire, scene)
