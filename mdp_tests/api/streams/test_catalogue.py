"""A pattern means the topics there are, and nothing grows with what is asked for."""

from __future__ import annotations

import pytest

from mdp.api.mirror import Mirror
from mdp.api.streams.catalogue import Catalogue, UnknownTopic
from mdp.config.settings import load_settings


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
