"""What people see of the coverage in Dagster: sums by market, a picture of the days, what was not collected."""

from __future__ import annotations

import base64
import io

from PIL import Image

from mdp.counts.counting import COUNTS
from mdp.defs.metadata import coverage_metadata, tell_coverage
from mdp.pipeline.failed_days import FailedDays
from mdp_tests.pipeline.test_heat_map import OTHER, report
from mdp_tests.support.builders import MARKET, NOW, window


def test_the_sums_of_each_market_stand_beside_a_picture_of_its_days():
    one = FailedDays(OTHER, window("2024-12-27", "2024-12-29"), "RateLimited", "429", True, 3, NOW)
    found = coverage_metadata(
        [report({}, {"unknown": 40, "permanent": 30, "idle": 7}), report(market=OTHER, failed=[one])]
    )
    first, second = (record.data for record in found["coverage"].records)
    assert (first["market"], first["first_day"], first["last_day"]) == (str(MARKET), "2024-12-27", "2024-12-28")
    assert {name: first[name] for name in ("expected", "present", "idle", "unknown", "permanent")} == {
        "expected": 2880, "present": 2840, "idle": 7, "unknown": 40, "permanent": 30
    }  # fmt: skip
    assert (second["expected"], second["first_day"], second["days_not_collected"]) == (0, "", 2)
    assert [record.data["market"] for record in found["not collected"].records] == [str(OTHER)]
    assert found["dagster/row_count"] == 2
    head, _, body = found["heat map"].md_str.partition("base64,")
    assert head == "![coverage by market and day](data:image/png;"
    with Image.open(io.BytesIO(base64.b64decode(body.removesuffix(")")))) as picture:
        assert (picture.format, picture.width) == ("PNG", 1040)


def test_prometheus_is_told_apart_what_is_unknown_and_what_nobody_can_give_any_more():
    COUNTS.take()
    tell_coverage([report({}, {"unknown": 40, "permanent": 30, "exchange_outage": 5})], NOW)
    told = COUNTS.take().levels
    causes = ("unknown", "permanent", "exchange_outage", "unfetched")
    assert [told["mdp_missing_candles", str(MARKET), cause] for cause in causes] == [10, 30, 5, 0]


def test_where_nothing_is_known_there_is_no_picture():
    assert "heat map" not in coverage_metadata([report()])
