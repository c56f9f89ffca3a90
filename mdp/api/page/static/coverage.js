// How complete storage is, by market and day: what is asked of the API, and what a cell says and looks like.
// Colours and bands are those of the coverage report, so that a page and a report show the same.

import { ask, records } from "./api.js";
import { count, isoTime } from "./format.js";

export const DAY = 86_400;

/** Of what is missing, from the top of a cell down. */
export const MISSING = [
  { name: "not collected", colour: "#ffffff" },
  { name: "unexplained", colour: "#d55e00" },
  { name: "explained or permanent", colour: "#f0c000" },
  { name: "before listing", colour: "#a6a6a6" },
];

/** Of what is there: the least share that has the colour. */
export const SHADES = [
  { least: 1, name: "complete", colour: "#08519c" },
  { least: 0.99, name: "99 % or more", colour: "#3182bd" },
  { least: 0.9, name: "90 % or more", colour: "#6baed6" },
  { least: 0, name: "less", colour: "#bdd7e7" },
];

/** Pixels that anything missing takes at least: one missing minute is seen in a day of minutes. */
export const LEAST_BAND = 3;

const CAUSES = { exchange_outage: "exchange outage", no_trades: "no trades", before_listing: "before listing",
  unknown: "unknown", unfetched: "unfetched" };

/** @typedef {{name: string, start: number, end: number, unit: "day" | "week" | "month"}} Period seconds, half-open */

/**
 * The periods to choose from: the newest days, each year, and all by the month.
 * @param {Map<string, {first: number | null, end: number | null}>} ranges stored ones
 * @returns {Period[]} the newest first; empty: nothing is stored
 */
export function periodsOf(ranges) {
  const known = [...ranges.values()].filter((range) => range.first !== null && range.end !== null);
  if (!known.length) return [];
  const first = Math.floor(Math.min(...known.map((range) => range.first)) / DAY) * DAY;
  const today = Math.floor(Date.now() / 1000 / DAY) * DAY;
  const end = Math.min(today, Math.ceil(Math.max(...known.map((range) => range.end)) / DAY) * DAY);
  if (end <= first) return [];
  const found = [{ name: "last 90 days", start: Math.max(first, end - 90 * DAY), end, unit: "day" }];
  const [oldest, newest] = [first, end - 1].map((moment) => new Date(moment * 1000).getUTCFullYear());
  for (let year = newest; year >= oldest; year--) {
    const [from, to] = [year, year + 1].map((one) => Date.UTC(one, 0, 1) / 1000);
    found.push({ name: String(year), start: Math.max(from, first), end: Math.min(to, end), unit: "day" });
  }
  if (newest > oldest) found.push({ name: "all, by month", start: first, end, unit: "month" });
  return found;
}

/**
 * @typedef {Object} CoverageMap
 * @property {string[]} markets of the rows
 * @property {string[]} days first day of each column
 * @property {string} unit
 * @property {Map<string, any>} cells by market and day, joined by a blank
 */

/** @param {Period} period @param {string[]} markets @param {AbortSignal} [signal] @returns {Promise<CoverageMap>} */
export async function readCoverage(period, markets, signal) {
  const query = { start: isoTime(period.start), end: isoTime(period.end), unit: period.unit };
  const document = await ask("/api/v1/coverage", query, signal);
  const cells = new Map(records(document).map((cell) => [`${cell.market} ${cell.day}`, cell]));
  return { markets, unit: document.unit, days: columnsOf(period, document), cells };
}

function columnsOf(period, document) {
  const end = document.end ? Date.parse(document.end) / 1000 : period.end;
  const found = [];
  for (let moment = period.start; moment < end; moment += DAY) {
    const day = isoTime(moment).slice(0, 10);
    if (period.unit === "day" || moment === period.start || day.endsWith("-01")) found.push(day);
  }
  return found;
}

/** Less of a period than this share is next to nothing. */
export const WORTH_SHOWING = 0.02;

/** @param {CoverageMap} map @returns {number} how much of all its minutes is there */
export function shareOf(map) {
  const cells = [...map.cells.values()];
  const sum = (name) => cells.reduce((total, cell) => total + cell[name], 0);
  return sum("present") / Math.max(1, sum("expected"));
}

/** @param {any} cell @returns {number[]} minutes missing, as `MISSING` is ordered */
export const missingOf = (cell) => [
  cell.unfetched, cell.unknown - cell.permanent, cell.exchange_outage + cell.no_trades + cell.permanent,
  cell.before_listing,
];

/**
 * Divide the height of a cell; what is missing is on top.
 * @param {any | undefined} cell undefined: nothing is known
 * @param {number} height
 * @returns {Array<{colour: string, height: number}>}
 */
export function bandsOf(cell, height) {
  if (!cell || !cell.expected) return [{ colour: MISSING[0].colour, height }];
  const parts = missingOf(cell).map((minutes, number) => ({ colour: MISSING[number].colour, minutes, least: LEAST_BAND }))
    .filter((one) => one.minutes > 0);
  if (cell.present) {
    const shade = SHADES.find((one) => cell.present / cell.expected >= one.least) ?? SHADES[SHADES.length - 1];
    parts.push({ colour: shade.colour, minutes: cell.present, least: 1 });
  }
  const rest = height - parts.reduce((sum, one) => sum + one.least, 0);
  const bands = parts.map((one) => ({ colour: one.colour, height: one.least + Math.round((rest * one.minutes) / cell.expected) }));
  const largest = bands.reduce((one, other) => (other.height > one.height ? other : one));
  largest.height += height - bands.reduce((sum, one) => sum + one.height, 0);
  return bands;
}

/** @param {string} market @param {string} day @param {any | undefined} cell @param {string} unit @returns {string} */
export function saidOf(market, day, cell, unit) {
  const when = unit === "day" ? day : `${unit} of ${day}`;
  if (!cell || !cell.expected) return `${market}, ${when}: nothing is known, nobody asked for it`;
  const said = [`${count(cell.present)} of ${count(cell.expected)} minutes`];
  if (cell.idle) said.push(`${count(cell.idle)} of them idle`);
  for (const [cause, name] of Object.entries(CAUSES)) {
    if (cell[cause]) said.push(`${count(cell[cause])} ${name}`);
  }
  for (const name of ["permanent", "rejected", "revised"]) {
    if (cell[name]) said.push(`${count(cell[name])} ${name}`);
  }
  return `${market}, ${when}: ${said.join(", ")}`;
}
