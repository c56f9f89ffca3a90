from __future__ import annotations

from itertools import pairwise

import pytest

from mdp.config.reference import load_reference
from mdp.domain.market import Market
from mdp.domain.timeframe import Timeframe
from mdp.errors import ConfigError
from mdp_tests.support.builders import at, window

HEADERS = {"markets.csv": "market,first_open_time,source", "known_outages.csv": "exchange,symbol,start,end,source"}


@pytest.fixture
def folder(tmp_path):
    for name, header in HEADERS.items():
        (tmp_path / name).write_text(header + "\n")
    return tmp_path


def add(folder, name, row):
    with (folder / name).open("a") as file:
        file.write(row + "\n")


def test_the_committed_facts_can_be_read_and_lie_on_the_grid():
    reference = load_reference()
    assert reference.listed_at(Market.parse("binance:BTC-USDT")) == at("2017-08-17T04:00")
    assert reference.listed_at(Market.parse("okx:SOL-USDT")) is None
    assert reference.outages
    for outage in reference.outages:
        assert Timeframe.M1.is_on_grid(outage.interval.start)
        assert Timeframe.M1.is_on_grid(outage.interval.end)
        assert not outage.interval.is_empty


def test_an_outage_without_a_symbol_hits_every_market_of_its_exchange(folder):
    add(folder, "known_outages.csv", "binance,,2021-04-25T04:01:00Z,2021-04-25T08:45:00Z,x")
    add(folder, "known_outages.csv", "binance,BTC-USDT,2022-01-01T00:00:00Z,2022-01-01T01:00:00Z,x")
    reference = load_reference(folder)
    everywhere = window("2021-04-25T04:01", "2021-04-25T08:45")
    (outage,) = reference.outages_of(Market.parse("binance:ETH-USDT"))
    assert outage.interval == everywhere
    assert len(reference.outages_of(Market.parse("binance:BTC-USDT"))) == 2
    assert reference.outages_of(Market.parse("okx:BTC-USDT")) == []


def test_what_is_known_of_a_market_names_where_it_is_written(folder):
    add(folder, "markets.csv", "binance:BTC-USDT,2017-08-17T04:00:00Z,a page")
    (folder / "known_outages.csv").write_text(
        "exchange,symbol,start,end,source,note\nbinance,,2021-04-25T04:01:00Z,2021-04-25T08:45:00Z,a notice,roughly\n"
    )
    market = Market.parse("binance:BTC-USDT")
    listing, outage = load_reference(folder).facts_of(market, at("2017-08-17T04:00"))
    assert (listing.interval.end, listing.cause, listing.detail) == (at("2017-08-17T04:00"), "before_listing", "a page")
    assert (outage.cause, outage.detail) == ("exchange_outage", "a notice; roughly")
    assert load_reference(folder).facts_of(market, None) == [outage]


def test_every_committed_outage_names_its_source_and_no_two_of_one_market_overlap():
    outages = sorted(load_reference().outages, key=lambda outage: outage.interval)
    assert all(outage.source for outage in outages)
    assert all(one.interval.end <= two.interval.start for one, two in pairwise(outages))


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("markets.csv", "BTCUSDT,2017-08-17T04:00:00Z,x"),
        ("markets.csv", "binance:BTC-USDT,2017-08-17T04:00:00,x"),
        ("known_outages.csv", "kraken,,2021-01-01,2021-01-02,x"),
        ("known_outages.csv", "binance,,2021-01-02,2021-01-01,x"),
    ],
)
def test_a_fact_that_cannot_be_understood_names_file_and_line(folder, name, row):
    add(folder, name, row)
    with pytest.raises(ConfigError, match=f"{name}, line 2"):
        load_reference(folder)


def test_a_missing_file_is_named(folder):
    (folder / "markets.csv").unlink()
    with pytest.raises(ConfigError, match=r"markets\.csv"):
        load_reference(folder)
