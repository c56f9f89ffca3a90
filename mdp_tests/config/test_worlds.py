"""Candles of two markets never meet in one data directory."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from mdp.config.settings import load_settings
from mdp.config.worlds import _note, claim_data_dir, world_file
from mdp.domain.market import Exchange
from mdp.errors import ConfigError
from mdp.sources import live_source, source_opener, utc_now


def settings_of(folder, *, world: str, **given):
    chosen = {"simulated": True} if world == "simulated" else {"simulated": False, "exchanges": {"network": world}}
    return load_settings(data_dir=folder, **chosen, **given)


@pytest.mark.parametrize("first", ["simulated", "real", "paper"])
@pytest.mark.parametrize("then", ["simulated", "real", "paper"])
def test_a_directory_keeps_to_the_market_it_began_with(tmp_path, first, then):
    folder = tmp_path / "data"
    claim_data_dir(settings_of(folder, world=first))
    if first == then:
        claim_data_dir(settings_of(folder, world=then))
        return
    with pytest.raises(ConfigError, match=f"candles of {then} exchanges .* holds those of {first} ones") as error:
        claim_data_dir(settings_of(folder, world=then))
    assert error.value.setting == "MDP_DATA_DIR"
    assert [path.name for path in folder.iterdir()] == ["world.txt"]


def test_it_is_noted_before_any_exchange_is_asked(tmp_path):
    made_up = settings_of(tmp_path, world="simulated")
    source_opener(made_up, utc_now)(Exchange.BINANCE)
    assert world_file(made_up).read_text() == "simulated\n"
    real = settings_of(tmp_path, world="real")
    with pytest.raises(ConfigError, match="MDP_DATA_DIR"):
        source_opener(real, utc_now)(Exchange.BINANCE)
    with pytest.raises(ConfigError, match="MDP_DATA_DIR"):
        live_source(real, Exchange.BINANCE, utc_now)


def test_of_many_who_begin_at_once_one_decides(tmp_path):
    def claim(number: int) -> str:
        world = ("simulated", "real")[number % 2]
        try:
            claim_data_dir(settings_of(tmp_path / "data", world=world))
        except ConfigError:
            return "refused"
        return world

    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(claim, range(16)))
    assert found in ({"simulated", "refused"}, {"real", "refused"})


def test_threads_of_one_process_that_begin_at_once_are_none_of_them_refused(tmp_path):
    """``mdp doctor`` asks all exchanges at once; threads that share an unfinished file take it from each other."""
    threads = 8

    def claim(folder, together) -> None:
        settings = settings_of(folder, world="simulated")
        together.wait()
        claim_data_dir(settings)

    with ThreadPoolExecutor(threads) as pool:
        for place in (tmp_path / str(number) for number in range(50)):
            together = Barrier(threads, timeout=60)
            for claimed in [pool.submit(claim, place, together) for _ in range(threads)]:
                claimed.result()
            assert [one.name for one in place.iterdir()] == ["world.txt"]


def test_whoever_comes_an_instant_later_does_not_overwrite_what_was_noted(tmp_path):
    path = tmp_path / "world.txt"
    assert _note(path, "simulated") == "simulated"
    assert _note(path, "real") == "simulated"
    assert [one.name for one in tmp_path.iterdir()] == ["world.txt"]


def test_a_directory_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        ConfigError, match=r"MDP_DATA_DIR: expected a directory that can be written \(Not a directory\)"
    ):
        claim_data_dir(settings_of(tmp_path / "file" / "data", world="real"))


def test_where_the_store_is_central_the_dataset_tells_them_apart(tmp_path):
    claim_data_dir(settings_of(tmp_path, world="real", store="bigquery"))
    assert list(tmp_path.iterdir()) == []
