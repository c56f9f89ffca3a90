"""The page of the live buffers in a browser: the switch is where people look for it, and shows what happens."""

from __future__ import annotations

import pytest

from mdp_tests.integration.test_live_run import running_house

pytestmark = [pytest.mark.slow, pytest.mark.browser, pytest.mark.timeout(300)]

MARKETS = ("binance:BTC-USDT", "deribit:BTC-DVOL")


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    with running_house(tmp_path_factory.mktemp("page"), markets=MARKETS) as running:
        yield running


@pytest.fixture(scope="module")
def page(house):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium",
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"],
        )
        yield browser.new_page(viewport={"width": 1900, "height": 1200})
        browser.close()


def test_switched_on_in_the_page_the_buffers_show_what_was_stored(house, page):
    shots = house.workplace.data_dir
    page.goto(f"{house.ui_url}/locations/mdp/sensors/live_sensor", wait_until="networkidle")
    page.get_by_text("Turned ON: buffers of all markets are kept").first.wait_for(timeout=30_000)
    page.screenshot(path=str(shots / "sensor-off.png"))
    page.locator("input[type=checkbox]").first.dispatch_event("click")  # the box itself is hidden under its picture
    run_id, _ = house.wait("the first flush", house.is_flushing, 90)
    page.goto(f"{house.ui_url}/assets/live_buffers?view=events", wait_until="networkidle")
    page.get_by_text("feeds", exact=True).first.wait_for(timeout=30_000)
    page.wait_for_timeout(1_000)
    page.screenshot(path=str(shots / "buffers.png"))
    page.goto(f"{house.ui_url}/runs/{run_id}", wait_until="networkidle")
    page.wait_for_timeout(1_000)
    page.screenshot(path=str(shots / "run.png"))
    house.turn_off()
    house.wait("its end", lambda: [one for one in house.runs("SUCCESS") if one["runId"] == run_id])
