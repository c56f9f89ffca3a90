// The line over the chart: the candle under the pointer, or the newest; and the price on the right.

import { fill, make, part } from "./dom.js";
import { amount, decimals, duration, price, shown } from "./format.js";

const STATES = {
  forming: "forming", closed: "closed, not confirmed yet", confirmed: "confirmed", corrected: "corrected", stored: "stored",
};

/**
 * @param {import("./candles.js").Candles} candles
 * @param {import("./candles.js").Candles | null} index
 * @param {number | null} pointed time under the pointer
 */
export function showLegend(candles, index, pointed) {
  const time = pointed ?? candles.last?.time ?? null;
  const candle = time === null ? undefined : candles.at(time);
  const places = decimals(candles.all.slice(-100).map((one) => one.close));
  fill(part("legend"), ...(candle ? ofCandle(candle, places) : ofGap(candles, time)), ofIndex(index, time));
  showPrice(candles, places);
}

function ofCandle(candle, places) {
  const move = candle.close >= candle.open ? "up" : "down";
  const value = (name, text, style = "") => make("span", {}, name ? make("i", {}, name) : null, make("b", { class: style }, text));
  return [
    value("", shown(candle.time)),
    value("O", price(candle.open, places), move), value("H", price(candle.high, places), move),
    value("L", price(candle.low, places), move), value("C", price(candle.close, places), move),
    value("V", amount(candle.volume)),
    make("span", { class: `tag ${candle.state}` }, STATES[candle.state] ?? candle.state),
  ];
}

function ofGap(candles, time) {
  if (time === null || !candles.first) return [];
  const after = candles.all.find((one) => one.time > time);
  const before = candles.all.findLast((one) => one.time < time);
  const length = before && after ? after.time - before.time - candles.step : 0;
  return [make("span", {}, make("b", {}, shown(time))),
    make("span", { class: "tag corrected" }, length ? `no candle: a gap of ${duration(length)}` : "no candle")];
}

function ofIndex(index, time) {
  if (!index?.first || time === null) return null;
  const value = index.at(time)?.close ?? null;
  return make("span", {}, make("i", {}, "DVOL"), make("b", {}, value === null ? "–" : value.toFixed(2)));
}

function showPrice(candles, places) {
  const last = candles.last;
  const first = last ? candles.all.find((one) => one.time >= last.time - 86_400) : undefined;
  part("last").textContent = last ? price(last.close, places) : "–";
  const change = part("change");
  if (!last || !first || first === last || !first.open) {
    change.textContent = "";
    return;
  }
  const share = (last.close - first.open) / first.open;
  const length = last.time + candles.step - first.time;
  change.className = share >= 0 ? "up" : "down";
  change.textContent = `${share >= 0 ? "+" : "−"}${(Math.abs(share) * 100).toFixed(2)} % in ${duration(length)}`;
  document.title = `${price(last.close, places)} · mdp`;
}
