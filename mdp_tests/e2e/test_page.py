"""The page in a real browser, over a real service, bus and lake: what people see, and that it keeps up."""

from __future__ import annotations

import json
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from mdp.domain.live import CandleState
from mdp_tests.e2e.page_stage import DAGSTER_URL, MINUTE, live, running_stage

pytestmark = [pytest.mark.slow, pytest.mark.browser, pytest.mark.timeout(180)]

MARKETS = ("binance:BTC-USDT", "okx:ETH-USDT", "deribit:BTC-DVOL")
BTC = MARKETS[0]
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
SUMMARY = "() => JSON.stringify(mdpPage.chart.summary())"


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    with running_stage(tmp_path_factory.mktemp("page"), MARKETS, days=4) as running:
        yield running


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=ARGUMENTS)
        yield running
        running.close()


@contextmanager
def opened(browser, stage, path=f"/#{BTC}/1m", *, prepare=lambda page: None, state="live", **context):
    """A page that is live, with what went wrong in it and what it asked for."""
    with browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **context}) as own:
        page = own.new_page()
        page.wrong, page.asked = [], []
        page.on("console", lambda told: page.wrong.append(told.text) if told.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: page.wrong.append(str(error)))
        page.on("request", lambda request: page.asked.append(request.url))
        page.on("websocket", lambda socket: page.asked.append(socket.url.replace("ws:", "http:")))
        prepare(page)
        page.goto(stage.url + path)
        if path.startswith("/#"):
            wait_for_state(page, state)
            page.wait_for_function("() => window.mdpPage?.chart.summary().candles > 0")
        yield page


def wait_for_state(page, *states, within_s=20):
    wanted = " || ".join(f"state === '{state}'" for state in states)
    expression = f"() => {{ const state = document.querySelector('#connection').dataset.state; return {wanted}; }}"
    page.wait_for_function(expression, timeout=within_s * 1000)


def summary(page):
    return json.loads(page.evaluate(SUMMARY))


def wait_for_close(page, close):
    page.wait_for_function(f"() => window.mdpPage?.chart.summary().last?.close === {close}", timeout=15_000)


def test_it_shows_candles_and_asks_nobody_else(browser, stage):
    with opened(browser, stage) as page:
        shown = summary(page)
        assert shown["candles"] > 400
        assert shown["last"]["close"] == stage.keeper.last_close(BTC)
        page.wait_for_function("() => window.mdpPage?.chart.summary().index > 400")
        page.wait_for_selector("#feeds td")
        page.locator("#map-names div").first.wait_for(state="attached")
        assert page.get_by_role("link", name="TradingView Lightweight Charts").is_visible()
        assert {url.split("/")[2] for url in page.asked} == {stage.url.split("/")[2]}
        assert page.wrong == []


def test_a_gap_stays_a_gap_and_older_candles_come_as_one_scrolls(browser, stage):
    with opened(browser, stage) as page:
        before = summary(page)
        assert before["missing"] == 17
        for _ in range(80):
            page.keyboard.press("ArrowLeft")
        page.wait_for_function(f"() => window.mdpPage?.chart.summary().candles > {before['candles'] + 400}")
        assert summary(page)["first"]["time"] < before["first"]["time"]
        page.keyboard.press("End")


def test_keys_that_are_pressed_faster_than_the_page_draws_add_up(browser, stage):
    end = "mdpPage.chart.chart.timeScale().getVisibleLogicalRange().to"
    width = f"{end} - mdpPage.chart.chart.timeScale().getVisibleLogicalRange().from"
    with opened(browser, stage) as page:
        newest, wide = page.evaluate(f"() => [{end}, {width}]")
        page.evaluate("() => { for (let n = 0; n < 20; n++) mdpPage.chart.scroll(-12); }")
        page.wait_for_function(f"() => Math.abs({end} - {newest - 240}) < 2")
        page.evaluate("() => { for (let n = 0; n < 3; n++) mdpPage.chart.zoom(1.25); }")
        page.wait_for_function(f"() => Math.abs({width} - {wide / 1.25**3}) < 2")
        page.evaluate("() => { mdpPage.chart.scroll(-12); mdpPage.chart.newest(); }")
        page.wait_for_function(f"() => Math.abs({end} - {newest}) < 2")


def test_a_change_on_the_bus_is_shown_with_its_state(browser, stage):
    with opened(browser, stage) as page:
        opens, first = stage.keeper.until, stage.keeper.last_close(BTC)
        for step, state in enumerate((CandleState.FORMING, CandleState.CLOSED, CandleState.CORRECTED), 1):
            close = round(first * (1 + step / 10_000), 2)
            stage.keeper.publish(BTC, live(opens, close, state))
            wait_for_close(page, close)
            assert page.locator("#legend .tag").text_content().startswith(state.value)
            assert f"{close:,.2f}" in page.locator("#last").text_content()


def test_it_goes_live_again_when_the_service_comes_back_without_a_reload(browser, stage):
    with opened(browser, stage) as page:
        page.evaluate("() => { window.isTheSame = true; }")
        stage.stop()
        wait_for_state(page, "reconnecting")
        assert "reconnecting" in page.locator("#connection").text_content()
        close = round(stage.keeper.last_close(BTC) * 1.002, 2)
        stage.keeper.publish(BTC, live(stage.keeper.until + MINUTE, close, CandleState.FORMING))
        stage.start()
        wait_for_state(page, "live", within_s=30)
        wait_for_close(page, close)
        assert page.evaluate("() => window.isTheSame")


def test_where_no_websocket_comes_through_events_keep_it_live(browser, stage):
    def cut(page):
        page.route_web_socket("**/api/v1/stream", lambda socket: socket.close())

    with opened(browser, stage, prepare=cut, state="fallback") as page:
        close = round(stage.keeper.last_close(BTC) * 1.003, 2)
        stage.keeper.publish(BTC, live(stage.keeper.until + 2 * MINUTE, close, CandleState.FORMING))
        wait_for_close(page, close)
        page.keyboard.press("2")
        page.wait_for_function(
            "() => window.mdpPage?.choice.timeframe === '5m' && mdpPage.chart.summary().candles > 100"
        )
        wait_for_state(page, "fallback")


def test_a_cell_of_the_map_tells_the_gaps_of_its_day_and_leads_to_dagster(browser, stage):
    with opened(browser, stage) as page:
        day = (stage.keeper.until - timedelta(days=1)).date().isoformat()
        page.locator("#period option").first.wait_for(state="attached")
        page.locator("#map-names div").first.wait_for(state="attached")
        page.locator("#map").focus()
        for _ in range(2):
            page.keyboard.press("ArrowRight")
        assert f"{BTC}, {day}: 1,423 of 1,440 minutes" in page.locator("#map-said").text_content()
        box = page.locator("#map").bounding_box()
        page.mouse.click(box["x"] + box["width"] - 10, box["y"] + 30)
        panel = page.locator("#day")
        panel.get_by_text("Gaps: 1, 17 minutes").wait_for()
        address = panel.get_by_role("link", name="Dagster").get_attribute("href")
        assert address == f"{DAGSTER_URL}/assets/ohlcv?view=partitions&partition={day}%7Cbinance%3ABTC-USDT"
        page.keyboard.press("Escape")
        assert panel.is_hidden()
        page.locator("#map").focus()
        page.keyboard.press("Enter")
        panel.get_by_text("Gaps: 1, 17 minutes").wait_for()
        assert page.wrong == []


def test_the_month_that_goes_on_is_told_of_as_far_as_it_is_over(browser, stage):
    with opened(browser, stage) as page:
        month = (stage.keeper.until - timedelta(days=1)).date().replace(day=1).isoformat()
        page.evaluate(
            """async (month) => {
                const main = document.querySelector('script[src$="/main.js"]').src;
                const { DayPanel } = await import(main.replace("main.js", "day-panel.js"));
                await new DayPanel(() => {}, null).open("binance:BTC-USDT", month, "month");
            }""",
            month,
        )
        panel = page.locator("#day")
        panel.locator("code").wait_for()
        assert "ingested_at" not in panel.text_content(), "when a candle came is nothing that an exchange changed"
        over = datetime.now(UTC).date().isoformat()
        assert page.evaluate("() => document.querySelector('#day code').textContent").split("--end ")[1] <= over
        assert page.wrong == []


def test_keys_switch_market_and_timeframe_and_the_address_keeps_the_choice(browser, stage):
    with opened(browser, stage) as page:
        page.keyboard.press("ArrowDown")
        page.keyboard.press("4")
        page.wait_for_function("() => location.hash === '#okx:ETH-USDT/1h'")
        page.wait_for_function("() => window.mdpPage?.chart.summary().candles === 97")
        page.reload()
        page.wait_for_function("() => window.mdpPage?.chart.summary().candles === 97")
        assert page.locator("#market").input_value() == "okx:ETH-USDT"
        assert page.get_by_role("radio", name="1h").get_attribute("aria-checked") == "true"
        page.keyboard.press("?")
        assert page.locator("#help-dialog").is_visible()
        page.keyboard.press("Escape")
        page.keyboard.press("ArrowDown")
        page.wait_for_function("() => location.hash === '#deribit:BTC-DVOL/1h'")
        page.wait_for_function("() => window.mdpPage?.chart.summary().candles >= 96")
        assert page.wrong == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_screen_shows_all_without_scrolling_sideways(browser, stage, scheme):
    with opened(browser, stage, viewport={"width": 360, "height": 740}, color_scheme=scheme) as page:
        page.wait_for_selector("#feeds td")
        assert page.evaluate("() => document.documentElement.scrollWidth") == 360
        paper = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
        lightness = sum(map(int, paper.removeprefix("rgb(").removesuffix(")").split(",")))
        assert (lightness < 120) == (scheme == "dark")
        page.get_by_role("button", name="Switch between light and dark").click()
        assert page.evaluate("() => getComputedStyle(document.body).backgroundColor") != paper


def test_the_reference_shows_every_route_and_asks_it(browser, stage):
    with opened(browser, stage, "/docs") as page:
        entry = page.locator("details", has_text="/buffer/{timeframe}")
        entry.locator("summary").click()
        for name, value in (("exchange", "binance"), ("symbol", "BTC-USDT"), ("timeframe", "1m")):
            entry.locator(f"input[name={name}]").fill(value)
        entry.get_by_role("button", name="Ask").click()
        entry.locator("form pre", has_text='"seq"').wait_for()
        page.set_viewport_size({"width": 360, "height": 740})
        assert page.evaluate("() => document.documentElement.scrollWidth") == 360
        assert page.wrong == []


def test_where_a_key_is_needed_the_page_asks_for_it_once(browser, stage):
    with stage.with_keys() as (guarded, key), opened(browser, guarded, "/") as page:
        dialog = page.locator("#key-dialog")
        dialog.wait_for()
        page.locator("#key").fill("mdp_000000000000_" + "x" * 43)
        page.get_by_role("button", name="Use this key").click()
        page.wait_for_function("() => document.querySelector('#key-problem').textContent.length > 5")
        assert dialog.is_visible()
        page.locator("#key").fill(key)
        page.get_by_role("button", name="Use this key").click()
        wait_for_state(page, "live")
        assert dialog.is_hidden()
        assert key not in page.evaluate("() => document.cookie + JSON.stringify(localStorage)")


def test_a_market_that_nobody_keeps_is_said_loudly(browser, stage):
    with opened(browser, stage) as page:
        stage.stop_keeping()
        page.locator("#alarms p").first.wait_for(timeout=30_000)
        wait_for_state(page, "stale")
