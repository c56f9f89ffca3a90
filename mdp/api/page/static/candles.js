// The candles of one market and timeframe as the page knows them: from storage, and from the stream, which is surer.

import { seconds } from "./format.js";

/**
 * @typedef {Object} Candle
 * @property {number} time open time, seconds since the epoch
 * @property {number} open
 * @property {number} high
 * @property {number} low
 * @property {number} close
 * @property {number | null} volume
 * @property {number | null} trades
 * @property {"stored" | "forming" | "closed" | "confirmed" | "corrected"} state
 */

/** Slots of one gap that are drawn at most; a longer one is drawn so long, and the legend says how long it is. */
const DRAWN_GAP = 240;

/** @param {Object<string, any>} record @returns {Candle} */
export function candleOf(record) {
  return {
    time: seconds(record.open_time), open: record.open, high: record.high, low: record.low, close: record.close,
    volume: record.volume ?? null, trades: record.trades ?? null, state: record.state ?? "stored",
  };
}

/** Candles by time. */
export class Candles {
  /** @param {number} step seconds of the timeframe */
  constructor(step) {
    this.step = step;
    /** @type {Map<number, Candle>} */
    this.held = new Map();
    /** @type {Candle[] | null} */
    this.sorted = null;
  }

  /** @returns {Candle[]} ascending */
  get all() {
    this.sorted ??= [...this.held.values()].sort((one, other) => one.time - other.time);
    return this.sorted;
  }

  /** @returns {Candle | undefined} */
  get first() { return this.all[0]; }

  /** @returns {Candle | undefined} */
  get last() { return this.all[this.all.length - 1]; }

  /** @param {number} time */
  at(time) { return this.held.get(time); }

  /** Take what storage says; what the stream said is surer and stays. @param {Candle[]} candles */
  addStored(candles) {
    for (const candle of candles) {
      const known = this.held.get(candle.time);
      if (!known || known.state === "stored") this.held.set(candle.time, candle);
    }
    this.sorted = null;
  }

  /** Take one candle of the stream. @param {Candle} candle */
  change(candle) {
    const last = this.last;
    this.held.set(candle.time, candle);
    if (!this.sorted || !last || candle.time < last.time) this.sorted = null;
    else if (candle.time === last.time) this.sorted[this.sorted.length - 1] = candle;
    else this.sorted.push(candle);
  }

  /** Take a whole buffer: between its ends, nothing else is a candle. @param {Candle[]} candles ascending */
  replace(candles) {
    if (!candles.length) return;
    for (const time of this.held.keys()) {
      if (time >= candles[0].time) this.held.delete(time);
    }
    for (const candle of candles) this.held.set(candle.time, candle);
    this.sorted = null;
  }

  /**
   * @param {number} from first slot, seconds
   * @param {number} to behind the last slot
   * @returns {Array<{candle?: Candle, time: number, missing?: number}>} every slot: those without a candle say of how
   *   many slots their gap is
   */
  slots(from = this.first?.time ?? 0, to = (this.last?.time ?? 0) + this.step) {
    const found = [];
    let expected = from;
    for (const candle of this.all) {
      if (candle.time >= to) break;
      if (candle.time < from) continue;
      this.#skip(found, expected, candle.time);
      found.push({ time: candle.time, candle });
      expected = candle.time + this.step;
    }
    this.#skip(found, expected, to);
    return found;
  }

  #skip(found, from, to) {
    const missing = Math.round((to - from) / this.step);
    for (let number = 0; number < Math.min(missing, DRAWN_GAP); number++) {
      found.push({ time: from + number * this.step, missing });
    }
  }
}
