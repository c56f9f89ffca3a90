// Which market and timeframe are shown; kept in the address after `#`, so that a link or a reload shows the same.

import { TIMEFRAMES } from "./format.js";

/** @typedef {{market: string, timeframe: string}} Choice */

/**
 * @param {string[]} markets those there are
 * @param {string} [hash] such as `#binance:BTC-USDT/1m`
 * @returns {Choice}
 */
export function readChoice(markets, hash = location.hash) {
  const [market, timeframe] = decodeURIComponent(hash.replace(/^#/, "")).split("/");
  let kept = {};
  try {
    kept = JSON.parse(localStorage.getItem("mdp-choice") ?? "{}");
  } catch { /* the first market then */ }
  return {
    market: [market, kept.market].find((name) => markets.includes(name)) ?? markets[0],
    timeframe: [timeframe, kept.timeframe].find((name) => TIMEFRAMES.includes(name)) ?? "1m",
  };
}

/** @param {Choice} choice */
export function keepChoice(choice) {
  history.replaceState(null, "", `#${choice.market}/${choice.timeframe}`);
  try {
    localStorage.setItem("mdp-choice", JSON.stringify(choice));
  } catch { /* the address has it */ }
}

/** @param {Choice} choice @param {string[]} markets @param {number} by @returns {Choice} some markets further, around */
export function nextMarket(choice, markets, by) {
  const place = (markets.indexOf(choice.market) + by + markets.length) % markets.length;
  return { ...choice, market: markets[place] };
}
