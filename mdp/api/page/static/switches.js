// The switch of markets and that of timeframes.

import { fill, make, part } from "./dom.js";
import { parts, TIMEFRAMES } from "./format.js";

/** @typedef {import("./choice.js").Choice} Choice */

/** @param {string[]} markets @param {(market: string) => void} onMarket @param {(timeframe: string) => void} onTimeframe */
export function makeSwitches(markets, onMarket, onTimeframe) {
  const exchanges = [...new Set(markets.map((market) => parts(market).exchange))];
  const select = part("market");
  fill(select, ...exchanges.map((exchange) => make("optgroup", { label: exchange },
    ...markets.filter((market) => parts(market).exchange === exchange).map((market) =>
      make("option", { value: market }, `${parts(market).symbol.replace("-", "/")} · ${exchange}`)))));
  select.addEventListener("change", () => onMarket(select.value));
  const group = part("timeframes");
  fill(group, ...TIMEFRAMES.map((name) => make("button",
    { type: "button", role: "radio", "data-timeframe": name, onclick: () => onTimeframe(name) }, name)));
  group.addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    const place = TIMEFRAMES.indexOf(/** @type {HTMLElement} */ (event.target).dataset.timeframe ?? "");
    const next = TIMEFRAMES[(place + by + TIMEFRAMES.length) % TIMEFRAMES.length];
    onTimeframe(next);
    group.querySelector(`[data-timeframe="${next}"]`)?.focus();
  });
}

/** @param {Choice} choice */
export function showChoice(choice) {
  part("market").value = choice.market;
  for (const button of part("timeframes").children) {
    const isChosen = button.dataset.timeframe === choice.timeframe;
    button.setAttribute("aria-checked", String(isChosen));
    button.tabIndex = isChosen ? 0 : -1;
  }
}
