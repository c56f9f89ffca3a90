"""The line that backfills share: how fast it lets them, what an exchange leaves to others, what survives."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from mdp.bus.bandwidth import BURST_S, SharedBandwidth, open_bandwidth
from mdp.config.settings import load_settings
from mdp.domain.market import Exchange
from mdp.errors import ConfigError

RATE = 1_000_000.0


def line(path, exchange=Exchange.BINANCE, *, rate=RATE, share=1.0):
    return SharedBandwidth(path / "line", exchange, rate, share)


def begins_in_s(bandwidth):
    """In how many seconds what is reserved now may be received, as long as nothing else is reserved."""
    return min(bandwidth._book(place, 0) for place in (bandwidth._place, 0)), max(
        bandwidth._book(place, 0) for place in (bandwidth._place, 0)
    )


async def receive(bandwidth, size, times):
    for _ in range(times):
        await bandwidth.reserve(size)


def test_two_who_share_a_line_receive_no_more_than_it_carries(tmp_path):
    async def both():
        began = time.monotonic()
        await asyncio.gather(*(receive(line(tmp_path), 10_000, 12) for _ in range(2)))
        return time.monotonic() - began

    # the last of them begins when all others have been received
    assert asyncio.run(both()) >= 23 * 10_000 / RATE - BURST_S


def test_what_was_not_used_may_be_used_later_but_not_for_long(tmp_path):
    bandwidth = line(tmp_path)
    assert asyncio.run(bandwidth.reserve(int(RATE * BURST_S))) == 0.0
    bandwidth.charge(int(RATE))
    assert 0.9 < begins_in_s(bandwidth)[0] <= 1.0


def test_who_comes_first_is_served_first(tmp_path):
    order = []

    async def one(bandwidth, name):
        await bandwidth.reserve(5_000)
        order.append(name)

    async def all_of_them():
        mine, theirs = line(tmp_path), line(tmp_path)
        mine.charge(int(RATE * 0.15))
        await asyncio.gather(*(one((mine, theirs)[number % 2], number) for number in range(6)))

    asyncio.run(all_of_them())
    assert order == [*range(6)]


def test_an_exchange_that_used_its_share_does_not_keep_the_others_waiting(tmp_path):
    full, other = line(tmp_path, share=0.25), line(tmp_path, Exchange.OKX, share=0.25)
    asyncio.run(full.reserve(10_000))
    full.charge(240_000)
    assert full._book(full._place, 0) > 0.9 - BURST_S, "a quarter of the line carries it in a second"
    assert full._book(0, 0) < 0.3, "and the whole line in a quarter of one"
    other.charge(0)
    assert other._book(other._place, 0) <= 0


def test_all_exchanges_together_stay_within_the_line(tmp_path):
    lines = [line(tmp_path, exchange, share=0.5) for exchange in Exchange]
    for one in lines:
        one.charge(100_000)
    assert 0.29 - BURST_S < lines[0]._book(0, 0) <= 0.4


def test_what_was_reserved_and_did_not_come_is_given_back(tmp_path):
    bandwidth = line(tmp_path)
    asyncio.run(bandwidth.reserve(50_000))
    bandwidth.charge(900_000)
    bandwidth.charge(-900_000)
    assert begins_in_s(bandwidth)[1] <= 0.05


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_whoever_gives_up_waiting_gives_back_what_it_reserved(tmp_path, share):
    bandwidth = line(tmp_path, share=share)
    bandwidth.charge(500_000)
    before = begins_in_s(bandwidth)[1]

    async def give_up():
        async with asyncio.timeout(0.02):
            await bandwidth.reserve(300_000)

    with pytest.raises(TimeoutError):
        asyncio.run(give_up())
    assert begins_in_s(bandwidth)[1] <= before


@pytest.mark.parametrize("content", [b"", b"half of it", b"\xff" * 40, b"\x7e" * 40, b"\x00" * 10_000])
def test_a_file_that_cannot_be_read_counts_as_an_empty_line(tmp_path, content):
    (tmp_path / "line").write_bytes(content)
    bandwidth = line(tmp_path)
    assert asyncio.run(bandwidth.reserve(1_000)) == 0.0
    bandwidth.charge(int(RATE))
    assert 0.9 - BURST_S < begins_in_s(bandwidth)[0] <= 1.1


def test_without_a_limit_there_is_no_line_and_no_file(tmp_path):
    assert open_bandwidth(load_settings(data_dir=tmp_path), Exchange.OKX) is None
    assert not list(tmp_path.iterdir())


def test_the_settings_say_how_much_the_line_carries(tmp_path):
    exchanges = {"bandwidth_mbit": 8, "okx": {"bandwidth_share": 0.5}}
    settings = load_settings(data_dir=tmp_path, exchanges=exchanges)
    okx, bybit = (open_bandwidth(settings, exchange) for exchange in (Exchange.OKX, Exchange.BYBIT))
    okx.charge(1_000_000)
    assert 1.9 - BURST_S < okx._book(okx._place, 0) <= 2.0
    assert 0.9 - BURST_S < bybit._book(0, 0) <= 1.0, "they share the line"


def test_a_line_that_cannot_be_kept_is_an_error_that_names_the_setting(tmp_path):
    (tmp_path / "run").write_text("a file where a folder should be")
    settings = load_settings(data_dir=tmp_path, exchanges={"bandwidth_mbit": 8})
    with pytest.raises(ConfigError, match="MDP_DATA_DIR"):
        open_bandwidth(settings, Exchange.OKX)


def test_a_line_keeps_no_file_open_that_nobody_uses(tmp_path):
    before = len([*Path("/proc/self/fd").iterdir()])
    for _ in range(20):
        line(tmp_path).charge(1)
    assert len([*Path("/proc/self/fd").iterdir()]) <= before + 1
