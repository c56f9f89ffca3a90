// What is known of one market and day: gaps with their causes, revisions, and the way to Dagster's partition.

import { ask, records } from "./api.js";
import { DAY } from "./coverage.js";
import { fill, make, part, table } from "./dom.js";
import { count, isIndex, isoTime, parts, seconds, shownText } from "./format.js";

/** So many rows are shown; the rest is counted, and the API has all. */
const SHOWN = 200;

export class DayPanel {
  /** @param {(market: string, end: number) => void} onShowCandles @param {string | null} dagsterUrl */
  constructor(onShowCandles, dagsterUrl) {
    this.onShowCandles = onShowCandles;
    this.dagsterUrl = dagsterUrl;
    this.element = part("day");
    /** @type {AbortController | null} */
    this.asking = null;
    /** @type {HTMLElement | null} */
    this.before = null;
    part("day-close").addEventListener("click", () => this.close());
  }

  get isOpen() { return !this.element.hidden; }

  /** @param {string} market @param {string} day first one @param {string} unit `day` or `month` */
  async open(market, day, unit) {
    this.asking?.abort();
    this.asking = new AbortController();
    if (!this.isOpen) this.before = /** @type {HTMLElement} */ (document.activeElement);
    this.element.hidden = false;
    part("day-title").textContent = `${market} · ${unit === "day" ? day : `${day.slice(0, 7)} (month)`}`;
    fill(part("day-body"), make("p", { class: "quiet" }, "asking …"));
    part("day-title").focus();
    try {
      fill(part("day-body"), ...await this.#contents(market, day, unit, this.asking.signal));
    } catch (error) {
      if (error.name !== "AbortError") fill(part("day-body"), make("p", { class: "problem" }, error.message));
    }
  }

  close() {
    this.asking?.abort();
    this.element.hidden = true;
    this.before?.focus();
  }

  async #contents(market, day, unit, signal) {
    const start = seconds(`${day}T00:00:00Z`);
    const end = unit === "day" ? start + DAY : endOfMonth(day);
    const { exchange, symbol } = parts(market);
    const path = `/api/v1/market-data/${exchange}/${symbol}`;
    const query = { start: isoTime(start), end: isoTime(end) };
    const [gaps, revisions] = await Promise.all([
      ask(`${path}/gaps`, query, signal), ask(`${path}/revisions`, query, signal),
    ]);
    return [
      ...gapList(records(gaps)), ...revisionList(records(revisions)),
      make("div", { class: "links" },
        make("button", { type: "button", onclick: () => this.onShowCandles(market, end) }, "Show these candles"),
        this.#dagsterLink(market, day, unit)),
      make("p", { class: "quiet" }, "To ask the exchange again: ", make("code", {}, advice(market, start, end))),
    ];
  }

  #dagsterLink(market, day, unit) {
    if (!this.dagsterUrl || unit !== "day") return null;
    const base = market.slice(market.indexOf(":") + 1).split("-")[0];
    const [asset, key] = isIndex(market) ? ["dvol", `${base}|${day}`] : ["ohlcv", `${day}|${market}`];
    const query = new URLSearchParams({ view: "partitions", partition: key });
    const address = `${this.dagsterUrl}/assets/${asset}?${query}`;
    return make("a", { href: address, target: "_blank", rel: "noreferrer" }, "This partition in Dagster ↗");
  }
}

/** @param {string} day @returns {number} where its month ends or, while it goes on, today begins */
const endOfMonth = (day) => Math.min(
  Date.UTC(Number(day.slice(0, 4)), Number(day.slice(5, 7)), 1) / 1000, Math.floor(Date.now() / 1000 / DAY) * DAY);

const advice = (market, start, end) =>
  `mdp backfill -m ${market} --start ${isoTime(start).slice(0, 10)} --end ${isoTime(end).slice(0, 10)}`;

function gapList(gaps) {
  const minutes = gaps.reduce((sum, gap) => sum + gap.slots, 0);
  const items = gaps.slice(0, SHOWN).map((gap) => make("div", { class: "item" },
    make("b", {}, `${shownText(gap.start)} – ${shownText(gap.end)}`), ` · ${count(gap.slots)} min`,
    make("div", {}, make("span", { class: "tag" }, gap.cause.replaceAll("_", " ")),
      gap.is_permanent ? " permanent" : "", gap.sightings ? ` seen ${gap.sightings} ×` : ""),
    gap.detail ? make("div", { class: "quiet" }, gap.detail) : null));
  return [make("h3", {}, gaps.length ? `Gaps: ${gaps.length}, ${count(minutes)} minutes` : "Gaps"),
    ...(items.length ? items : [make("p", { class: "quiet" }, "No minute is missing.")]), more(gaps)];
}

function revisionList(revisions) {
  const rows = revisions.slice(0, SHOWN).map((one) => ({ cells: [
    one.open_time.slice(0, 16).replace("T", " "), changed(one), one.revised_at.slice(0, 16).replace("T", " "),
  ] }));
  const columns = [{ name: "candle (UTC)" }, { name: "changed" }, { name: "seen" }];
  return [make("h3", {}, revisions.length ? `Revisions: ${revisions.length}` : "Revisions"),
    rows.length ? table(columns, rows, "Revisions") : make("p", { class: "quiet" }, "Nothing was changed afterwards."),
    more(revisions)];
}

const more = (rows) => (rows.length > SHOWN
  ? make("p", { class: "quiet" }, `and ${count(rows.length - SHOWN)} more, which the API lists`) : null);

/** @param {Object<string, any>} revision @returns {string} each value that changed, old and new */
function changed(revision) {
  const names = Object.keys(revision).filter((key) => key.startsWith("old_")).map((key) => key.slice(4));
  const said = names.filter((name) => `new_${name}` in revision && revision[`old_${name}`] !== revision[`new_${name}`])
    .map((name) => `${name} ${revision[`old_${name}`] ?? "–"} → ${revision[`new_${name}`] ?? "–"}`);
  return said.join(", ") || "–";
}
