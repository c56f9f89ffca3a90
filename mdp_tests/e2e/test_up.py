"""What ``make up`` starts, a backfill launched as the UI launches it, the page itself, and Ctrl-C."""

from __future__ import annotations

import json
import time

import httpx
import pytest

from mdp_tests.e2e.conftest import interrupt, start_up

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

LAYERS = ("raw_ohlcv", "ohlcv", "ohlcv_resampled")
RECTANGLE = [f"2025-02-0{day}|{market}" for day in (1, 2, 3) for market in ("binance:ETH-USDT", "okx:BTC-USDT")]

LAUNCH = """
mutation Launch($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
  }
}"""
BACKFILL = """
query Backfill($id: String!) {
  partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { status numPartitions error { message } } }
}"""
RUNS = """
query Runs($statuses: [RunStatus!]) {
  runsOrError(filter: {statuses: $statuses}) { ... on Runs { results { runId status } } }
}"""
STATUSES = """
query Statuses($asset: AssetKeyInput!) {
  assetNodeOrError(assetKey: $asset) {
    ... on AssetNode {
      partitionStats { numMaterialized numFailed numMaterializing }
      assetPartitionStatuses {
        ... on MultiPartitionStatuses {
          ranges { primaryDimStartKey primaryDimEndKey
            secondaryDim { ... on DefaultPartitionStatuses { materializedPartitions failedPartitions } } }
        }
      }
      assetChecksOrError {
        ... on AssetChecks {
          checks {
            name
            partitionStatuses {
              ... on AssetCheckMultiPartitionStatuses {
                ranges { primaryDimStartKey primaryDimEndKey
                  secondaryDim { ... on AssetCheckDefaultPartitionStatuses {
                    succeededPartitions failedPartitions skippedPartitions } } }
              }
            }
          }
        }
      }
    }
  }
}"""


def start_backfill(up, assets, partitions):
    """Launch a backfill of some assets over some partitions, as the materialize dialog does."""
    params = {"assetSelection": [{"path": [asset]} for asset in assets], "partitionNames": partitions, "tags": []}
    launched = up.graphql(LAUNCH, params=params)["launchPartitionBackfill"]
    assert launched["__typename"] == "LaunchBackfillSuccess", launched
    return launched["backfillId"]


def launch(up, assets, partitions):
    """Launch a backfill and wait for its end."""
    backfill = start_backfill(up, assets, partitions)
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        state = up.graphql(BACKFILL, id=backfill)["partitionBackfillOrError"]
        if state["status"] not in ("REQUESTED", "CANCELING"):
            return state["status"], state["error"]
        time.sleep(1)
    raise AssertionError(f"the backfill did not end: {state}")


def runs_with(up, *statuses):
    """The ids of the runs that have one of these statuses."""
    return {run["runId"] for run in up.graphql(RUNS, statuses=statuses)["runsOrError"]["results"]}


def ranges(statuses, *lists):
    """Flatten ranges of two dimensions into lists of (first day, last day, market)."""
    return [
        sorted(
            (part["primaryDimStartKey"], part["primaryDimEndKey"], market)
            for part in statuses["ranges"]
            for market in part["secondaryDim"][name]
        )
        for name in lists
    ]


def test_it_says_where_to_look_and_everything_is_there(up, capsys):
    with capsys.disabled():  # a figure to read, not to judge: how busy the machine is, no test can know
        print(f"\nmdp up: first candles after {up.first_candles_s:.1f} s, everything after {up.seconds:.1f} s")
    assert up.text.index(up.api_url) < up.text.index(up.ui_url), "what people look at first comes first"
    assert "read binance:BTC-USDT 1h" in up.text
    rows = json.loads(up.workplace.run("coverage", "--json").stdout)
    assert len(rows) == 11
    assert all((row["days"], row["coverage"], row["missing"]) == (14, 1.0, {}) for row in rows)


def test_page_and_api_are_there_with_the_collected_candles_and_know_where_dagster_is(up):
    with httpx.Client(base_url=up.api_url, timeout=60, trust_env=False) as asking:
        assert asking.get("/").headers["content-type"].startswith("text/html")
        assert asking.get("/api/v1/service").json()["dagster_url"] == up.ui_url
        window = {"timeframe": "1h", "start": "2024-12-30", "end": "2024-12-31"}
        assert len(asking.get("/api/v1/market-data/okx/ETH-USDT/history", params=window).json()["rows"]) == 24


def test_the_first_line_is_for_people(up):
    assert up.text.startswith("Collecting 11 markets")


def test_the_backfill_of_the_command_line_is_green_in_the_page(up):
    node = up.graphql(STATUSES, asset={"path": ["ohlcv"]})["assetNodeOrError"]
    (materialized,) = ranges(node["assetPartitionStatuses"], "materializedPartitions")
    assert ("2024-12-25", "2025-01-07", "binance:BTC-USDT") in materialized


def test_a_rectangle_launched_from_the_page_ends_with_every_partition_and_check_right(up):
    assert launch(up, LAYERS, RECTANGLE) == ("COMPLETED_SUCCESS", None)
    expected = [("2025-02-01", "2025-02-03", market) for market in ("binance:ETH-USDT", "okx:BTC-USDT")]
    for asset in LAYERS:
        node = up.graphql(STATUSES, asset={"path": [asset]})["assetNodeOrError"]
        materialized, failed = ranges(node["assetPartitionStatuses"], "materializedPartitions", "failedPartitions")
        assert [part for part in materialized if part[0] == "2025-02-01"] == expected
        assert failed == []
        assert node["partitionStats"]["numMaterializing"] == 0
        (check,) = [check for check in node["assetChecksOrError"]["checks"] if check["name"] == "integrity"]
        succeeded, failed, skipped = ranges(
            check["partitionStatuses"], "succeededPartitions", "failedPartitions", "skippedPartitions"
        )
        assert [part for part in succeeded if part[0] == "2025-02-01"] == expected
        assert (failed, skipped) == ([], [])
    for market in ("binance:ETH-USDT", "okx:BTC-USDT"):
        result = up.workplace.run("read", market, "1d", "--start", "2025-02-01", "--end", "2025-02-04", "-f", "json")
        assert [row["minutes"] for row in json.loads(result.stdout)] == [1440] * 3


def test_one_partition_launched_from_the_page_is_one_run(up):
    assert launch(up, ("raw_dvol", "dvol"), ["BTC|2025-02-01"]) == ("COMPLETED_SUCCESS", None)
    node = up.graphql(STATUSES, asset={"path": ["dvol"]})["assetNodeOrError"]
    assert node["partitionStats"]["numMaterialized"] == 2 * 14 + 1


def test_a_second_up_in_the_same_place_says_that_it_is_running(up):
    second = up.workplace.run("up")
    assert second.returncode == 0
    assert f"already running: {up.api_url}" in second.stdout


@pytest.mark.browser
def test_the_lineage_shows_every_asset(up):
    from playwright.sync_api import sync_playwright

    groups = ("exchanges", "raw", "validated", "resampled", "reports")
    expanded = ",".join(f"global@global:{group}" for group in groups)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium",
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"],
        )
        page = browser.new_page(viewport={"width": 1900, "height": 1000})
        page.goto(f"{up.ui_url}/asset-groups?expanded={expanded}", wait_until="networkidle")
        page.get_by_text("Hide navigation").click()
        page.reload(wait_until="networkidle")  # fits the graph to the window anew
        for asset in ("binance", "bybit", "okx", "deribit", *LAYERS, "raw_dvol", "dvol", "market_coverage"):
            page.get_by_text(asset, exact=True).last.wait_for(timeout=30_000, state="attached")
        page.wait_for_timeout(3000)
        page.screenshot(path=str(up.workplace.data_dir / "lineage.png"))
        browser.close()


def test_interrupted_it_stops_all_it_started_and_starts_again_without_redoing(up):
    # Last in the file: it ends the shared one, while a run that the page launched is at work.
    workers = set((up.workplace.data_dir / "log").glob("backfill-*"))
    start_backfill(up, LAYERS, [f"2024-03-{day:02}|okx:ETH-USDT" for day in range(1, 31)])
    while not (running := runs_with(up, "STARTED")):
        time.sleep(0.2)
    assert interrupt(up) == (0, [])
    again = start_up(up.workplace.data_dir)
    try:
        assert set((up.workplace.data_dir / "log").glob("backfill-*")) == workers, "nothing is collected again"
        assert not running & runs_with(again, "STARTING", "STARTED", "CANCELING"), "no run outlives its process"
        assert running <= runs_with(again, "FAILURE", "CANCELED")
    finally:
        assert interrupt(again) == (0, [])
