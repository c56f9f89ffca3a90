// The chart: candles with their volume, gaps as gaps, and a second pane for the volatility index.

import {
  CandlestickSeries, CrosshairMode, HistogramSeries, createChart, createSeriesMarkers,
} from "./vendor/lightweight-charts/lightweight-charts.standalone.production.mjs";
import { decimals, isoTime, shown } from "./format.js";
import { colour, whenThemeChanges } from "./theme.js";

/** @typedef {import("./candles.js").Candle} Candle @typedef {import("./candles.js").Candles} Candles */

const CORRECTED = "#e0a000";

/** How much of a body is filled, by state; hexadecimal, behind the colour. */
const FILLED = { forming: "00", closed: "73", confirmed: "ff", corrected: "ff", stored: "ff" };

/** When fewer slots than this are left of the view, older candles are asked for. */
const NEAR_THE_END = 40;

export class Chart {
  /**
   * @param {HTMLElement} element
   * @param {() => void} onNeedsOlder @param {(time: number | null) => void} onPointed null: at none
   */
  constructor(element, onNeedsOlder, onPointed) {
    // Its own logo brings an inline style, which the page forbids: the link to TradingView stands under the chart.
    this.chart = createChart(element, { autoSize: true, layout: { attributionLogo: false } });
    /** @type {Candles | null} */
    this.candles = null;
    /** @type {Candles | null} */
    this.index = null;
    this.waiting = 0;
    this.#stay();
    this.bands = this.chart.addSeries(HistogramSeries, {
      priceScaleId: "gaps", lastValueVisible: false, priceLineVisible: false,
    });
    this.volume = this.chart.addSeries(HistogramSeries, {
      priceScaleId: "volume", priceFormat: { type: "volume" }, lastValueVisible: false, priceLineVisible: false,
    });
    this.series = this.chart.addSeries(CandlestickSeries, {});
    this.markers = createSeriesMarkers(this.series, []);
    /** @type {any} */
    this.indexSeries = null;
    this.chart.priceScale("gaps").applyOptions({ scaleMargins: { top: 0, bottom: 0 }, visible: false });
    this.chart.priceScale("volume").applyOptions({ scaleMargins: { top: 0.82, bottom: 0 }, visible: false });
    this.chart.priceScale("right").applyOptions({ scaleMargins: { top: 0.06, bottom: 0.22 } });
    this.chart.timeScale().subscribeVisibleLogicalRangeChange((range) => {
      if (range && this.candles?.first && range.from < NEAR_THE_END) onNeedsOlder();
    });
    this.chart.subscribeCrosshairMove((event) => onPointed(typeof event.time === "number" ? event.time : null));
    whenThemeChanges(() => this.#paint());
    this.#paint();
  }

  /** Show a market. @param {Candles} candles @param {Candles | null} index of the volatility, null: none */
  show(candles, index) {
    this.candles = candles;
    this.index = index;
    if (!index && this.indexSeries) {
      this.chart.removeSeries(this.indexSeries);
      this.indexSeries = null;
    } else if (index && !this.indexSeries) {
      this.indexSeries = this.chart.addSeries(CandlestickSeries, { priceLineVisible: false }, 1);
      this.chart.panes()[0].setStretchFactor(3);
      this.chart.panes()[1]?.setStretchFactor(1);
      this.#paintIndex();
    }
    this.draw();
    this.newest();
  }

  /** Draw all of it anew, with the next frame. */
  redraw() {
    this.waiting ||= requestAnimationFrame(() => this.draw());
  }

  /** Draw one candle that changed. @param {Candle} candle */
  change(candle) {
    const last = this.candles?.last;
    if (candle.state === "corrected" || !last || candle.time !== last.time || this.waiting) {
      this.redraw();
      return;
    }
    this.#colours();
    this.series.update(this.#body(candle));
    this.volume.update(this.#amount(candle));
  }

  draw() {
    cancelAnimationFrame(this.waiting);
    this.waiting = 0;
    if (!this.candles) return;
    this.#colours();
    const slots = this.candles.first ? this.candles.slots() : [];
    const closes = this.candles.all.map((candle) => candle.close);
    const precision = decimals(closes);
    this.series.applyOptions({ priceFormat: { type: "price", precision, minMove: 10 ** -precision } });
    this.series.setData(slots.map((slot) => (slot.candle ? this.#body(slot.candle) : { time: slot.time })));
    this.volume.setData(slots.map((slot) => (slot.candle ? this.#amount(slot.candle) : { time: slot.time })));
    this.bands.setData(slots.map((slot) => (slot.candle ? { time: slot.time }
      : { time: slot.time, value: 1, color: this.colours.gap })));
    this.markers.setMarkers(slots.filter((slot) => slot.candle?.state === "corrected").map((slot) => ({
      time: slot.time, position: "aboveBar", shape: "circle", color: CORRECTED, size: 0.7,
    })));
    this.#drawIndex();
  }

  #drawIndex() {
    if (!this.indexSeries || !this.index || !this.candles?.first) return;
    const from = this.candles.first.time;
    this.indexSeries.setData(this.index.slots().filter((slot) => slot.time >= from).map((slot) => (slot.candle
      ? { time: slot.time, open: slot.candle.open, high: slot.candle.high, low: slot.candle.low, close: slot.candle.close }
      : { time: slot.time })));
  }

  /** To the newest candle. */
  newest() {
    this.#stay();
    const bars = Math.max(30, Math.min(160, Math.round(this.chart.timeScale().width() / 8)));
    const slots = this.candles?.first ? this.candles.slots().length : 0;
    if (slots) this.chart.timeScale().setVisibleLogicalRange({ from: slots - Math.min(bars, Math.max(slots, 40)), to: slots + 4 });
  }

  /** So that a time is at the right. @param {number} time seconds */
  showUntil(time) {
    this.#stay();
    const slots = this.candles?.first ? this.candles.slots() : [];
    const place = slots.findIndex((slot) => slot.time >= time);
    const end = place < 0 ? slots.length : place;
    if (slots.length) this.chart.timeScale().setVisibleLogicalRange({ from: end - 130, to: end + 2 });
  }

  /** @param {number} slots positive: to newer ones */
  scroll(slots) {
    this.#move(slots, 1);
  }

  /** @param {number} factor above 1: closer */
  zoom(factor) {
    this.#move(0, factor);
  }

  /** Move with the next frame: until then the chart tells where it stood before, and what is asked meanwhile adds up. */
  #move(slots, factor) {
    this.slots += slots;
    this.factor *= factor;
    this.moving ||= requestAnimationFrame(() => {
      const scale = this.chart.timeScale();
      const range = scale.getVisibleLogicalRange();
      if (this.slots) scale.scrollToPosition(scale.scrollPosition() + this.slots, false);
      else if (range && this.factor !== 1) {
        const width = Math.max(10, Math.min(5000, (range.to - range.from) / this.factor));
        scale.setVisibleLogicalRange({ from: range.to - width, to: range.to });
      }
      this.#stay();
    });
  }

  /** Forget what was asked and is not done yet. */
  #stay() {
    cancelAnimationFrame(this.moving);
    this.moving = this.slots = 0;
    this.factor = 1;
  }

  #body(candle) {
    const full = candle.close >= candle.open ? this.colours.up : this.colours.down;
    const edge = candle.state === "corrected" ? CORRECTED : full;
    return {
      time: candle.time, open: candle.open, high: candle.high, low: candle.low, close: candle.close,
      color: full + FILLED[candle.state], borderColor: edge, wickColor: edge,
    };
  }

  #amount(candle) {
    if (candle.volume === null) return { time: candle.time };
    const full = candle.close >= candle.open ? this.colours.up : this.colours.down;
    return { time: candle.time, value: candle.volume, color: `${full}59` };
  }

  #colours() {
    this.colours = { up: colour("--up"), down: colour("--down"), gap: colour("--gap") };
  }

  #paint() {
    this.chart.applyOptions({
      layout: {
        background: { color: colour("--card") }, textColor: colour("--quiet"), fontSize: 11, attributionLogo: false,
        panes: { separatorColor: colour("--line") },
      },
      grid: { vertLines: { color: colour("--field") }, horzLines: { color: colour("--field") } },
      crosshair: { mode: CrosshairMode.Normal },
      rightPriceScale: { borderColor: colour("--line") },
      timeScale: { borderColor: colour("--line"), timeVisible: true, secondsVisible: false },
      localization: { timeFormatter: shown, locale: "en-GB" },
      handleScroll: { mouseWheel: true, pressedMouseMove: true, horzTouchDrag: true, vertTouchDrag: false },
    });
    this.#paintIndex();
    this.draw();
  }

  #paintIndex() {
    const violet = colour("--dvol");
    this.indexSeries?.applyOptions({
      upColor: violet, downColor: violet, borderUpColor: violet, borderDownColor: violet, wickUpColor: violet,
      wickDownColor: violet, title: "DVOL",
    });
  }

  /** What is shown, for tests and for people with the console open. */
  summary() {
    const range = this.chart.timeScale().getVisibleRange();
    return {
      candles: this.candles?.all.length ?? 0,
      last: this.candles?.last ?? null,
      first: this.candles?.first ?? null,
      index: this.index?.all.length ?? 0,
      missing: this.candles?.first ? this.candles.slots().filter((slot) => !slot.candle).length : 0,
      visible: range ? [isoTime(range.from), isoTime(range.to)] : null,
    };
  }
}
