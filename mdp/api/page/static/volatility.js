// The volatility index: stored by the minute, drawn in the slots of the chart.

import { ask, records } from "./api.js";
import { SECONDS, isoTime, seconds } from "./format.js";

/** Minutes that are read at most for one view: two months of them. */
export const MOST_MINUTES = 90_000;

/** @typedef {import("./candles.js").Candle} Candle */

/** @param {string} market @returns {string | null} the index of its base coin, if there is one */
export function indexOf(market, markets) {
  const base = market.slice(market.indexOf(":") + 1).split("-")[0];
  const name = `deribit:${base}-DVOL`;
  return market !== name && markets.includes(name) ? name : null;
}

/**
 * Read stored minutes and join them into slots: the first, highest, lowest and last value of each.
 * @param {string} index market @param {string} timeframe @param {number} start seconds @param {number} end seconds
 * @param {AbortSignal} [signal]
 * @returns {Promise<Candle[]>} ascending; of a longer window its newest part
 */
export async function readIndex(index, timeframe, start, end, signal) {
  const currency = index.slice(index.indexOf(":") + 1).split("-")[0];
  const from = Math.max(start, end - MOST_MINUTES * 60);
  if (end <= from) return [];
  const minutes = [];
  let cursor = null;
  do {
    const query = { start: isoTime(from), end: isoTime(end), cursor };
    const page = await ask(`/api/v1/dvol/${currency}`, query, signal);
    for (const record of records(page)) {
      if (record.dvol !== null) minutes.push([seconds(record.open_time), record.dvol]);
    }
    cursor = page.next_cursor;
  } while (cursor);
  return joined(minutes, SECONDS[timeframe]);
}

/** @param {number[][]} minutes time and value, ascending @param {number} step @returns {Candle[]} */
function joined(minutes, step) {
  const found = [];
  for (const [moment, value] of minutes) {
    const time = moment - (moment % step);
    const last = found[found.length - 1];
    if (last?.time === time) {
      last.high = Math.max(last.high, value);
      last.low = Math.min(last.low, value);
      last.close = value;
    } else {
      found.push({ time, open: value, high: value, low: value, close: value, volume: null, trades: null, state: "stored" });
    }
  }
  return found;
}
