// One market and timeframe on the chart: read from storage and buffer, then kept up by the stream.

import { alarm } from "./alarms.js";
import { Candles, candleOf } from "./candles.js";
import { records } from "./api.js";
import { fill, make, part } from "./dom.js";
import { isIndex, isoTime, parts, SECONDS } from "./format.js";
import { showLegend } from "./legend.js";
import { PAGE, Past, readBuffer, readStored } from "./loading.js";
import { indexOf, MOST_MINUTES, readIndex } from "./volatility.js";

/** @typedef {import("./choice.js").Choice} Choice */

const topicOf = (market, timeframe) => `candles.${parts(market).exchange}.${parts(market).symbol}.${timeframe}`;

export class View {
  /**
   * @param {import("./chart.js").Chart} chart
   * @param {import("./stream.js").Stream | null} stream null: there are no buffers, only what is stored
   * @param {string[]} markets @param {Map<string, {first: number | null, end: number | null}>} ranges stored ones
   * @param {(isStale: boolean) => void} onStale
   */
  constructor(chart, stream, markets, ranges, onStale) {
    Object.assign(this, { chart, stream, markets, ranges, onStale });
    this.asking = new AbortController();
    this.candles = new Candles(60);
    /** @type {Candles | null} */
    this.index = null;
    /** @type {Past | null} */
    this.past = null;
    this.topic = "";
    this.indexTopic = "";
    /** @type {number | null} */
    this.pointed = null;
  }

  /** @param {Choice} choice @param {number | null} [until] show candles up to then; null: the newest */
  async show(choice, until = null) {
    this.asking.abort();
    this.asking = new AbortController();
    const { signal } = this.asking;
    const { market, timeframe } = choice;
    const step = SECONDS[timeframe];
    this.choice = choice;
    this.topic = this.indexTopic = "";
    alarm("stream", null);
    this.stream?.follow([]);
    part("chart").setAttribute("aria-label", `Candles of ${market}, ${timeframe}; left and right arrow keys scroll`);
    try {
      const candles = new Candles(step);
      const buffer = this.stream ? await readBuffer(market, timeframe, signal)
        : { candles: [], isStale: false, problem: "" };
      const end = this.#end(market, buffer.candles, step);
      this.past = new Past(market, timeframe, this.ranges.get(market)?.first ?? null);
      if (end !== null) await this.#readPast(candles, choice, Math.min(end, until ?? end) - PAGE * step, end, signal);
      candles.replace(buffer.candles);
      this.#shown(candles, choice, buffer, until, signal);
    } catch (error) {
      if (error.name !== "AbortError") this.#failed(error);
    }
  }

  #shown(candles, choice, buffer, until, signal) {
    const { market, timeframe } = choice;
    const index = indexOf(market, this.markets);
    this.candles = candles;
    this.index = index ? new Candles(candles.step) : null;
    this.chart.show(candles, this.index);
    if (until !== null) this.chart.showUntil(until);
    this.empty(candles.first ? null : this.#advice(market, buffer.problem));
    this.legend();
    this.onStale(buffer.isStale || Boolean(buffer.problem));
    this.topic = topicOf(market, timeframe);
    this.indexTopic = index ? topicOf(index, timeframe) : "";
    this.stream?.follow([this.topic, this.indexTopic].filter(Boolean));
    if (index && candles.first) this.#addIndex(index, candles.first.time, candles.last.time + candles.step, signal);
  }

  async #readPast(candles, { market, timeframe }, start, end, signal) {
    const found = isIndex(market) ? await readIndex(market, timeframe, start, end, signal)
      : await readStored(market, timeframe, Math.max(0, start), end, signal);
    candles.addStored(found);
    if (isIndex(market)) this.past.isAtEnd = end - start >= MOST_MINUTES * 60;
    if (!found.length && !isIndex(market)) candles.addStored(await this.past.read(Math.max(0, start), signal));
  }

  /** Where the newest page ends: behind the buffer, or behind what is stored. */
  #end(market, buffered, step) {
    const stored = this.ranges.get(market)?.end ?? null;
    const live = buffered.length ? buffered[buffered.length - 1].time + step : null;
    if (stored === null && live === null) return null;
    return Math.ceil(Math.max(stored ?? 0, live ?? 0) / step) * step;
  }

  async #addIndex(index, start, end, signal) {
    const { candles } = this;
    try {
      const found = await readIndex(index, this.choice.timeframe, start, end, signal);
      if (signal.aborted || candles !== this.candles) return;
      this.index?.addStored(found);
      this.chart.redraw();
      this.legend();
    } catch (error) {
      if (error.name !== "AbortError") part("legend").append(make("span", { class: "problem" }, `DVOL: ${error.message}`));
    }
  }

  /** Read older candles, as somebody looks to the left. */
  async older() {
    const { candles, past, asking: { signal } } = this;
    const first = candles.first;
    if (!first || !past || past.isAtEnd || past.isBusy || isIndex(this.choice.market)) return;
    try {
      const found = await past.read(first.time, signal);
      if (signal.aborted || candles !== this.candles || !found.length) return;
      candles.addStored(found);
      this.chart.redraw();
      const index = indexOf(this.choice.market, this.markets);
      const newest = candles.last.time - MOST_MINUTES * 60;
      const from = Math.max(found[0].time, SECONDS[this.choice.timeframe] > 3600 ? newest : 0);
      if (index && from < first.time) this.#addIndex(index, from, first.time, signal);
    } catch (error) {
      if (error.name === "AbortError") return;
      past.isAtEnd = !error.isRetryable;
      if (error.isRetryable) setTimeout(() => this.older(), 2_000);
    }
  }

  /** @param {any} message of the stream, about a topic of this view */
  hear(message) {
    if (message.type === "error") alarm("stream", `The stream refuses: ${message.detail}`, true);
    const target = message.topic === this.topic ? this.candles : message.topic === this.indexTopic ? this.index : null;
    if (!target) return;
    if (message.type === "snapshot") {
      this.#take(target, records(message).map(candleOf));
      if (target === this.candles) this.onStale(Boolean(message.is_stale));
    } else if (message.type === "candle") {
      const candle = candleOf(message);
      target.change(candle);
      if (target === this.candles) this.chart.change(candle);
      else this.chart.redraw();
      this.empty(this.candles.first ? null : undefined);
      this.legend();
    } else if ((message.type === "stale" || message.type === "fresh") && target === this.candles) {
      this.onStale(message.type === "stale");
    }
  }

  /** Take a whole buffer, and ask storage for what lies between it and what was known. */
  async #take(target, buffered) {
    const { signal } = this.asking;
    const last = target.last;
    const isApart = last && buffered.length && buffered[0].time > last.time + target.step;
    target.replace(buffered);
    this.chart.redraw();
    if (target.first) this.empty(null);
    this.legend();
    if (!isApart || target !== this.candles || isIndex(this.choice.market)) return;
    try {
      const { market, timeframe } = this.choice;
      target.addStored(await readStored(market, timeframe, last.time, buffered[0].time, signal));
      if (!signal.aborted) this.chart.redraw();
    } catch { /* it stays a gap on the chart until the market is chosen again */ }
  }

  /** @param {number | null} time under the pointer */
  point(time) {
    this.pointed = time;
    this.legend();
  }

  legend() {
    showLegend(this.candles, this.index, this.pointed);
  }

  /** @param {any[] | null | undefined} said in place of the chart; null: nothing; undefined: as it was */
  empty(said) {
    if (said === undefined) return;
    part("empty").hidden = said === null;
    if (said) fill(part("empty"), ...said);
  }

  #failed(error) {
    this.candles = new Candles(60);
    this.empty([make("b", {}, "The candles could not be read"), make("span", { class: "problem" }, error.message)]);
  }

  #advice(market, problem) {
    const day = new Date(Date.now() - 7 * 86_400_000).getTime() / 1000;
    const [start, end] = [day, Date.now() / 1000].map((moment) => isoTime(Math.floor(moment)).slice(0, 10));
    return [make("b", {}, `No candles of ${market} yet`),
      make("span", {}, "For the past: ", make("code", {}, `mdp backfill -m ${market} --start ${start} --end ${end}`)),
      make("span", {}, "Live: ", make("code", {}, "mdp up")), problem ? make("span", { class: "quiet" }, problem) : null];
  }
}
