// Candles of one market and timeframe from storage: the newest page, and older ones as somebody scrolls to the left.

import { Refusal, ask, records } from "./api.js";
import { candleOf } from "./candles.js";
import { SECONDS, isoTime, parts, seconds } from "./format.js";

/** Slots of one page. */
export const PAGE = 500;

/** Slots that are looked through at most for older candles, in steps that grow. */
const FURTHEST = 100_000;

/** @typedef {import("./candles.js").Candle} Candle */

/**
 * Read stored candles of a window, all pages of it.
 * @param {string} market @param {string} timeframe @param {number} start seconds @param {number} end seconds
 * @param {AbortSignal} [signal]
 * @returns {Promise<Candle[]>} ascending
 */
export async function readStored(market, timeframe, start, end, signal) {
  if (end <= start) return [];
  const { exchange, symbol } = parts(market);
  const path = `/api/v1/market-data/${exchange}/${symbol}/history`;
  const found = [];
  let cursor = null;
  do {
    const query = { timeframe, start: isoTime(start), end: isoTime(end), cursor };
    const page = await ask(path, query, signal);
    found.push(...records(page).map(candleOf));
    cursor = page.next_cursor;
  } while (cursor);
  return found;
}

/**
 * Read what the buffer holds.
 * @param {string} market @param {string} timeframe @param {AbortSignal} [signal]
 * @returns {Promise<{candles: Candle[], isStale: boolean, problem: string}>} no candles and the reason where there is
 *   no buffer
 */
export async function readBuffer(market, timeframe, signal) {
  const { exchange, symbol } = parts(market);
  try {
    const buffer = await ask(`/api/v1/market-data/${exchange}/${symbol}/buffer/${timeframe}`, {}, signal);
    return { candles: records(buffer).map(candleOf), isStale: buffer.is_stale, problem: "" };
  } catch (error) {
    if (!(error instanceof Refusal) || error.status === 401) throw error;
    return { candles: [], isStale: false, problem: error.message };
  }
}

/** Older pages of a market and timeframe, one at a time. */
export class Past {
  /**
   * @param {string} market @param {string} timeframe
   * @param {number | null} earliest nothing is stored before; seconds, null: not known
   */
  constructor(market, timeframe, earliest) {
    this.market = market;
    this.timeframe = timeframe;
    this.earliest = earliest;
    this.isAtEnd = false;
    this.isBusy = false;
  }

  /**
   * Read what is before a time: a page of slots, or more where they are empty.
   * @param {number} before seconds @param {AbortSignal} signal
   * @returns {Promise<Candle[]>} empty: there is nothing, or another question is still open
   */
  async read(before, signal) {
    if (this.isAtEnd || this.isBusy) return [];
    this.isBusy = true;
    try {
      return await this.#search(before, signal);
    } finally {
      this.isBusy = false;
    }
  }

  async #search(before, signal) {
    const step = SECONDS[this.timeframe];
    let end = before;
    for (let slots = PAGE; slots <= FURTHEST; slots *= 4) {
      const start = Math.max(end - slots * step, this.earliest ?? 0, 0);
      const found = await readStored(this.market, this.timeframe, start, end, signal);
      this.isAtEnd = start <= (this.earliest ?? 0);
      if (found.length || this.isAtEnd) return found;
      end = start;
    }
    this.isAtEnd = true;
    return [];
  }
}

/**
 * What is stored of each market, from the list of markets.
 * @param {any} document of `/api/v1/markets`
 * @returns {Map<string, {first: number | null, end: number | null}>} seconds
 */
export function storedRanges(document) {
  const found = new Map();
  for (const { market, stored } of document.markets) {
    found.set(market, { first: stored ? seconds(stored.start) : null, end: stored ? seconds(stored.end) : null });
  }
  return found;
}
