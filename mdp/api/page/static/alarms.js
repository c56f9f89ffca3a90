// What somebody who trades must not miss: lines over everything else, each with a name so that it can be taken back.

import { fill, make, part } from "./dom.js";

/** @type {Map<string, {text: string, isMild: boolean}>} */
const shown = new Map();

/** @param {string} name @param {string | null} text null: it is over @param {boolean} [isMild] */
export function alarm(name, text, isMild = false) {
  const before = shown.get(name);
  if (text === (before?.text ?? null)) return;
  if (text === null) shown.delete(name);
  else shown.set(name, { text, isMild });
  fill(part("alarms"), ...[...shown.values()].map((one) => make("p", { class: one.isMild ? "mild" : null }, one.text)));
}
