// The page put together: what is chosen, what is asked for when, and which part hears of it.

import { ask } from "./api.js";
import { alarm } from "./alarms.js";
import { showBudgets } from "./budgets.js";
import { Chart } from "./chart.js";
import { keepChoice, nextMarket, readChoice } from "./choice.js";
import { MISSING, periodsOf, readCoverage, shareOf, SHADES, WORTH_SHOWING } from "./coverage.js";
import { DayPanel } from "./day-panel.js";
import { fill, make, part } from "./dom.js";
import { showFeeds } from "./feeds.js";
import { HeatMap } from "./heat-map.js";
import { watchForKeys } from "./key-dialog.js";
import { watchKeys } from "./keyboard.js";
import { storedRanges } from "./loading.js";
import { Stream } from "./stream.js";
import { makeSwitches, showChoice } from "./switches.js";
import { View } from "./view.js";

const STATUS_EVERY_MS = 3_000;
const COVERAGE_EVERY_MS = 300_000;

const STALE = "Nobody keeps the buffer of this market now: what is shown may be old. Do not trade on it. "
  + "It is kept while live_sensor is on in Dagster, or by mdp feed.";
const SAID = { connecting: "connecting", live: "live", fallback: "live, by events", reconnecting: "reconnecting" };

/** @type {{service: any, choice: any, view: View, periods: any[], connection: string, isStale: boolean}} */
const page = /** @type {any} */ ({ connection: "connecting", isStale: false, periods: [] });

function showConnection() {
  const pill = part("connection");
  const isOpen = page.connection === "live" || page.connection === "fallback";
  const isStored = page.service?.mode !== "live";
  const state = isOpen && isStored ? "stored" : isOpen && page.isStale ? "stale" : page.connection;
  pill.dataset.state = state;
  pill.textContent = state === "stored" ? "stored data" : state === "stale" ? "bus or feed away" : SAID[state];
  alarm("stale", state === "stale" ? STALE : null);
}

/** @param {any} choice @param {number | null} [until] */
function choose(choice, until = null) {
  page.choice = choice;
  keepChoice(choice);
  showChoice(choice);
  return page.view.show(choice, until);
}

async function begin() {
  const [service, markets] = await Promise.all([ask("/api/v1/service"), ask("/api/v1/markets")]);
  page.service = service;
  part("environment").textContent = `${service.environment} · ${service.mode} · ${service.version}`;
  const ranges = storedRanges(markets);
  const stream = new Stream((message) => page.view.hear(message), (state) => {
    if (state === page.connection) return;
    if (state === "live" && page.connection === "reconnecting") refresh();
    page.connection = state;
    showConnection();
  });
  const chart = new Chart(part("chart"), () => page.view?.older(), (time) => page.view?.point(time));
  page.view = new View(chart, service.mode === "live" ? stream : null, service.markets, ranges, (isStale) => {
    page.isStale = isStale;
    showConnection();
  });
  makeSwitches(service.markets, (market) => choose({ ...page.choice, market }),
    (timeframe) => choose({ ...page.choice, timeframe }));
  const panel = new DayPanel((market, end) => {
    panel.close();
    choose({ market, timeframe: "1m" }, end);
    part("chart").focus();
    part("chart-section").scrollIntoView();
  }, service.dagster_url);
  const map = new HeatMap((market, day, unit) => panel.open(market, day, unit));
  watchKeys({
    market: (by) => choose(nextMarket(page.choice, service.markets, by)),
    timeframe: (timeframe) => choose({ ...page.choice, timeframe }),
    scroll: (slots) => chart.scroll(slots), zoom: (factor) => chart.zoom(factor), newest: () => chart.newest(),
    close: () => panel.close(),
  });
  addEventListener("hashchange", () => choose(readChoice(service.markets)));
  addEventListener("online", () => stream.hurry());
  Object.assign(window, { mdpPage: { chart, stream, get choice() { return page.choice; } } });
  prepareCoverage(map, service.markets, ranges);
  repeat(showStatus, STATUS_EVERY_MS);
  await choose(readChoice(service.markets));
}

/** Show what may have changed while nobody answered. */
function refresh() {
  showStatus();
}

async function showStatus() {
  let hasFailed = false;
  const show = async (path, name, shown) => {
    try {
      shown(await ask(path));
      part(`${name}-section`).removeAttribute("data-problem");
    } catch (error) {
      part(`${name}-note`).textContent = "";
      const hint = error.status === 503 ? make("span", {}, " ", make("code", {}, "mdp up"), " starts the bus and all feeds.") : null;
      fill(part(name), make("p", { class: "empty problem" }, error.message, hint));
      hasFailed ||= error.status === 0;
      if (name === "feeds") alarm("feeds", null);
    }
  };
  await Promise.all([
    show("/api/v1/live", "feeds", (live) => showFeeds(live, page.service.mode)),
    show("/api/v1/budgets", "budgets", showBudgets),
  ]);
  if (page.service.mode === "live") return;
  page.connection = hasFailed ? "reconnecting" : "live"; // no stream tells it here
  showConnection();
}

/** @param {HeatMap} map @param {string[]} markets @param {Map<string, any>} ranges */
function prepareCoverage(map, markets, ranges) {
  fill(part("map-legend"), ...[...SHADES.map((one) => ({ ...one, name: `present, ${one.name}` })),
    ...MISSING.map((one) => ({ ...one, name: `missing, ${one.name}` }))].map((one) => {
    const mark = make("i", { class: "mark cell" });
    mark.style.background = one.colour === MISSING[0].colour ? "var(--card)" : one.colour;
    return make("li", {}, mark, one.name);
  }));
  page.periods = periodsOf(ranges);
  const select = part("period");
  fill(select, ...page.periods.map((period, number) => make("option", { value: number }, period.name)));
  select.hidden = !page.periods.length;
  document.querySelector(".coverage").hidden = !page.periods.length;
  let isChosen = false;
  const show = async () => {
    let period = page.periods[Number(select.value)];
    if (!period) {
      fill(part("coverage-note"), "Nothing is stored yet: ", make("code", {}, "mdp backfill --start DAY --end DAY"));
      return;
    }
    try {
      part("coverage-note").textContent = "";
      let found = await readCoverage(period, markets);
      // what was stored long ago is shown rather than months in which there is next to nothing
      if (!isChosen && page.periods.length > 1 && shareOf(found) < WORTH_SHOWING) {
        select.value = String(page.periods.length - 1);
        period = page.periods[page.periods.length - 1];
        found = await readCoverage(period, markets);
      }
      isChosen = true;
      map.show(found);
    } catch (error) {
      fill(part("coverage-note"), make("span", { class: "problem" }, error.message));
    }
  };
  select.addEventListener("change", () => {
    isChosen = true;
    show();
  });
  repeat(show, COVERAGE_EVERY_MS);
}

/** Do something now and again, as long as somebody looks. @param {() => Promise<void>} work @param {number} every_ms */
async function repeat(work, every_ms) {
  if (!document.hidden) await work();
  setTimeout(() => repeat(work, every_ms), every_ms);
}

/** Begin, and again until the service answers. */
async function start() {
  try {
    await begin();
    alarm("service", null);
  } catch (error) {
    if (error.status === 401) return;
    if (page.view) throw error;
    alarm("service", `This page cannot begin: ${error.message}`);
    setTimeout(start, 2_000);
  }
}

watchForKeys(() => location.reload());
start();
