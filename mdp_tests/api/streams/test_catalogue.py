"""A pattern means the topics there are, and nothing grows with what is asked for."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from mdp.api.mirror import Mirror
from mdp.api.streams.catalogue import Catalogue, UnknownTopic
from mdp.api.streams.sources import tell_feeds, tell_generations
from mdp.bus.topics import GenerationMessage
from mdp.config.settings import load_settings
from mdp.errors import BusUnavailable
from mdp.ports.live import Message

AT = "2026-01-01T00:00:00.000000Z"


@pytest.fixture
def mirror(tmp_path):
    return Mirror(load_settings(data_dir=tmp_path, simulated=True, markets=("binance:BTC-USDT", "okx:BTC-USDT")), None)


def test_a_star_stands_for_one_whole_part(mirror):
    catalogue = Catalogue(mirror, is_live=True)
    found = {pattern: [topic.name for topic in catalogue.find(pattern)] for pattern in ("candles.*.*.1m", "feeds.*")}
    assert found == {
        "candles.*.*.1m": ["candles.binance.BTC-USDT.1m", "candles.okx.BTC-USDT.1m"],
        "feeds.*": ["feeds.binance", "feeds.okx"],
    }
    assert len(catalogue.find("*.binance.BTC-USDT.*")) == 12
    assert catalogue.find("generation.*") == []


def test_in_a_backtest_there_are_no_buffers_to_hear_and_that_is_said(mirror):
    with pytest.raises(UnknownTopic, match="mode backtest"):
        Catalogue(mirror, is_live=False).find("candles.binance.BTC-USDT.1m")


def test_generations_that_were_only_asked_for_are_forgotten_and_those_heard_are_kept(mirror):
    catalogue = Catalogue(mirror, is_live=True)
    [heard] = catalogue.find("generation.first")
    heard.listeners.add(object())
    for number in range(2_000):
        catalogue.find(f"generation.g{number}")
    assert len(catalogue.find("generation.*")) == 1_000
    assert catalogue.find("generation.first") == [heard]


class SpeakingBus:
    """A bus that says of a generation that it runs, of no feed anything, and then breaks, or nothing more."""

    def __init__(self, *, breaks):
        self.breaks = breaks

    async def told(self, prefix):
        return {}

    async def subscribe(self, pattern):
        told = GenerationMessage("one", "running", "binance", "BTC-USDT", AT, AT, 10, 3, "", AT)
        yield Message("generation.one", msgspec.json.encode(told))
        if self.breaks:
            raise BusUnavailable("away")
        await asyncio.sleep(60)


@pytest.mark.parametrize("breaks", [True, False], ids=["the bus breaks off", "nobody listens any more"])
def test_a_state_is_forgotten_when_its_news_are_not_heard_any_more(mirror, breaks):
    catalogue = Catalogue(mirror, is_live=True)
    [generation], [feed] = catalogue.find("generation.one"), catalogue.find("feeds.okx")
    bus, heard = SpeakingBus(breaks=breaks), []

    async def work():
        tasks = [
            asyncio.create_task(tell_generations(bus, catalogue, lambda topic: heard.append(topic.whole()))),
            asyncio.create_task(tell_feeds(bus, catalogue)),
        ]
        await asyncio.sleep(0.1)
        assert (generation.whole() is None) is breaks
        assert feed.whole() is not None
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    asyncio.run(work())
    assert b"running" in heard[0].text
    assert (generation.whole(), feed.whole()) == (None, None), "the next who asks would take it for the present"
