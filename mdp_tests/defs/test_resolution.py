"""The setting that says how long the candles of the index are reaches everything that turns keys into slices."""

from __future__ import annotations

from types import SimpleNamespace

import dagster as dg
import pytest

from mdp.config.settings import load_settings
from mdp.defs.partitions import slices_of
from mdp.defs.resources import platform_resources
from mdp.domain.timeframe import Timeframe
from mdp.ports import DVOL as DVOL_TABLE
from mdp.ports import Slice
from mdp.storage.memory import MemoryStore
from mdp_tests.support.builders import DVOL, window

KEY = "BTC|2024-12-30"


@pytest.mark.parametrize("length", [Timeframe.H1, Timeframe.M1])
def test_keys_of_an_index_become_slices_of_the_length_of_its_candles(length):
    (part,) = slices_of([KEY], index_timeframe=length)
    assert (part.market, part.timeframes) == (DVOL, (length,))
    (part,) = slices_of(["2024-12-30|binance:BTC-USDT"], index_timeframe=length)
    assert part.timeframes == (Timeframe.M1,)


def test_the_index_is_collected_judged_and_checked_by_the_minute_where_so_set(platform):
    platform.settings = load_settings(dvol={"resolution": "1m"})
    result = platform.run(KEY, job="dvol_job")
    assert result.success
    assert [asked[1] for asked in platform.exchanges.asked] == [Timeframe.M1]
    minutes = platform.store.read(DVOL_TABLE, Slice(DVOL, (Timeframe.M1,), window("2024-12-30", "2024-12-31")))
    assert (len(minutes), minutes["age_minutes"].max()) == (1440, 0)
    evaluated = {one.asset_key.to_user_string(): one.passed for one in result.get_asset_check_evaluations()}
    assert evaluated == {"raw_dvol": True, "dvol": True}


@pytest.mark.parametrize("length", [Timeframe.H1, Timeframe.M1])
def test_the_store_of_the_environment_is_read_at_the_set_length(length):
    settings = load_settings(dvol={"resolution": length.value})
    resources = {"store": MemoryStore(), "io_manager": platform_resources(settings)["io_manager"]}
    asked = SimpleNamespace(asset_partition_keys=[KEY], step_context=SimpleNamespace(run_id="a run"))
    with dg.build_resources(resources) as built:
        (part,) = built.io_manager.load_input(asked).parts
    assert part.timeframes == (length,)
