// How times, numbers and markets are written: UTC always, digits that stand still.

/** @type {Object<string, number>} */
export const SECONDS = { "1m": 60, "5m": 300, "15m": 900, "1h": 3600, "4h": 14400, "1d": 86400 };
export const TIMEFRAMES = Object.keys(SECONDS);

/** @param {number} seconds since the epoch @returns {string} `2024-12-30T10:15:00Z`, as the API spells it */
export const isoTime = (seconds) => new Date(seconds * 1000).toISOString().replace(".000Z", "Z");

/** @param {string} text of the API @returns {number} seconds since the epoch */
export function seconds(text) {
  const moment = Date.parse(text);
  if (Number.isNaN(moment)) throw new Error(`expected a time, got ${text}`);
  return Math.round(moment / 1000);
}

/** @param {number} moment seconds since the epoch @returns {string} `2024-12-30 10:15 UTC` */
export const shown = (moment) => `${isoTime(moment).slice(0, 16).replace("T", " ")} UTC`;

/** @param {string | null | undefined} text a time of the API @returns {string} */
export const shownText = (text) => (text ? shown(seconds(text)) : "–");

/** @param {number[]} values @returns {number} decimals that tell them apart, 2 to 8 */
export function decimals(values) {
  let most = 2;
  for (const value of values.slice(-200)) {
    const text = Number(value).toString();
    if (text.includes("e-")) return 8;
    most = Math.max(most, (text.split(".")[1] ?? "").length);
  }
  return Math.min(8, most);
}

/** @param {number | null | undefined} value @param {number} places */
export const price = (value, places) => value === null || value === undefined ? "–"
  : value.toLocaleString("en-US", { minimumFractionDigits: places, maximumFractionDigits: places });

/** @param {number | null | undefined} value */
export const amount = (value) => value === null || value === undefined ? "–"
  : value.toLocaleString("en-US", { maximumFractionDigits: value >= 1000 ? 0 : 4 });

/** @param {number} value @returns {string} */
export const count = (value) => Math.round(value).toLocaleString("en-US");

/** 100 % means every minute, and 0 % none. @param {number} present @param {number} expected */
export function percent(present, expected) {
  if (!expected || !present) return "0 %";
  if (present >= expected) return "100 %";
  const hundredths = Math.floor((10_000 * present) / expected);
  return hundredths ? `${(hundredths / 100).toFixed(2)} %` : "< 0.01 %";
}

/** @param {number} value seconds @returns {string} */
export function duration(value) {
  if (value < 120) return `${value < 10 ? value.toFixed(1) : Math.round(value)} s`;
  if (value < 7200) return `${Math.round(value / 60)} min`;
  return value < 172_800 ? `${Math.round(value / 3600)} h` : `${Math.round(value / 86_400)} d`;
}

/** @param {string} market `binance:BTC-USDT` @returns {{exchange: string, symbol: string}} */
export function parts(market) {
  const colon = market.indexOf(":");
  return { exchange: market.slice(0, colon), symbol: market.slice(colon + 1) };
}

/** @param {string} market @returns {boolean} whether it is a volatility index, which nobody trades */
export const isIndex = (market) => market.endsWith("-DVOL");
